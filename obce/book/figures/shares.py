"""Figures of the chapter on persistence shares: a layer's tree, and what each unit has of it."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from matplotlib.axes import Axes

from obce import homology
from obce.plots.style import DARK, LIGHT

HATCHES = ("", "///", "...", "xx")


def edges_and_legs(axes: Axes, points: np.ndarray, edges: np.ndarray, names: list[str]) -> None:
    """A cloud in the plane with its tree; the legs of each edge are what the two units add to it.

    Args:
        points: ``(n, 2)``, a coordinate for each unit.
        edges: ``(n - 1, 2)`` pairs of points, as ``obce.homology.spanning_tree`` gives them.
        names: one per point.
    """
    for i, j in edges:
        corner = points[j, 0], points[i, 1]
        for end in (points[i], points[j]):
            axes.plot(*np.transpose([end, corner]), ":", color="black", linewidth=1.2)
        axes.plot(*points[[i, j]].T, "-", color=DARK, linewidth=2.5, zorder=2)
        squared = np.sum((points[i] - points[j]) ** 2)
        axes.annotate(
            f"{squared:g}", points[[i, j]].mean(axis=0), ha="center", va="center", zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    axes.plot(*points.T, "o", color="black", markersize=6, zorder=3)
    middle = points.mean(axis=0)
    for point, name in zip(points, names, strict=True):
        below = point[1] < middle[1]
        axes.annotate(
            name, point, (0, -8 if below else 8), textcoords="offset points", ha="center",
            va="top" if below else "bottom",
        )  # fmt: skip
    axes.set(aspect="equal", xlabel="unit 0", ylabel="unit 1")
    axes.margins(0.16, 0.24)


def split_edges(axes: Axes, points: np.ndarray, edges: np.ndarray, names: list[str]) -> None:
    """Each edge's squared length as a bar, split into what the units add; below it the sum.

    Args:
        points: ``(n, units)``, up to four units.
        edges, names: as for :func:`edges_and_legs`.
    """
    parts = (points[edges[:, 0]] - points[edges[:, 1]]) ** 2  # (edges, units)
    rows = [*parts, parts.sum(axis=0)]
    labels = [f"{names[i]}, {names[j]}" for i, j in edges] + ["all edges"]
    start = np.zeros(len(rows))
    for unit, part in enumerate(np.transpose(rows)):
        bars = axes.barh(
            range(len(rows)), part, left=start, color=DARK if unit == 0 else LIGHT,
            edgecolor=DARK, hatch=HATCHES[unit], label=f"unit {unit}",
        )  # fmt: skip
        told = [f"{value:g}" if value >= 0.04 * sum(rows[-1]) else "" for value in part]
        for text in axes.bar_label(bars, told, label_type="center"):
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
        start += part
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    axes.axhline(len(rows) - 1.5, color="black", linewidth=1)
    axes.set_xlabel("squared length")
    axes.legend(loc="upper right")


def total_by_power(axes: Axes, points: np.ndarray, unit: int, largest: float = 2.0) -> None:
    """Total persistence of degree 2 against the square of the factor that a unit is multiplied by.

    Each thin line is the sum of squared lengths of one spanning tree; the total persistence is the
    lowest of them. The dashed line is its tangent at 1: the slope is the unit's share, and where it
    meets the left edge stands the bound for the silenced unit.

    Args:
        points: ``(n, units)``, a layer's cloud of a few points, since all trees are drawn.
        unit: the coordinate that is multiplied.
        largest: squared factor at the right edge.
    """
    powers = np.linspace(0, largest, 201)
    squares = np.array([(points[i] - points[j]) ** 2 for i, j in _pairs(len(points))])
    rest = np.delete(squares, unit, axis=1).sum(axis=1)
    lines = [
        rest[list(tree)].sum() + powers * squares[list(tree), unit].sum()
        for tree in _spanning_trees(len(points))
    ]
    totals = np.min(lines, axis=0)
    shares = homology.persistence_shares(points)
    total, share = shares.sum(), shares[unit]
    for number, line in enumerate(lines):
        axes.plot(
            powers, line, "-", color="#999999", linewidth=0.7, zorder=1,
            label="any spanning tree" if number == 0 else None,
        )  # fmt: skip
    axes.plot(powers, totals, "-", color=LIGHT, linewidth=7, label="total persistence", zorder=2)
    tangent = total + share * (powers - 1)
    axes.plot(powers, tangent, "--", color="black", linewidth=1.6, label="tangent at 1")
    marks = [
        (1, total, "as it is", (4, -8), "left", "top"),
        (0, total - share, "bound", (-8, 0), "right", "center"),
        (0, totals[0], "silent", (-8, 0), "right", "center"),
    ]
    for power, height, text, offset, ha, va in marks:
        axes.plot(power, height, "o", color="black", markersize=6, zorder=4, clip_on=False)
        axes.annotate(
            f"{text}: {height:g}", (power, height), offset, textcoords="offset points", ha=ha,
            va=va,
        )  # fmt: skip
    axes.set(xlim=(-0.22 * largest, largest), ylim=(0, 1.15 * totals[-1]))
    axes.set_xticks(np.linspace(0, largest, 5))
    axes.set(xlabel="square of the factor, $k^2$", ylabel="sum of squared lengths")
    axes.legend(loc="lower right")


def _pairs(n: int) -> list[tuple[int, int]]:
    return list(combinations(range(n), 2))


def _spanning_trees(n: int) -> list[tuple[int, ...]]:
    """All spanning trees of n points, each as the numbers of its edges among ``_pairs``."""
    pairs = _pairs(n)
    found = []
    for tree in combinations(range(len(pairs)), n - 1):
        incidence = np.zeros((n, n - 1))
        for column, edge in enumerate(tree):
            incidence[list(pairs[edge]), column] = 1, -1
        if np.linalg.matrix_rank(incidence) == n - 1:  # no cycle
            found.append(tree)
    return found


def held_by_units(axes: Axes, shares: dict[str, np.ndarray]) -> None:
    """How much of the total the units with the largest shares hold together.

    Args:
        shares: name -> ``(units,)`` >= 0. Both axes are in percent; the dotted line is half.
    """
    axes.axhline(50, color="black", linestyle=":", linewidth=1)
    for marker, (name, values) in zip("osD^vX", shares.items(), strict=False):
        held = np.cumsum(np.sort(values)[::-1]) / values.sum()
        units = np.arange(len(values) + 1) / len(values)
        axes.plot(
            100 * units, 100 * np.append(0, held), linewidth=1.3, label=name, marker=marker,
            markevery=(0.02, 0.16), markersize=5.5, markerfacecolor="white",
        )  # fmt: skip
    axes.plot([0, 100], [0, 100], color="#999999", linestyle="-", linewidth=1, zorder=0)
    axes.set(xlim=(0, 100), ylim=(0, 101))
    axes.set_xlabel("units, largest share first (%)")
