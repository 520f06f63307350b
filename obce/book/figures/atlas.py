"""Figures of the chapter on the atlas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from obce.explain import Chart

ROWS = 16  # cells in a column
KEPT = "0.80"  # grey


def by_share(chart: Chart) -> dict[str, Any]:
    """What :func:`network` shows of a chart.

    Returns:
        ``layer``, ``kind``, and ``by share``: of each unit, the largest share first, whether a
        story was told, whether there are several groups, and whether a plan keeps it, as strings
        of 0 and 1, which make a small record.
    """
    order = np.argsort(-chart.shares, kind="stable")
    kept = np.ones(len(order), dtype=bool) if chart.kept is None else chart.kept
    signs: dict[str, Any] = {
        "told": [bool(chart.stories[unit]) for unit in order],
        "split": chart.groups[order] > 1,
        "kept": kept[order],
    }
    said = {name: "".join("01"[int(sign)] for sign in found) for name, found in signs.items()}
    return {"layer": chart.layer, "kind": chart.kind, "by share": said}


def network(charts: Sequence[Mapping[str, Any]]) -> Figure:
    """All units at a glance, one cell each, a band for each layer and kind, layer 0 on top.

    Cells fill columns from the left, the largest share of the layer's persistence first. Grey: a
    plan keeps the unit. A square: it has a story and is kept; a cross: it has one and goes.

    Args:
        charts: from :func:`by_share`.
    """
    layers = sorted({chart["layer"] for chart in charts})
    kinds = list(dict.fromkeys(chart["kind"] for chart in charts))
    columns = [
        max(-(-len(c["by share"]["kept"]) // ROWS) for c in charts if c["kind"] == kind)
        for kind in kinds
    ]
    cell = min(6.2 / sum(columns), 0.1)  # inches; wider than high, where units are few
    size = 7, len(layers) * (ROWS * cell + 0.12) + 0.9
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(layers), len(kinds), width_ratios=columns, squeeze=False)
    for chart in charts:
        axes = grid[layers.index(chart["layer"])][kinds.index(chart["kind"])]
        _band(axes, chart["by share"], 40 * cell)
    for row, layer in zip(grid, layers, strict=True):
        row[0].set_ylabel(layer, rotation=0, ha="right", va="center")
    for axes, kind in zip(grid[0], kinds, strict=True):
        axes.set_title(kind)
    figure.supylabel("layer", fontsize=10)
    figure.supxlabel("units of a layer and kind, from the largest share to the smallest →",
                     fontsize=10)  # fmt: skip
    squares: dict[str, Any] = {"color": "black", "linestyle": "none"}
    figure.legend(
        handles=[
            Patch(facecolor=KEPT, edgecolor="black", label="kept"),
            Patch(facecolor="white", edgecolor="black", label="cut"),
            Line2D([], [], marker="s", markersize=4, label="kept, with a story", **squares),
            Line2D([], [], marker="x", markersize=4, label="cut, with a story", **squares),
        ],
        loc="outside upper center", ncols=4, fontsize=9,
    )  # fmt: skip
    return figure


def _band(axes: Axes, signs: Mapping[str, str], size: float) -> None:
    """One layer and kind."""
    kept, told = (np.array([each == "1" for each in signs[name]]) for name in ("kept", "told"))
    place = np.arange(len(kept))
    x, y = place // ROWS, place % ROWS
    cells = np.full((ROWS, x[-1] + 1), np.nan)
    cells[y, x] = kept
    axes.imshow(cells, cmap="Greys", vmin=0, vmax=4, aspect="auto", interpolation="none")
    for which, marker in ((kept, "s"), (~kept, "x")):
        shown = which & told
        axes.plot(
            x[shown], y[shown], marker, color="black", markersize=size, markeredgewidth=size / 4
        )
    axes.set(xticks=[], yticks=[], xlim=(-0.5, x[-1] + 0.5), ylim=(ROWS - 0.5, -0.5))
    axes.spines[:].set_visible(True)


def differences(axes: Axes, found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Points by which units with a story stay more often than others, with intervals.

    Args:
        found: way to compare -> part of the units -> ``points more`` and ``points more, 95 %``.
    """
    parts = list(next(iter(found.values())))
    for shift, (how, rows) in zip((-0.15, 0.15), found.items(), strict=True):
        middle = np.array([rows[part]["points more"] for part in parts])
        low, high = np.array([rows[part]["points more, 95 %"] for part in parts]).T
        axes.errorbar(
            middle, np.arange(len(parts)) + shift, xerr=[middle - low, high - middle],
            marker="o", markersize=6, markerfacecolor="white" if shift > 0 else None,
            linestyle="none", color="black", label=how,
        )  # fmt: skip
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(parts)), parts)
    axes.invert_yaxis()
    axes.set_xlabel("percentage points by which units with a story stay more often")
    axes.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, title="compared with", fontsize=9
    )
