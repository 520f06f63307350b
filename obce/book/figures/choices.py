"""Figures of the chapter on what the paper leaves open: one choice at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from obce.book.figures.topology import MARKERS
from obce.book.glue import NAMES
from obce.plots.style import DARK, LIGHT

Effects = Mapping[str, Mapping[str, float]]


def _log_axis(axis: Axis) -> None:
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def one_at_a_time(
    axes: Axes, groups: Mapping[str, Effects], tasks: Sequence[str], band: tuple[float, float]
) -> None:
    """What each choice does to the divergence, as a multiple of the default's: a row for each.

    Args:
        groups: title, or nothing -> what `obce.book.choices.effects` gives.
        tasks: in this order they get their markers.
        band: ratios that another draw of texts makes, too: drawn grey.
    """
    axes.axvspan(*band, color="0.85", linewidth=0)
    axes.axvline(1, color="black", linewidth=1, linestyle="--")
    row, places, names = 0.0, [], []
    for title, effects in groups.items():
        if title:
            names.append(title.upper())
            places.append(row)
            row += 1
        for name, ratios in effects.items():
            axes.plot([min(ratios.values()), max(ratios.values())], [row, row], "-", color=LIGHT,
                      linewidth=4, zorder=1)  # fmt: skip
            for task, ratio in ratios.items():
                axes.plot(
                    ratio, row, MARKERS[list(tasks).index(task)], color=DARK,
                    markerfacecolor="white", markersize=5, linestyle="none", zorder=2,
                )  # fmt: skip
            places.append(row)
            names.append(name)
            row += 1
        row += 0.3
    for number, task in enumerate(tasks):
        axes.plot([], [], MARKERS[number], color=DARK, markerfacecolor="white", markersize=5,
                  linestyle="none", label=NAMES.get(task, task))  # fmt: skip
    axes.set_xscale("log")
    _log_axis(axes.xaxis)
    axes.set_yticks(places, names, fontsize=8)
    headings = {title.upper() for title in groups}
    for label in axes.get_yticklabels():
        if label.get_text() in headings:
            label.set(fontsize=7, fontweight="bold")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(row - 0.8, -0.7)
    axes.set_xlabel("divergence (default: 1)")


def along_a_setting(
    axes: Axes, found: Mapping[str, Mapping[float, float]], tasks: Sequence[str]
) -> None:
    """Divergence over the values of a setting, one line for each task; infinity stands last.

    Args:
        found: what `obce.book.choices.along` gives.
    """
    for number, task in enumerate(tasks):
        values = sorted(found.get(task, {}))
        if not values:
            continue
        axes.plot(
            [_finite(value, values) for value in values], [found[task][v] for v in values],
            marker=MARKERS[number], markerfacecolor="white", markersize=5, label=NAMES[task],
        )  # fmt: skip
    every = sorted({value for each in found.values() for value in each})
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(
        [_finite(value, every) for value in every],
        ["∞" if np.isinf(value) else f"{value:,g}" for value in every],
        rotation=45 if len(every) > 6 else 0,
    )
    axes.xaxis.set_minor_formatter(NullFormatter())
    _log_axis(axes.yaxis)


def _finite(value: float, values: Sequence[float]) -> float:
    """Where a value is drawn: infinity as far behind the largest number as makes it last."""
    largest = max(v for v in values if np.isfinite(v))
    return float(value) if np.isfinite(value) else 2 * float(largest)


def two_by_two(axes: Axes, found: Mapping[str, tuple[float, float]]) -> None:
    """Divergence on one task without and with the repair: a line for each score.

    Args:
        found: score -> (the cut alone, cut and repaired).
    """
    for number, (score, pair) in enumerate(found.items()):
        axes.plot([0, 1], pair, marker=MARKERS[number], markersize=7, label=score)
    axes.set_xticks([0, 1], ["cut", "repaired"])
    axes.set(xlim=(-0.3, 1.3), yscale="log")
    _log_axis(axes.yaxis)


def by_level(
    axes: Axes, found: Mapping[str, Sequence[Mapping[str, float]]], levels: Sequence[str]
) -> None:
    """Divergence over the levels of severity: lines through geometric means over tasks, and the
    tasks as small marks.

    Args:
        found: score -> for each level task -> divergence.
    """
    for number, (score, ran) in enumerate(found.items()):
        shift = 0.08 * (number - (len(found) - 1) / 2)
        places = [place + shift for place in range(len(levels))]
        means = [float(np.exp(np.mean(np.log([*each.values()])))) for each in ran]
        (line,) = axes.plot(
            places, means, marker=MARKERS[number], markerfacecolor="white", markersize=7,
            label=score,
        )  # fmt: skip
        for place, each in zip(places, ran, strict=True):
            axes.plot([place] * len(each), [*each.values()], "_", color=line.get_color(),
                      markersize=6)  # fmt: skip
    axes.set_xticks(range(len(levels)), list(levels))
    axes.set(xlabel="level", xlim=(-0.4, len(levels) - 0.6), yscale="log")
    _log_axis(axes.yaxis)
