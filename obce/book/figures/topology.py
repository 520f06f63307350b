"""Figures of the chapter that asks whether it is the topology: chance, and scores beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from obce.plots.style import DARK, LIGHT

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")


def chance(axes: Axes, values: Sequence[float], scores: Mapping[str, float]) -> None:
    """A histogram of what random plans give, and each score as a dot under its name.

    Args:
        values: the divergences of random plans.
        scores: the divergence by each score's plan; names are written in the order given, from
            below.
    """
    low, high = min([*values, *scores.values()]), max([*values, *scores.values()])
    bins = np.linspace(low, high, 31).tolist()
    counts, _, _ = axes.hist(values, bins=bins, color=LIGHT, edgecolor=DARK, label="random plans")
    top = float(np.max(counts))
    for number, (name, value) in enumerate(scores.items()):
        height = top * (1.15 + 0.22 * number)
        axes.vlines(value, 0, height, colors="black", linestyles=":", linewidth=0.9, zorder=1)
        axes.plot(value, height, MARKERS[number % len(MARKERS)], color="black", markersize=6)
        left = value > (low + high) / 2
        axes.annotate(
            name, (value, height), (-7 if left else 7, 0), textcoords="offset points",
            ha="right" if left else "left", va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    axes.set(xlabel="divergence from the dense model", ylabel="plans", ylim=(0, None))
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= top and tick == int(tick)])


def beside_random(
    axes: Axes, budget: Mapping[str, Any], tasks: Sequence[str], labels: Mapping[str, str]
) -> None:
    """Each score's divergence as a multiple of a random plan's, task by task and in the mean.

    Args:
        budget: one of the ``budgets`` of a study's report.
        tasks: those that are drawn and that the mean is taken over.
        labels: ``{score in the report: what is written}``, from the top.
    """

    def log(label: str, task: str) -> float:
        return float(budget["scores"][label]["per_task"][task]["log_divergence"])

    for row, label in enumerate(reversed(list(labels))):
        ratios = [np.exp(log(label, task) - log("random", task)) for task in tasks]
        axes.plot([min(ratios), max(ratios)], [row, row], "-", color=LIGHT, linewidth=4, zorder=1)
        for number, ratio in enumerate(ratios):
            axes.plot(
                ratio, row, MARKERS[number % len(MARKERS)], color=DARK, markerfacecolor="white",
                markersize=5, label=tasks[number] if row == 0 else None, zorder=2,
            )  # fmt: skip
        axes.plot(np.exp(np.mean(np.log(ratios))), row, "|", color="black", markersize=14,
                  markeredgewidth=2.5, label="mean" if row == 0 else None, zorder=3)  # fmt: skip
    axes.axvline(1, color="black", linewidth=1, linestyle="--")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(labels)), [*labels.values()][::-1])
    axes.set(xlabel="divergence, as a multiple of a random plan's", ylim=(-0.7, len(labels) - 0.3))
