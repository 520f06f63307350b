"""Figures of the chapter on pigeonholes: buckets on a line, what is proved, what is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from obce.plots.style import DARK, LIGHT


def buckets_on_a_line(axes: Axes, points: np.ndarray, width: float, start: float = 0.0) -> None:
    """Points among half-open buckets; what a summary keeps of them, and what it says.

    A box reaches from the least to the largest point of a bucket. Filled dots are points that
    are kept, hollow ones those that are forgotten. The thick line above is the largest gap
    between buckets, the dashed line below the largest spread inside one.

    Args:
        points: ``(n,)``, n >= 2, in more than one bucket.
        width, start: a bucket's edges are start + i width and start + (i + 1) width.
    """
    points = np.unique(np.asarray(points, dtype=float))
    index = np.floor((points - start) / width)
    groups = [points[index == i] for i in np.unique(index)]
    ends = np.array([(group[0], group[-1]) for group in groups])
    for edge in start + width * np.arange(index[0], index[-1] + 2):
        axes.axvline(edge, color="#999999", linewidth=0.8, zorder=0)
    axes.broken_barh(
        [(low, high - low) for low, high in ends], (-0.18, 0.36),
        facecolor=LIGHT, edgecolor=DARK, linewidth=0.8, zorder=1,
    )  # fmt: skip
    kept = np.isin(points, ends)
    for chosen, face in ((kept, "black"), (~kept, "white")):
        axes.plot(
            points[chosen], 0 * points[chosen], "o", color="black", markerfacecolor=face,
            markersize=6, linestyle="none", zorder=3,
        )  # fmt: skip
    gaps, spreads = ends[1:, 0] - ends[:-1, 1], ends[:, 1] - ends[:, 0]
    wide, thick = gaps.argmax(), spreads.argmax()
    _measure(axes, ends[wide, 1], ends[wide + 1, 0], 0.5, f"gap {gaps[wide]:.4g}", 4, "-")
    if spreads[thick] > 0:
        low, high = ends[thick]
        _measure(axes, low, high, -0.5, f"spread {spreads[thick]:.4g}", 1.5, "--")
    axes.set(ylim=(-1.1, 1.1), yticks=[])
    axes.spines["left"].set_visible(False)


def _measure(
    axes: Axes, left: float, right: float, height: float, name: str, width: float, dash: str
) -> None:
    axes.plot([left, right], [height, height], dash, color="black", linewidth=width)
    over = height > 0
    axes.annotate(
        name, ((left + right) / 2, height), (0, 5 if over else -5), textcoords="offset points",
        ha="center", va="bottom" if over else "top", fontsize=9,
    )  # fmt: skip


def shares_by_buckets(
    axes: Axes, buckets: Sequence[int], shares: dict[str, Sequence[float]]
) -> None:
    """A line per name: the share of units that so many buckets certify.

    Args:
        buckets: powers of two, ascending.
        shares: name -> one number from 0 to 1 for each of them.
    """
    for (name, values), marker in zip(shares.items(), "osD^vP", strict=False):
        axes.plot(buckets, values, marker=marker, markersize=5, label=name)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(buckets))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{count:,}" for count in buckets]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="buckets per unit", ylabel="share certified", ylim=(0, 1.04))
    axes.legend()


def memory_by_tokens(axes: Axes, tokens: np.ndarray, units: int, buckets: Sequence[int]) -> None:
    """Gigabytes that keeping every output takes, beside tables of so many buckets per unit.

    Args:
        tokens: ``(k,)``, ascending.
    """
    axes.plot(tokens, 4e-9 * units * tokens, color="black", linestyle="-", linewidth=2)
    axes.annotate(
        "all outputs", (tokens[-1], 4e-9 * units * tokens[-1]), (-24, 0),
        textcoords="offset points", ha="right", va="center",
    )  # fmt: skip
    for count, dash in zip(buckets, ("--", "-.", ":"), strict=False):
        height = 8e-9 * units * count
        axes.axhline(height, color=DARK, linestyle=dash, linewidth=2)
        axes.annotate(
            f"{count:,} buckets", (tokens[-1], height), (-6, 3), textcoords="offset points",
            ha="right", va="bottom",
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="tokens", ylabel="GB")
