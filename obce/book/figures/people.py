"""Figures of the chapter on what compression does to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

MARKERS = "os^Dvx"


def gaps_by_word(axes: Axes, gaps: Mapping[str, np.ndarray], words: Sequence[str]) -> None:
    """The gap of each word, one row each, the largest of the first model at the top.

    Args:
        gaps: name of a model -> (words,); each model has a marker of its own.
    """
    order = np.argsort(next(iter(gaps.values())))
    for place, (name, values) in enumerate(gaps.items()):
        axes.plot(
            np.asarray(values)[order], np.arange(len(order)), MARKERS[place], label=name,
            markersize=5, markerfacecolor="white" if place % 2 else None,
        )  # fmt: skip
    axes.axvline(0, color="black", linestyle="-", linewidth=0.8)
    axes.set_yticks(range(len(order)), [words[i] for i in order])
    axes.legend()


def ratios_with_intervals(axes: Axes, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Ratios beside 1, one row each, the first at the top, on a logarithmic axis.

    A dot is filled if the ratio differs from 1 after the correction for many tests.

    Args:
        rows: name -> ``value`` and ``interval``, logarithms of ratios, and ``p by Holm``.
    """
    for place, row in enumerate(rows.values()):
        low, high = np.exp(row["interval"])
        axes.plot([low, high], [-place] * 2, color="black", linestyle="-", linewidth=1.4)
        axes.plot(
            np.exp(row["value"]), -place, "o", color="black", markersize=6,
            markerfacecolor="black" if row["p by Holm"] < 0.05 else "white",
        )  # fmt: skip
    axes.axvline(1, color="black", linestyle=":", linewidth=1)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10) if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks([-place for place in range(len(rows))], list(rows))


def sizes_by_divergence(axes: Axes, found: Mapping[str, Any]) -> None:
    """Sizes of gaps over the divergence, a line for each plan, by kind of unit.

    Args:
        found: an entry ``kinds`` of the record ``harm``: ``curves`` by kind, ``dense``, and the
            ``divergences`` at which the kinds are compared, between which the plot is shaded.
    """
    for place, (kind, curves) in enumerate(found["curves"].items()):
        for number, curve in enumerate(curves):
            axes.plot(
                curve["divergence"], curve["size"], MARKERS[place], color=f"C{place}",
                linestyle=("-", "--", ":")[place], markersize=4,
                markerfacecolor="white" if place % 2 else None, label=None if number else kind,
            )  # fmt: skip
    axes.axhline(found["dense"], color="black", linestyle="-", linewidth=0.8, label="dense")
    axes.axvspan(found["divergences"][0], found["divergences"][-1], color="0.92", zorder=0)
    axes.set_xscale("log")
    axes.set_xlabel("divergence")
