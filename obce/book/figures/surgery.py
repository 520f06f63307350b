"""Figures of the chapter on surgery: what goes out of a layer's matrices, and out of logits."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from obce.plots.style import DARK, LIGHT
from obce.pruning import Plan
from obce.units import KINDS, READS

STAYS, GOES, ZERO = range(3)  # states of a weight, by the numbers of the colours below
COLOURS = (LIGHT, "black", "white")


def states_of(plan: Plan, layer: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """What becomes of each weight of a map (out, in), and of each entry of its bias (out, 1)."""
    width = plan.shape.width(kind)
    row_goes = ~np.isin(np.arange(width), plan.kept[layer, kind])
    read = READS.get(kind)
    inputs = plan.shape.hidden if read is None else plan.shape.width(read)
    gone = np.zeros(inputs, bool)
    if read is not None:
        gone = ~np.isin(np.arange(inputs), plan.kept[layer, read])
    weight = np.where(row_goes[:, None] | gone, GOES, STAYS)
    bias = np.where(row_goes[:, None], GOES if read is None else ZERO, STAYS)
    return weight, bias


def cut_matrices(axes: Axes, plan: Plan, layer: int) -> None:
    """The six matrices of one layer, (out, in), and what a plan takes out of them.

    A square is a weight, the strip at the right of a matrix is its bias; a line parts the heads.
    """
    shape, gap = plan.shape, 4.0
    size, inner = shape.hidden, shape.intermediate
    below = size + 7
    places = {
        kind: (number * (size + 1.5 + gap), 0.0) for number, kind in enumerate(KINDS[:4])
    }  # fmt: skip
    places["intermediate"] = (0.0, below)
    places["output"] = (size + 1.5 + gap, below)
    colours = ListedColormap(list(COLOURS))
    for kind, (x, y) in places.items():
        weight, bias = states_of(plan, layer, kind)
        outputs, inputs = weight.shape
        down = y + np.arange(outputs + 1)
        for left, states in ((x, weight), (x + inputs + 0.5, bias)):
            across = left + np.arange(states.shape[1] + 1)
            axes.pcolormesh(
                across, down, states, cmap=colours, vmin=STAYS, vmax=ZERO,
                edgecolors=DARK, linewidth=0.4,
            )  # fmt: skip
        for row in np.flatnonzero(bias == ZERO):
            axes.text(x + inputs + 1, y + row + 0.55, "0", ha="center", va="center", fontsize=9)
        left_out, left_in = (int((states != GOES).any(axis=axis).sum()) for states, axis in (
            (weight, 1), (weight, 0)))  # fmt: skip
        shapes = f"({outputs}, {inputs}) → ({left_out}, {left_in})"
        axes.text(x, y - 2.1, kind, fontsize=10, fontweight="bold", va="bottom")
        axes.text(x, y - 0.3, shapes, fontsize=9, va="bottom")
        for line in range(shape.head_size, size, shape.head_size):
            if kind in ("query", "key", "value"):
                ends = [x - 0.6, x + inputs + 2.1], [y + line] * 2
            elif kind == "attention_output":
                ends = [x + line] * 2, [y - 0.3, y + outputs + 0.6]
            else:
                continue
            for colour, thick in (("white", 4), ("black", 1.5)):  # seen on black, too
                axes.plot(*ends, color=colour, linewidth=thick, linestyle="-")
    axes.legend(
        handles=[
            Patch(facecolor=colour, edgecolor=DARK, label=label)
            for colour, label in zip(
                COLOURS, ("stays", "goes", "0: set to zero, stays"), strict=True
            )
        ],
        loc="lower right",
        fontsize=11,
    )
    axes.set_aspect("equal")
    axes.set_xlim(-0.8, 4 * (size + 1.5 + gap) - gap + 0.8)
    axes.set_ylim(below + max(inner, size) + 0.5, -4.2)
    axes.axis("off")


def logit_table(axes: Axes, values: np.ndarray, title: str) -> None:
    """What is added to each logit: a row for each token that asks, a column for each asked."""
    most = float(np.abs(values).max()) or 1.0
    axes.imshow(values, cmap="Greys", vmin=-most, vmax=2 * most)  # no cell is darker than mid-grey
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, f"{value:+g}" if value else "0", ha="center", va="center")
    for which, length in ((axes.set_xticks, values.shape[1]), (axes.set_yticks, values.shape[0])):
        which(range(length), [f"token {number}" for number in range(length)])
    axes.set(xlabel="is asked", ylabel="asks", title=title)
    axes.spines[:].set_visible(True)
    axes.tick_params(length=0)
