"""Figures of part II: a layer, its parameters, what units put out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from obce.plots.style import DARK, LIGHT
from obce.units import Parameters, Shape


def bert_layer(axes: Axes, shape: Shape) -> None:
    """One layer of a BERT: the residual stream as a road, and the six maps that stand beside it.

    Framed white boxes are the six linear maps, with their weight's (out, in); round grey ones
    have no matrix. Numbers at arrows are how many numbers per token run there.
    """
    hidden, heads, inner = shape.hidden, shape.heads, shape.intermediate
    thin: dict[str, Any] = {"color": "black", "linestyle": "-", "linewidth": 1, "zorder": 2}
    axes.set(xlim=(0, 14), ylim=(0, 8.2))
    axes.axis("off")
    axes.fill_between([0, 13.6], 0.35, 1.25, color="#d9d9d9", linewidth=0)
    axes.fill([13.6, 14, 13.6], [0.2, 0.8, 1.4], color="#d9d9d9", linewidth=0)
    axes.plot([0.1, 13.6], [0.8, 0.8], color="white", linestyle=(0, (6, 5)), linewidth=1.5)

    def box(x: float, y: float, width: float, height: float, text: str, linear: bool) -> None:
        style: dict[str, Any] = {"boxstyle": "square,pad=0", "facecolor": "white", "linewidth": 2}
        if not linear:
            style = {"boxstyle": "round,pad=0.05", "facecolor": "#ececec", "linewidth": 0.6}
        patch = FancyBboxPatch((x, y), width, height, edgecolor="black", zorder=3, **style)
        axes.add_patch(patch)
        axes.text(
            x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=8, zorder=4
        )

    def arrow(
        *path: tuple[float, float],
        text: str = "",
        at: tuple[float, float] = (0, 0),
        ha: Literal["left", "right"] = "left",
    ) -> None:
        *line, before, last = path
        if line:
            axes.plot(*zip(*line, before, strict=True), **thin)
        head = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "color": "black"}
        axes.annotate("", last, before, arrowprops=head, zorder=2)
        axes.text(*at, text, fontsize=8, ha=ha, va="center")

    def linear(x: float, y: float, kind: str, out: int, inputs: int) -> None:
        box(x, y, 1.75, 1.1, f"{kind.replace('_', '_' + chr(10), 1)}\n({out}, {inputs})", True)

    per_head = f"{heads} × {shape.head_size}"
    for x, kind in ((0.2, "query"), (2.2, "key"), (4.2, "value")):
        linear(x, 2.75, kind, hidden, hidden)
        arrow((x + 0.87, 2.1), (x + 0.87, 2.75))
        arrow((x + 0.87, 3.85), (x + 0.87, 5.05), text=per_head, at=(x + 0.97, 4.4))
    axes.plot([1.07, 5.07], [2.1, 2.1], **thin)
    axes.plot([1.07, 1.07], [1.25, 2.1], **thin)
    axes.text(1.2, 1.65, f"read {hidden}", fontsize=8, va="center")
    score = f"query · key $/\\sqrt{{{shape.head_size}}}$, softmax:\nwho listens to whom"
    box(0.3, 5.1, 3.55, 1.1, score, False)
    box(4.3, 5.1, 1.55, 1.1, "weighted\nmean of\nvalues", False)
    arrow((3.9, 5.65), (4.25, 5.65))
    linear(6.3, 2.75, "attention_output", hidden, hidden)
    arrow((5.9, 5.65), (7.17, 5.65), (7.17, 3.85), text=f"{hidden}", at=(7.27, 4.6))
    arrow((7.17, 2.75), (7.17, 1.1), text=f"write {hidden}", at=(7.07, 1.9), ha="right")

    linear(9.3, 2.75, "intermediate", inner, hidden)
    box(9.65, 5.1, 1.05, 1.1, "GELU", False)
    linear(11.6, 2.75, "output", hidden, inner)
    arrow((10.17, 1.25), (10.17, 2.75), text=f"read {hidden}", at=(10.27, 1.9))
    arrow((10.17, 3.85), (10.17, 5.05), text=f"{inner}", at=(10.07, 4.4), ha="right")
    arrow((10.75, 5.65), (12.47, 5.65), (12.47, 3.85), text=f"{inner}", at=(12.57, 4.6))
    arrow((12.47, 2.75), (12.47, 1.1), text=f"write {hidden}", at=(12.57, 1.9))

    for x in (7.17, 12.47):
        axes.plot(x, 0.8, marker="o", markersize=12, color="white", markeredgecolor="black")
        axes.text(x, 0.78, "+", ha="center", va="center", fontsize=11)
    box(7.6, 0.4, 0.85, 0.8, "Layer-\nNorm", False)
    box(12.85, 0.4, 0.85, 0.8, "Layer-\nNorm", False)
    axes.text(
        3.4, 0.8, f"residual stream: {hidden} numbers per token", ha="center", va="center",
        fontsize=8, bbox={"facecolor": "#d9d9d9", "edgecolor": "none", "pad": 1.5},
    )  # fmt: skip
    for x, end, name in ((0.2, 8.05, "attention"), (9.3, 13.35, "feed-forward")):
        axes.plot([x, x, end, end], [6.75, 6.95, 6.95, 6.75], **thin)
        axes.text((x + end) / 2, 7.35, name, ha="center", va="center", fontsize=10)


def what_goes_with_a_unit(axes: Axes) -> None:
    """Which rows, columns and biases of a layer's matrices go with one unit of each kind.

    Matrices are drawn (out, in) and to scale for an intermediate size of four hidden sizes,
    with the bias as a thin strip at the right. Black is what goes.
    """
    axes.set(xlim=(-0.1, 10.35), ylim=(-0.75, 5.25), aspect="equal")
    axes.axis("off")

    def matrix(
        x: float,
        y: float,
        width: float,
        height: float,
        name: str,
        row: float | None = None,
        column: float | None = None,
        bias_goes: bool = True,
    ) -> None:
        axes.add_patch(Rectangle((x, y), width, height, facecolor=LIGHT, edgecolor=DARK))
        bias = Rectangle((x + width + 0.06, y), 0.1, height, facecolor=LIGHT, edgecolor=DARK)
        axes.add_patch(bias)
        if row is not None:
            axes.add_patch(Rectangle((x, y + row), width, 0.08, color="black"))
            if bias_goes:
                axes.add_patch(Rectangle((x + width + 0.06, y + row), 0.1, 0.08, color="black"))
        if column is not None:
            axes.add_patch(Rectangle((x + column, y), 0.08, height, color="black"))
        axes.text(x + width / 2, y - 0.08, name, ha="center", va="top", fontsize=8)

    def title(at: tuple[float, float], text: str) -> None:
        axes.text(*at, text, fontsize=9, va="bottom", fontweight="bold")

    title((0, 4.25), "a query-key pair")
    matrix(0, 3, 1, 1, "query", row=0.6)
    matrix(1.6, 3, 1, 1, "key", row=0.6)
    title((0, 1.25), "a value unit")
    matrix(0, 0, 1, 1, "value", row=0.6)
    matrix(1.6, 0, 1, 1, "attention_output", column=0.35)
    title((4.0, 4.25), "an intermediate unit")
    matrix(4.0, 0, 1, 4, "intermediate", row=2.4)
    matrix(5.9, 3, 4, 1, "output", column=1.6)
    title((5.9, 1.25), "an output unit")
    matrix(5.9, 0, 4, 1, "output", row=0.6, bias_goes=False)
    axes.annotate(
        "its place\nin the\nbias stays", (10.02, 0.68), (9.9, 1.85), fontsize=8, ha="center",
        va="center", arrowprops={"arrowstyle": "-|>", "shrinkB": 2, "color": "black"},
    )  # fmt: skip


def where_parameters_are(axes: Axes, counts: dict[str, Parameters]) -> None:
    """Shares of embeddings, encoder and head in the parameters of some models, one bar each."""
    parts = {"embeddings": "//", "encoder": "", "head": "xxxx"}
    names = [f"{name}\n{count.total / 1e6:.1f} M" for name, count in counts.items()]
    left = np.zeros(len(counts))
    for part, hatch in parts.items():
        shares = np.array([100 * getattr(c, part) / c.total for c in counts.values()])
        color = LIGHT if part == "encoder" else "white"
        style: dict[str, Any] = {"color": color, "edgecolor": DARK, "hatch": hatch, "height": 0.6}
        axes.barh(names, shares, left=left, label=part, **style)
        for place, share in enumerate(shares):
            if share > 5:
                axes.text(
                    left[place] + share / 2, place, f"{share:.0f} %", ha="center", va="center",
                    bbox={"facecolor": color, "edgecolor": "none", "pad": 2},
                )  # fmt: skip
        left += shares
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="share of all parameters (%)")
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1), handleheight=1.2)


def two_fractions(
    axes: Axes, counts: dict[str, Parameters], published: Sequence[tuple[str, float, str, str]] = ()
) -> None:
    """What stays of everything against what stays of the encoder, one line per model.

    ``published`` holds (model, keep_total, marker, label): points put on the model's line, with
    their labels above the highest line that has any and below the others.
    """
    floors = {name: 100 * (1 - count.encoder / count.total) for name, count in counts.items()}
    highest = max((floors[name] for name, *_ in published), default=0)
    for name, floor in floors.items():
        (line,) = axes.plot([0, 100], [floor, 100], label=name)
        slope = np.degrees(np.arctan((100 - floor) / 100))
        axes.text(
            1.5, floor + 3, name, color=line.get_color(), fontsize=9, va="bottom",
            rotation=slope, rotation_mode="anchor", transform_rotates_text=True,
        )  # fmt: skip
    for name, keep_total, marker, label in published:
        point = (100 - 100 * (100 - 100 * keep_total) / (100 - floors[name]), 100 * keep_total)
        axes.plot(*point, marker=marker, color="black", markersize=8, linestyle="none")
        above = floors[name] == highest
        place: dict[str, Any] = {
            "xytext": (-9, 3) if above else (9, -3),
            "ha": "right" if above else "left",
        }
        axes.annotate(
            label, point, textcoords="offset points", fontsize=9, va="bottom" if above else "top",
            **place,
        )  # fmt: skip
    axes.set(xlim=(0, 100), ylim=(0, 101), xlabel="stays of the encoder (%)")
    axes.set_ylabel("stays of all parameters (%)")


def token_bars(
    axes: Axes, tokens: Sequence[str], values: np.ndarray, hatched: Sequence[int] = ()
) -> None:
    """Outputs of one unit at the tokens of a text, one bar each; places in ``hatched`` differ."""
    color, hatch = [DARK] * len(tokens), [""] * len(tokens)
    for place in hatched:
        color[place], hatch[place] = "white", "////"
    bars: dict[str, Any] = {"color": color, "edgecolor": DARK, "hatch": hatch, "width": 0.7}
    axes.bar(range(len(tokens)), np.asarray(values), **bars)
    axes.axhline(0, color="black", linestyle="-", linewidth=0.8)
    many = len(tokens) > 14
    axes.set_xticks(range(len(tokens)), tokens, rotation=90 if many else 35, ha="center")
    axes.tick_params(axis="x", labelsize=8 if many else 9, length=0)
    axes.set(xlabel="token", ylabel="output")


def token_strips(
    axes: Axes, rows: Sequence[tuple[Sequence[str], np.ndarray]], shown: float = 1.0
) -> None:
    """Texts, one per line, every token on a shade of its output: the darker, the larger.

    ``rows`` holds (tokens, values) pairs. Zero and less stay white; outputs of at least ``shown``
    are written above their token.
    """
    highest = max(float(np.max(values)) for _, values in rows)
    shades = plt.get_cmap("Blues")
    longest = 0.0
    for line, (tokens, values) in enumerate(rows):
        left = 0.0
        for token, value in zip(tokens, values, strict=True):
            width = len(token) + 0.9
            strength = max(0.0, float(value)) / highest
            box: dict[str, Any] = {
                "facecolor": shades(0.95 * strength),
                "edgecolor": "#999999",
                "linewidth": 0.4,
            }
            axes.add_patch(Rectangle((left, line - 0.3), width, 0.6, **box))
            ink: dict[str, Any] = {
                "ha": "center",
                "va": "center",
                "family": "monospace",
                "fontsize": 7.5,
            }
            color = "white" if strength > 0.55 else "black"
            axes.text(left + width / 2, line, token, color=color, **ink)
            if value >= shown:
                number = f"{value:.1f}" if value < 10 else f"{value:.0f}"
                axes.text(left + width / 2, line - 0.36, number, fontsize=7, ha="center")
            left += width + 0.25
        longest = max(longest, left)
    axes.set(xlim=(-0.2, longest), ylim=(len(rows) - 0.55, -0.8))
    axes.axis("off")


def lines_by_layer(axes: Axes, lines: dict[str, Sequence[float]], label: str) -> None:
    """One line with markers for each name, over the layers."""
    for (name, values), marker in zip(lines.items(), "os^Dvx", strict=False):
        axes.plot(range(len(values)), values, marker=marker, markersize=6, label=name)
    axes.set_xticks(range(max(len(values) for values in lines.values())))
    axes.set(xlabel="layer", ylabel=label)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), handlelength=3)


def sorted_maxima(axes: Axes, largest: np.ndarray, middle: np.ndarray) -> None:
    """Largest sizes of outputs of all units in falling order, over the median sizes of the same."""
    order = np.argsort(-np.asarray(largest))
    ranks = np.arange(1, len(order) + 1)
    shown = np.unique(np.geomspace(1, len(order), 400).astype(int)) - 1
    axes.plot(ranks, largest[order], color="black", linestyle="-", linewidth=1.8, label="largest")
    medians = np.maximum(middle[order][shown], 1e-3)  # zeros would have no place on the axis
    axes.plot(ranks[shown], medians, ".", color="#7a7a7a", markersize=4, label="median")
    axes.set(xscale="log", yscale="log", xlabel="rank of the unit by its largest output")
    axes.set_ylabel("size of outputs")
    axes.legend(title="of one unit:", loc="upper right")


def quantiles_by_layer(quantiles: dict[str, np.ndarray]) -> Figure:
    """Bands of five quantiles over the layers, one panel for each kind.

    Each array is (layers, 5), the quantiles in rising order: the outer two bound the light band,
    the next two the dark one, and the middle one is the line.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    panels = figure.subplots(2, 3, squeeze=False, sharex=True).ravel()
    for axes, (kind, rows) in zip(panels, quantiles.items(), strict=False):
        layers = np.arange(len(rows))
        low, first, median, third, high = rows.T
        axes.fill_between(layers, low, high, color=LIGHT, linewidth=0)
        axes.fill_between(layers, first, third, color="#6f9cc0", linewidth=0)
        axes.plot(layers, median, "-o", color="black", markersize=4, linewidth=1.2)
        axes.set_title(kind, fontsize=10)
        axes.set_xticks(layers)
    figure.supxlabel("layer", fontsize=10)
    figure.supylabel("output", fontsize=10)
    return figure


