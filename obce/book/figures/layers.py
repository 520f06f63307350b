"""Figures of the chapter that goes layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

MARKERS = "os^Dvx"


def layer_table(axes: Axes, table: np.ndarray, names: Sequence[str], title: str = "") -> None:
    """Percentages of a whole in each layer and kind, layer 0 at the bottom: darker is more.

    Each cell says its number, so that the grey is no more than a help.

    Args:
        table: ``(layers, kinds)``, fractions that add up to 1.
        names: of the kinds.
    """
    percent = 100 * np.asarray(table, dtype=float)
    axes.imshow(np.sqrt(percent), cmap="Greys", vmin=0, vmax=11, origin="lower", aspect="auto")
    for (layer, kind), value in np.ndenumerate(percent):
        said = f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"
        ink = "white" if value > 40 else "black"
        axes.text(kind, layer, said, color=ink, ha="center", va="center")
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(percent)))
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_title(title)


def dots_with_ranges(axes: Axes, spans: Mapping[str, np.ndarray]) -> None:
    """Medians over the layers as dots, each with a line from the least to the greatest.

    Args:
        spans: name -> ``(layers, 3)``: median, least and greatest. The names' dots stand beside one
            another, in markers of their own.
    """
    apart = 0.64 / max(len(spans), 1)
    for place, (name, rows) in enumerate(spans.items()):
        median, least, greatest = np.asarray(rows, dtype=float).T
        at = np.arange(len(median)) + apart * (place - (len(spans) - 1) / 2)
        axes.errorbar(
            at, median, [median - least, greatest - median], marker=MARKERS[place], markersize=5,
            markerfacecolor="white" if place % 2 else None, linestyle="none", elinewidth=1.4,
            label=name,
        )  # fmt: skip
        axes.set_xticks(range(len(median)))
    axes.set_xlabel("layer")
