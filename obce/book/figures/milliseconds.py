"""Figures of the chapter on speed: a roofline, and what was promised beside what was measured."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from obce.plots.style import DARK, LIGHT


def roofline(
    axes: Axes, peak: float, bandwidth: float, parts: dict[str, dict[str, tuple[float, float]]]
) -> None:
    """Parts of a layer under the roof of a machine, on two logarithmic axes.

    Args:
        peak: multiply-adds per second, at most.
        bandwidth: bytes per second between memory and processor, at most.
        parts: for each group (a batch, say) ``{name: (multiply-adds per byte, per second)}``. A
            group has a marker of its own, and each part of it its number, which the legend names.
    """
    marks = zip(parts, ("o", "s", "^", "D"), strict=False)
    every = [place for group in parts.values() for place in group.values()]
    ridge = peak / bandwidth
    left = min(0.5 * min(x for x, _ in every), ridge / 4)
    right = max(2 * max(x for x, _ in every), 4 * ridge)
    x = np.geomspace(left, right, 200)
    axes.plot(x, np.minimum(peak, bandwidth * x), "-", color="black", linewidth=2)
    axes.axvline(ridge, color="#888888", linewidth=0.8, linestyle=":")
    numbers = {
        name: i + 1 for i, name in enumerate(dict.fromkeys(n for g in parts.values() for n in g))
    }
    for (group, marker), face in zip(marks, (DARK, "white", DARK, "white"), strict=False):
        places = np.array(list(parts[group].values()))
        axes.plot(
            *places.T, marker, color=DARK, markerfacecolor=face, markersize=7, label=group,
            linestyle="none",
        )  # fmt: skip
        for name, place in parts[group].items():  # neighbours' numbers on different sides
            side = (5, -11) if numbers[name] % 2 else (-11, -11)
            axes.annotate(
                str(numbers[name]), place, xytext=side, textcoords="offset points", fontsize=9
            )
    for name, number in numbers.items():
        axes.plot([], [], linestyle="none", label=f"{number}  {name}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(top=2 * max(peak, *(y for _, y in every)))
    axes.set_xlabel("multiply-adds per byte moved")
    axes.set_ylabel("multiply-adds per second")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9, handletextpad=0.2)


def predicted_and_measured(axes: Axes, rows: list[tuple[str, float, dict[str, float]]]) -> None:
    """Speed-ups as ``(label, predicted, {median, min, max})``, one row each: an open circle for
    what the multiply-adds predict, a full square with a bar from least to most for the clock."""
    for row, (_, predicted, measured) in enumerate(rows):
        axes.hlines(row, measured["min"], measured["max"], color=LIGHT, linewidth=5, zorder=1)
        axes.plot(
            predicted, row, "o", color=DARK, markerfacecolor="white", markersize=8,
            markeredgewidth=1.6, label="by multiply-adds" if row == 0 else None,
        )  # fmt: skip
        axes.plot(
            measured["median"], row, "s", color=DARK, markersize=6,
            label="measured" if row == 0 else None,
        )  # fmt: skip
    axes.axvline(1, color="black", linewidth=1, linestyle="--")
    axes.set_yticks(range(len(rows)), [label for label, *_ in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("times as fast as the dense model")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, handletextpad=0.2)