def two_classes(axes: Axes, outputs: dict[str, np.ndarray], bins: int = 24) -> None:
    """Histograms of two classes over each other: the first plain, the second hatched."""
    edges = np.histogram_bin_edges(np.concatenate(list(outputs.values())), bins)
    looks: tuple[dict[str, Any], ...] = (
        {"facecolor": LIGHT, "edgecolor": DARK, "linewidth": 0.6, "linestyle": "-"},
        {"facecolor": "none", "edgecolor": "black", "hatch": "////", "linestyle": "-"},
    )
    for (name, values), look in zip(outputs.items(), looks, strict=True):
        axes.hist(values, edges.tolist(), histtype="stepfilled", label=name, **look)


def ragged_heatmap(figure: Figure, axes: Axes, outputs: Sequence[np.ndarray]) -> None:
    """Outputs of one unit, a row per text: dark is high, hatched is after the text's end."""
    longest = max(map(len, outputs))
    table = np.full((len(outputs), longest), np.nan)
    for shown, values in zip(table, outputs, strict=True):
        shown[: len(values)] = values
    image = axes.imshow(table, aspect="auto", cmap="Greys", interpolation="none")
    for row, values in enumerate(outputs):
        place, width = (len(values) - 0.5, row - 0.5), longest - len(values)
        blank: dict[str, Any] = {
            "facecolor": "white",
            "edgecolor": "#999999",
            "hatch": "///",
            "linewidth": 0,
        }
        axes.add_patch(Rectangle(place, width, 1, **blank))
    axes.set(xlabel="token", ylabel="text", yticks=range(len(outputs)))
    axes.spines[["left", "bottom"]].set_visible(False)
    figure.colorbar(image, ax=axes, label="output")


def rank_matrix(axes: Axes, names: Sequence[str], values: np.ndarray) -> None:
    """A table of rank correlations: the number in each cell, and a grey for it."""
    axes.imshow(np.abs(values), cmap="Greys", vmin=0, vmax=1.3)
    for (row, column), value in np.ndenumerate(values):
        ink = "white" if abs(value) > 0.75 else "black"
        shown = f"{value:.1f}".replace("-0.0", "0.0")
        axes.text(column, row, shown, color=ink, ha="center", va="center")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
