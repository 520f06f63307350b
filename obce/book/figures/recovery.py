"""Figures of the chapter on recovery: what students learn from labels and from a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from obce.plots.style import DARK, LIGHT

# How the pupil of each teacher looks, with colour and without.
LOOKS = {
    "repaired": ("o", "none", DARK, "white", "repaired"),
    "labels": ("s", "--", "#b45f06", "#b45f06", "taught by labels"),
    "teacher": ("D", "-", DARK, DARK, "by labels and teacher"),
    "control": ("x", "none", "black", "black", "dense, trained again"),
}


def students(
    axes: Axes, sizes: Sequence[int], found: Mapping[str, Sequence[Sequence[float]]], floor: float
) -> None:
    """Divergence of students from their teacher, over the rows that they learned from.

    Args:
        sizes: numbers of rows, rising.
        found: ``labels`` and ``teacher`` -> for each size the divergence of each student. The line
            is their mean, the band holds the middle 80 %.
        floor: what no student can go below: the dotted line.
    """
    for name, students in found.items():
        marker, line, colour, _, _ = LOOKS[name]
        low, high = np.quantile(students, (0.1, 0.9), axis=1)
        axes.fill_between(sizes, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(
            sizes, np.mean(students, axis=1), marker=marker, linestyle=line, color=colour,
            markerfacecolor="white", markersize=5, label=f"taught by {name}",
        )  # fmt: skip
    axes.axhline(floor, color="black", linestyle=":", linewidth=1.4, label="the best student")
    axes.set(xscale="log", yscale="log", xlabel="rows to learn from")
    axes.set_ylabel("divergence from the teacher (nats)")
    axes.set_xticks(sizes, [f"{size}" for size in sizes])
    axes.minorticks_off()
    ticks = [tick for tick in (0.05, 0.1, 0.2, 0.4, 0.8) if tick < axes.get_ylim()[1]]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.legend()


def epochs_of_students(
    axes: Sequence[Axes],
    stages: Mapping[str, Sequence[tuple[float, float]]],
    dense: float,
    step: int = 1,
) -> None:
    """Accuracy (left) and divergence (right) of two students in the course of a training.

    Args:
        stages: ``labels`` and ``teacher`` -> (accuracy in %, divergence), first of all before any
            training.
        dense: accuracy of the dense model in %, the dashed line.
        step: epochs between two of the stages.
    """
    for name, values in stages.items():
        epochs = range(0, step * len(values), step)
        marker, line, colour, _, _ = LOOKS[name]
        for place, ax in enumerate(axes):
            ax.plot(
                epochs, [each[place] for each in values], marker=marker, linestyle=line,
                color=colour, markerfacecolor="white", markersize=6, label=f"taught by {name}",
            )  # fmt: skip
    axes[0].axhline(dense, color="black", linestyle="-.", linewidth=1, label="dense model")
    axes[0].set_ylabel("accuracy (%)")
    axes[1].set_ylabel("divergence (nats)")
    axes[1].set_ylim(bottom=0)
    for ax in axes:
        ax.set_xlabel("epochs after the repair")
        ax.set_xticks(range(0, step * max(map(len, stages.values())), step))
    axes[0].legend()


def recovered(axes: Axes, rows: Mapping[str, Mapping[str, float]]) -> None:
    """What each way keeps of the dense model's metric, in percent: a row per task and size.

    Args:
        rows: name of the row -> ``dense`` and some of ``repaired``, ``labels``, ``teacher``, and
            ``control``, the dense model after another training: the metric, in one unit.
    """
    axes.axvline(100, color="black", linewidth=1, linestyle="--")
    for place, values in enumerate(rows.values()):
        shares = {name: 100 * values[name] / values["dense"] for name in LOOKS if name in values}
        axes.hlines(place, min(shares.values()), max(shares.values()), color=LIGHT, linewidth=5)
        for name, share in shares.items():
            marker, _, colour, face, label = LOOKS[name]
            beside = 0.16 * (list(LOOKS).index(name) - 1.5)  # so that equal ones are all seen
            axes.plot(
                share, place + beside, marker, color=colour, markerfacecolor=face, markersize=7,
                markeredgewidth=1.6, linestyle="none", label=label if place == 0 else None,
            )  # fmt: skip
    axes.set_yticks(range(len(rows)), list(rows), fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("share of the dense model's metric (%)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1), ncols=2, handletextpad=0.2)
