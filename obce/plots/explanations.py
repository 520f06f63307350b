"""Figures of explanations: a unit's cloud with its barcode, a layer's tree of units, the atlas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram

from obce.plots.style import DARK, LIGHT


def cloud_and_barcode(
    values: np.ndarray, cuts: Sequence[float], bars: Sequence[float], long: Sequence[float]
) -> Figure:
    """A unit's cloud with the places where it is split, and beside it the longest bars.

    Args:
        values: ``(n,)``.
        cuts: where the groups part.
        bars: lengths of bars, the longest first.
        long: those of them that a test has called long: filled, the others are empty.

    >>> figure = cloud_and_barcode(np.array([0.0, 1.0, 5.0]), [3.0], [4.0, 1.0], [4.0])
    >>> [float(patch.get_width()) for patch in figure.axes[1].patches]
    [4.0, 1.0]
    """
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.6, 1])
    left.hist(values, bins=60, color=LIGHT, edgecolor=DARK, linewidth=0.5, log=True)
    for cut in cuts:
        left.axvline(cut, color="black", linestyle="--", linewidth=1.2)
    left.set(xlabel="output", ylabel="points (log)")
    is_long = [any(np.isclose(bar, each) for each in long) for bar in bars]
    right.barh(
        range(len(bars)), bars, height=0.6, edgecolor=DARK,
        color=[DARK if each else "white" for each in is_long],
    )  # fmt: skip
    right.invert_yaxis()
    right.set_yticks([])
    right.set(xlabel="length of bar", ylabel="longest bars")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def units_tree(tree: np.ndarray, threshold: float, figsize: tuple[float, float] = (7, 3)) -> Figure:
    """The dendrogram of a layer's units, by 1 - |r|; the dashed line is where it is cut.

    Args:
        tree: as SciPy's ``linkage`` gives it.

    >>> tree = np.array([[0, 1, 0.2, 2], [2, 3, 0.8, 3]])
    >>> units_tree(tree, 0.3).axes[0].get_ylabel()
    'distance 1 - |r|'
    """
    figure = Figure(figsize=figsize, layout="constrained")
    axes = figure.subplots()
    dendrogram(
        tree, ax=axes, no_labels=True, color_threshold=0, above_threshold_color=DARK,
        truncate_mode="lastp", p=min(400, len(tree)) or 1,
    )  # fmt: skip
    for lines in axes.collections:
        lines.set_linewidth(0.5)  # hundreds of units stand side by side
    axes.axhline(threshold, color="black", linestyle="--", linewidth=1.2)
    axes.set(xlabel="units", ylabel="distance 1 - |r|", ylim=(0, 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def atlas(rows: Sequence[dict[str, Any]], figsize: tuple[float, float] = (7, 4)) -> Figure:
    """What the charts of an atlas come to, layer by layer: a panel for what units say, one for
    what a plan keeps, one for ranks in other models, as far as there is something to show.

    Args:
        rows: :attr:`obce.explain.charts.Atlas.rows`.

    >>> row = {"layer": 0, "kind": "value", "units": 9, "several groups": 0.5, "with a story": 0.2}
    >>> [axes.get_xlabel() for axes in atlas([row, {**row, "layer": 1}]).axes]
    ['% of the units']
    """
    told = ("several groups", "with a story")
    kept = ("kept", "persistence kept", "stories kept")
    ranks = tuple(name for name in rows[0] if name.startswith("ranks"))
    panels = [names for names in (told, kept, ranks) if names and any(n in rows[0] for n in names)]
    figure = Figure(figsize=figsize, layout="constrained")
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    for axes, names in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True
    ):
        factor = 1 if names is ranks else 100
        for name, marker in zip(names, "osD^v", strict=False):
            for kind, fill in zip(kinds, (DARK, "white", LIGHT), strict=False):
                found = [
                    (factor * row[name], row["layer"])
                    for row in rows
                    if row["kind"] == kind and row.get(name) is not None
                ]
                axes.plot(
                    *zip(*found, strict=True), marker=marker, color=DARK, markerfacecolor=fill,
                    linewidth=0.8, label=f"{name}, {kind}",
                )  # fmt: skip
        axes.set_xlabel(
            "% of the units" if names is told else
            "% that stay" if names is kept else "rank correlation"
        )  # fmt: skip
        axes.legend(fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, -0.2))
        axes.spines[["top", "right"]].set_visible(False)
    first = figure.axes[0]
    first.set(ylabel="layer", yticks=sorted({row["layer"] for row in rows}))
    first.invert_yaxis()
    return figure
