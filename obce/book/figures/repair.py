"""Figures of the chapter on repair: what one unit says of another, and what a refit leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from obce.plots.style import DARK, LIGHT


def one_unit_by_another(
    axes: Axes, stays: np.ndarray, gone: np.ndarray, names: Sequence[str]
) -> None:
    """Outputs of a unit that goes over those of one that stays, a point for each token.

    Dashed: the best constant. Solid: the line of least squares; dotted, from the line to each
    token, what this unit alone cannot take over.
    """
    slope, start = np.polyfit(stays, gone, 1)
    ends = np.array([np.min(stays) - 0.5, np.max(stays) + 0.5])
    axes.plot(ends, np.full(2, np.mean(gone)), "--", color="#b45f06", label="best constant")
    axes.plot(ends, start + slope * ends, "-", color=DARK, linewidth=2, label="least squares")
    for x, z, name in zip(stays, gone, names, strict=True):
        guess = start + slope * x
        axes.plot([x, x], [guess, z], ":", color="black", linewidth=1.4)
        axes.annotate(
            name, (x, z), (0, 7 if z >= guess else -7), textcoords="offset points", ha="center",
            va="bottom" if z >= guess else "top",
        )  # fmt: skip
    axes.plot(stays, gone, "o", color="black", markersize=6, zorder=3)
    axes.set(xlabel="output of unit 0, which stays", ylabel="output of unit 1, which goes")
    axes.margins(y=0.2)
    axes.legend(loc="lower right")


def outputs_and_middles(axes: Axes, values: np.ndarray, special: np.ndarray) -> None:
    """All outputs of one unit on a line, special tokens in a row of their own, with the mean and
    the median of all.

    Args:
        values: (tokens,).
        special: (tokens,) of bools.
    """
    special = np.asarray(special, dtype=bool)
    spread = np.random.default_rng(0).uniform(-0.3, 0.3, len(values))  # so that dots lie apart
    rows = {"other tokens": (~special, "o", LIGHT), "[CLS], [SEP]": (special, "^", "white")}
    for height, (chosen, marker, colour) in enumerate(rows.values()):
        axes.plot(
            values[chosen], height + spread[chosen], marker, color=colour, markeredgecolor=DARK,
            markeredgewidth=0.6, markersize=5,
        )  # fmt: skip
    for name, middle, line, side in (
        ("median", np.median(values), "-", "right"),
        ("mean", np.mean(values), "--", "left"),
    ):
        axes.axvline(middle, color="black", linestyle=line, linewidth=1.6)
        axes.annotate(
            f"{name} {middle:.2f}", (middle, 1.45), (-4 if side == "right" else 4, 0),
            textcoords="offset points", ha=side, va="bottom",
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set(xlabel="output of the unit", ylim=(-0.5, 1.75))
    low, high = axes.get_xlim()
    axes.set_xlim(low - 0.15 * (high - low), high)  # room for the word on the left


def errors_by_ridge(
    axes: Axes, ridges: Sequence[float], errors: Mapping[str, Sequence[float]]
) -> None:
    """What a refit leaves of an error, over the ridge: a line for each set of texts.

    Args:
        ridges: positive, rising.
        errors: name -> one number for each ridge, in percent of the error without a refit. The
            lowest of each line is marked by a large ring.
    """
    for (name, values), (marker, line, colour) in zip(
        errors.items(), (("s", "--", "#b45f06"), ("o", "-", DARK)), strict=False
    ):
        axes.plot(
            ridges, values, marker=marker, linestyle=line, color=colour, markerfacecolor="white",
            markersize=5, label=name,
        )  # fmt: skip
        lowest = int(np.argmin(values))
        axes.plot(
            ridges[lowest], values[lowest], "o", markersize=13, markerfacecolor="none",
            markeredgecolor=colour, markeredgewidth=1.6, clip_on=False,
        )  # fmt: skip
    axes.axhline(100, color="black", linestyle=":", linewidth=1)
    axes.set(xscale="log", xlabel="ridge", ylabel="error left (%)")
    axes.set_ylim(bottom=0)
