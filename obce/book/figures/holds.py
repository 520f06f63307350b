"""Figures of the chapter on whether an explanation holds: what silence does, from both ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from obce.plots.style import DARK

LOOKS = {  # of each order of the units: marker, line, colour
    "persistence share": ("o", "-", DARK),
    "merge radius": ("s", "--", "#b45f06"),
    "std": ("^", "-.", "#4c8a3f"),
    "random": ("x", ":", "black"),
}


def silence_curves(
    axes: Axes, curves: Mapping[str, Sequence[Mapping[str, Any]]], end: str, value: str
) -> None:
    """What becomes of a model over the part of its units that is silent: a line for each order.

    Args:
        curves: name -> rows with ``silent``, ``metric`` and ``log divergence``. The names end in
            ``, bottom`` or ``, top``; those that begin with ``random`` are averaged.
        end: which of the two.
        value: ``metric`` in percent, or ``divergence`` on a logarithmic axis.
    """
    for name, (marker, line, colour) in LOOKS.items():
        drawn = [
            rows for key, rows in curves.items()
            if key == f"{name}, {end}" or (name == "random" and key.startswith(name))
        ]  # fmt: skip
        if value == "metric":
            heights = 100 * np.mean([[row["metric"]["value"] for row in r] for r in drawn], axis=0)
        else:
            logs = [[row["log divergence"]["value"] for row in rows] for rows in drawn]
            heights = np.exp(np.mean(logs, axis=0))
        axes.plot(
            [100 * row["silent"] for row in drawn[0]], heights, marker=marker, linestyle=line,
            color=colour, markerfacecolor="white", markersize=5,
            label="std × norm" if name == "std" else name,
        )  # fmt: skip
    if value == "divergence":
        axes.set_yscale("log")
    axes.set(xlabel="silent units (%)", xticks=[100 * row["silent"] for row in drawn[0]])
