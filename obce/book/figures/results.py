"""Figures of part III and of the landing page, from records and live runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from obce.book.figures.topology import chance
from obce.book.glue import NAMES, share_learned
from obce.plots.style import DARK, LIGHT
from obce.running.records import stages_of
from obce.tasks import METRICS


def learned(axes: Axes, tasks: Mapping[str, Mapping[str, Any]], size: str) -> None:
    """How much small models keep of what the dense model of each task had learned, in percent.

    Args:
        tasks: what `obce.book.glue.on_glue` gives, of the tasks to be shown: a row each.
        size: one of `obce.book.glue.SIZES`.
    """
    for line, style in ((0, ":"), (100, "--")):
        axes.axvline(line, color="black", linewidth=1, linestyle=style)
    for row, task in enumerate(tasks.values()):
        shares = {
            way: share_learned(task, task[size][way]["value"]) for way in WAYS if way in task[size]
        }
        axes.hlines(row, min(0, *shares.values()), max(100, *shares.values()), LIGHT, linewidth=5)
        for way, share in shares.items():
            marker, face, label = WAYS[way]
            axes.plot(
                share, row, marker, markersize=8, color=DARK, markerfacecolor=face,
                markeredgewidth=1.6, linestyle="none", label=label if row == 0 else None,
            )  # fmt: skip
    axes.set_yticks(range(len(tasks)), [NAMES[task] for task in tasks])
    axes.set_ylim(len(tasks) - 0.5, -0.5)
    axes.set_xlabel("left of what was learned (%)")
    axes.set_title(f"{size} % of the encoder", loc="left")


WAYS = {
    "random": ("x", DARK, "random units, repaired"),
    "repaired": ("o", "white", "chosen units, repaired"),
    "labels": ("D", DARK, "and trained again"),
}


def before_and_after(axes: Axes, rows: dict[str, tuple[float, float]], dense: float) -> None:
    """One row per way of choosing units, ``{name: (cut, repaired)}`` in percent: an open circle
    for the cut, a full one after the repair; the dashed line is the dense model."""
    axes.axvline(dense, color="black", linewidth=1, linestyle="--")
    for place, (cut, repaired) in enumerate(rows.values()):
        axes.plot([cut, repaired], [place, place], color=LIGHT, linewidth=4, linestyle="-")
        for value, face in ((cut, "white"), (repaired, DARK)):
            axes.plot(
                value, place, "o", markersize=7, color=DARK, markerfacecolor=face,
                markeredgewidth=1.6,
            )  # fmt: skip
    axes.set_yticks(range(len(rows)), list(rows), fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def drawn_by_task(budget: Mapping[str, Any], scores: Mapping[str, str], draws: int = 20) -> Figure:
    """For each task a histogram of random plans' metrics, and some scores' plans as dots: all
    of one dense model.

    Args:
        budget: one of the ``budgets`` of a study's report.
        scores: ``{score in the report: what is written}``.
        draws: how many random plans a task has at least, to be shown.
    """
    every = budget["chance"]["random"].items()
    drawn = {task: found for task, found in every if len(found["metrics"]) >= draws}
    rows = math.ceil(len(drawn) / 2)
    figure = Figure(figsize=(7, 2.7 * rows), layout="constrained")
    for axes, (task, found) in zip(figure.subplots(rows, 2).flat, drawn.items(), strict=False):
        of_task = {label: each["per_task"][task] for label, each in budget["scores"].items()}
        dots = {}
        for label, name in scores.items():
            values = zip(of_task[label]["seeds"], of_task[label]["value_runs"], strict=True)
            dots[name] = 100 * dict(values)[found["seed"]]
        chance(axes, [100 * value for value in found["metrics"]], dots)
        axes.axvline(100 * found["dense"], color="black", linewidth=1, linestyle="--")
        axes.set_xlabel(f"{NAMES[task]}: {METRICS[of_task['random']['metric']]} (%)")
    return figure


def sizes_and_scores(
    axes: Axes, rows: list[tuple[str, float, float, str]], places: dict[str, str] | None = None
) -> None:
    """Models as points, ``(name, millions of parameters, metric in %, marker)``, each with its
    name to the right, or where ``places`` says (``left``, ``below``). Squares are full, all other
    markers open."""
    offsets = {
        "right": ((8, 0), "left", "center"),
        "left": ((-8, 0), "right", "center"),
        "below": ((0, -7), "center", "top"),
    }
    for name, size, metric, marker in rows:
        axes.plot(
            size, metric, marker, markersize=8, color=DARK, markeredgewidth=1.6,
            markerfacecolor=DARK if marker == "s" else "white",
        )  # fmt: skip
        offset, ha, va = offsets[(places or {}).get(name, "right")]
        axes.annotate(
            name, (size, metric), xytext=offset, textcoords="offset points", fontsize=8, ha=ha,
            va=va,
        )  # fmt: skip
    axes.set_xlabel("parameters (millions)")
    axes.set_xlim(0, 1.08 * max(size for _, size, *_ in rows))


def method_in_one_picture(
    clouds: dict[str, np.ndarray], radii: np.ndarray, plan_percentile: float, record: dict
) -> Figure:
    """Clouds of units on a line, the merge radii of their layer with the cut, and what it costs.

    Args:
        clouds: name -> ``(texts,)`` outputs of one unit, in R.
        radii: ``(units,)`` merge radii of one layer and kind.
        plan_percentile: units below this percentile of ``radii`` go.
        record: of a compression job, as ``obce compress`` saves it.
    """
    figure = Figure(figsize=(7, 3))
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.2, 1, 1])
    for row, cloud in enumerate(reversed(clouds.values())):
        points = np.sort(cloud)
        gap = np.diff(points).argmax()
        left.plot(points, np.full(len(points), row), "|", color="black", markersize=14, alpha=0.5)
        left.plot(points[gap : gap + 2], [row, row], "-", color=DARK, linewidth=4)
        wide = points[gap + 1] - points[gap]
        middle_of_gap = points[gap : gap + 2].mean()
        left.annotate(f"$r_f$ = {wide:.2f}", (middle_of_gap, row - 0.28), ha="center")
    left.set_yticks(range(len(clouds)), reversed(clouds), fontsize=9)
    left.set_ylim(-0.6, len(clouds) - 0.5)
    left.set_xlabel("mean output for each text")
    left.set_title("1. watch", loc="left")

    threshold = np.percentile(radii, plan_percentile)
    bins = np.linspace(0, np.percentile(radii, 99), 31).tolist()
    going = radii[radii < threshold]
    middle.hist(going, bins, color="white", edgecolor=DARK, hatch="///", label="goes")
    middle.hist(radii[radii >= threshold], bins, color=DARK, edgecolor=DARK, label="stays")
    middle.set_xlabel("merge radius $r_f$")
    middle.set_ylabel("units")
    middle.legend()
    middle.set_title("2. choose and cut", loc="left")

    rows = list(stages_of(record).values())
    values = [100 * row["value"] for row in rows]
    bars = right.barh(range(len(rows)), values, color=[DARK, *["white"] * 3], edgecolor=DARK)
    for bar, hatch in zip(bars, ["", "", "...", "xx"], strict=True):
        bar.set_hatch(hatch)
    right.bar_label(bars, fmt="%.1f", padding=3, fontsize=9)
    right.set_yticks(range(len(rows)), ["dense", "cut", "repaired", "fine-tuned"], fontsize=9)
    right.invert_yaxis()
    right.set_xlim(0, 122)
    right.set_xticks([0, 50, 100])
    right.set_xlabel(f"{METRICS[rows[0]['metric']]} (%)")
    right.set_title("3. repair and judge", loc="left")
    return figure
