"""Figures of the chapter on many processes: who holds what, and where the time goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from obce.base.distributed import share
from obce.plots.style import DARK, LIGHT

HATCHES = ("", "//", "..", "xx")


def shared_matrix(axes: Axes, texts: int, units: int, processes: int, by: str) -> None:
    """A (texts, units) matrix in the blocks in which it is shared out, each with a hatch and the
    number of the process that holds it.

    Args:
        by: ``texts``, as the forward passes leave it, or ``units``, as homology wants it.
    """
    rows = [share(texts, p, processes) for p in range(processes)]
    columns = [share(units, p, processes) for p in range(processes)]
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            holder = i if by == "texts" else j
            corner = (column.start, row.start)
            size = (column.stop - column.start, row.stop - row.start)
            face = "white" if holder % 2 else LIGHT
            hatch = HATCHES[holder % len(HATCHES)]
            axes.add_patch(
                Rectangle(corner, *size, facecolor=face, edgecolor=DARK, hatch=hatch, linewidth=0.8)
            )
            axes.text(
                corner[0] + size[0] / 2, corner[1] + size[1] / 2, str(holder),
                ha="center", va="center",
                bbox={"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": DARK},
            )  # fmt: skip
    for parts, line in ((rows, axes.axhline), (columns, axes.axvline)):
        for part in parts[1:]:
            thick = (parts is rows) == (by == "texts")
            line(part.start, color="black", linewidth=2.5 if thick else 0.8, linestyle="-")
    axes.set(xlim=(0, units), ylim=(texts, 0), xticks=[], yticks=[], xlabel="units", ylabel="texts")
    axes.spines[["top", "right"]].set_visible(True)


def seconds_by_processes(
    axes: Axes, counts: Sequence[int], parts: Mapping[str, Sequence[float]], mark: int | None = None
) -> None:
    """Seconds of the parts of a job, and of all of it, against the number of processes; both
    axes are logarithmic. Parts that take no time anywhere on the way are interrupted there."""
    values = {name: np.asarray(part, dtype=float) for name, part in parts.items()}
    for (name, part), marker in zip(values.items(), "os^Dxv", strict=False):
        shown = np.where(part > 0, part, np.nan)
        axes.plot(counts, shown, marker=marker, markevery=len(counts) // 4, label=name, alpha=0.9)
    total = np.sum(list(values.values()), axis=0)
    axes.plot(counts, total, color="black", linewidth=2.5, linestyle="-", label="all of it")
    if mark is not None:
        axes.axvline(mark, color="black", linewidth=1, linestyle=":")
    axes.set(xscale="log", yscale="log", xlabel="processes", ylim=(0.05, 2 * total.max()))
