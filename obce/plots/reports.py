"""Figures that the package draws for its users: scores of a model, stages of a job."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from obce.plots.style import DARK, LIGHT
from obce.pruning import Plan
from obce.running.records import stages_of
from obce.tasks import metric_name
from obce.units import KINDS, Group


def scores_by_layer(scores: Mapping[Group, np.ndarray], plan: Plan | None = None) -> Figure:
    """Distribution of a score in each layer, one panel per kind.

    A box spans the quartiles, its line is the median, whiskers go from the 5th to the 95th
    percentile. With a plan, a triangle marks the lowest score that stays, where any goes.

    Args:
        scores: (layer, kind) -> ``(units,)``, as ``obce.score`` gives them.

    >>> figure = scores_by_layer({(0, "value"): np.array([0.1, 0.3, 0.2])})
    >>> [axes.get_title() for axes in figure.axes if axes.get_visible()]
    ['value']
    """
    kinds = [kind for kind in KINDS if any(key[1] == kind for key in scores)]
    layers = sorted({layer for layer, _ in scores})
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    panels = figure.subplots(2, 3, squeeze=False).ravel()
    for axes, kind in zip(panels, kinds, strict=False):
        boxes = [scores[layer, kind] for layer in layers]
        axes.boxplot(
            boxes,
            positions=layers,
            widths=0.6,
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            boxprops={"facecolor": LIGHT, "edgecolor": DARK},
            medianprops={"color": DARK, "linewidth": 2},
            whiskerprops={"color": DARK},
            capprops={"color": DARK},
            manage_ticks=False,
        )
        if plan is not None:
            _mark_thresholds(axes, scores, plan, kind, layers)
        axes.set_title(kind, fontsize=10)
        axes.set_xticks(layers if len(layers) <= 12 else layers[::4])
        axes.set_ylim(bottom=0)
    for axes in panels[len(kinds) :]:
        axes.set_visible(False)
    name = str(getattr(scores, "info", {}).get("score", "score")).replace("_", " ")
    figure.supxlabel("layer", fontsize=10)
    figure.supylabel(name, fontsize=10)
    return figure


def _mark_thresholds(
    axes: Axes, scores: Mapping[Group, np.ndarray], plan: Plan, kind: str, layers: list[int]
) -> None:
    for layer in layers:
        kept = plan.kept[layer, kind]
        if 0 < len(kept) < plan.shape.width(kind):
            lowest = float(np.min(scores[layer, kind][kept]))
            axes.plot(layer, lowest, marker=">", color="black", markersize=6, linestyle="none")


def stages(record: dict) -> Figure:
    """The main metric at every stage of a compression job, one bar per stage.

    >>> from obce.running.records import recorded
    >>> figure = stages(recorded("compress_sst2"))
    >>> len(figure.axes[0].patches)
    4
    """
    rows = list(stages_of(record).values())
    values = [100 * row["value"] for row in rows]
    figure = Figure(figsize=(6, 0.7 + 0.55 * len(rows)), layout="constrained")
    axes = figure.subplots()
    hatches = ["", "//", "..", "xx"]
    bars = axes.barh(range(len(rows)), values, color=LIGHT, edgecolor=DARK)
    for bar, hatch in zip(bars, hatches, strict=False):
        bar.set_hatch(hatch)
    labels = [
        f"{r['stage']}\n{r['parameters']['encoder'] / 1e6:.1f} M in the encoder" for r in rows
    ]
    axes.set_yticks(range(len(rows)), labels, fontsize=9)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel(f"{metric_name(rows[0]['metric'])} on {record['task']} dev (%)")
    low = min(0, *values)
    axes.set_xlim(low - 14 * (low < 0), 1.12 * max(values))  # room for the labels of bars
    axes.spines[["top", "right"]].set_visible(False)
    return figure
