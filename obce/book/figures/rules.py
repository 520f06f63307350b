"""Figures of the chapter on rules: cuts in the plane of two units, fidelity by size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from obce.plots.style import DARK

MARKERS = "os^Dvx"


def two_cuts(
    axes: Axes, values: np.ndarray, cuts: Sequence[float], yes: np.ndarray, names: Sequence[str]
) -> None:
    """Texts in the plane of two units, with a cut across each: how many there are at each place.

    Args:
        values: ``(texts, 2)``. Texts at the same place are one disc, with their number.
        cuts: one for each unit.
        yes: ``(texts,)`` what the model says; discs of "yes" are dark.
        names: of the two units.
    """
    places, where = np.unique(np.round(values, 6), axis=0, return_inverse=True)
    for place, (x, y) in enumerate(places):
        here = where.ravel() == place
        says = bool(yes[here].mean() > 0.5)
        axes.scatter(x, y, s=900, color=DARK if says else "white", edgecolor="black", zorder=3)
        axes.text(x, y, str(int(here.sum())), color="white" if says else "black",
                  ha="center", va="center", zorder=4)  # fmt: skip
    for cut, line in zip(cuts, (axes.axvline, axes.axhline), strict=True):
        line(cut, color="black", linestyle="--", linewidth=1)
    axes.margins(0.3)
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])


def fidelity_by_leaves(
    axes: Axes,
    leaves: Sequence[int],
    series: Mapping[str, np.ndarray],
    majority: float,
    title: str = "",
) -> None:
    """How often trees of several sizes agree with the model, as lines through the medians of the
    draws, with a bar from the least to the greatest; dashed, the majority rule.

    Args:
        leaves: sizes, each twice the one before.
        series: name -> ``(sizes, draws)``, fractions.
    """
    axes.axhline(100 * majority, color="black", linestyle="--", linewidth=1, label="majority")
    sizes = np.log2(leaves)
    for place, (name, found) in enumerate(series.items()):
        percent = 100 * np.asarray(found, dtype=float)
        low, middle, high = np.quantile(percent, (0, 0.5, 1), axis=1)
        axes.errorbar(
            sizes + 0.06 * (place - (len(series) - 1) / 2), middle, [middle - low, high - middle],
            marker=MARKERS[place], markersize=5, markerfacecolor="white" if place % 2 else None,
            linewidth=1, elinewidth=1, label=name,
        )  # fmt: skip
    axes.set_xticks(sizes, [str(size) for size in leaves])
    axes.set_xlabel("leaves")
    axes.set_title(title)
