"""Figures of the chapter on persistence shares: the numbers that they draw, by hand."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from obce import homology
from obce.book import figures
from obce.book.figures.shares import _spanning_trees

# rain, snow, cat, dog: squared edges 9, 16 and 10 = 1 + 9
POINTS = np.array([[0.0, 0.0], [0.0, 3.0], [4.0, 0.0], [5.0, 3.0]])
NAMES = ["rain", "snow", "cat", "dog"]


@pytest.fixture
def axes():
    yield Figure().subplots()
    plt.close("all")


def said(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_each_edge_says_its_square_and_has_its_legs(axes):
    figures.edges_and_legs(axes, POINTS, homology.spanning_tree(POINTS), NAMES)
    assert sorted(said(axes)) == sorted(["9", "16", "10", *NAMES])
    legs = [line.get_xydata() for line in axes.lines if line.get_linestyle() == ":"]
    lengths = sorted(np.abs(np.diff(leg, axis=0)).sum() for leg in legs)
    assert lengths == [0, 0, 1, 3, 3, 4]


def test_edges_split_into_units_and_the_last_bar_adds_up(axes):
    edges = homology.spanning_tree(POINTS)
    figures.split_edges(axes, POINTS, edges, NAMES)
    widths = [[bar.get_width() for bar in container] for container in axes.containers]
    assert widths == [[0, 16, 1, 17], [9, 0, 9, 18]]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["rain, snow", "rain, cat", "cat, dog", "all edges"]
    hatches = [container[0].get_hatch() for container in axes.containers]
    assert hatches[0] != hatches[1]  # told apart without colour


def test_a_bar_too_short_for_its_number_has_none(axes):
    figures.split_edges(axes, POINTS, homology.spanning_tree(POINTS), NAMES)
    assert "1" not in said(axes) and {"9", "16", "17", "18"} <= set(said(axes))


def test_the_total_runs_along_the_lowest_tree_and_below_its_tangent(axes):
    figures.total_by_power(axes, POINTS, unit=0)
    curves = {line.get_label(): line.get_xydata() for line in axes.lines}
    powers, totals = curves["total persistence"].T
    for power, total in zip(powers[::20], totals[::20], strict=True):
        scaled = POINTS * [np.sqrt(power), 1]
        assert total == pytest.approx(np.sum(homology.h0_deaths(scaled) ** 2))
    tangent = curves["tangent at 1"][:, 1]
    assert (totals <= tangent + 1e-9).all()
    assert (tangent[0], tangent[100]) == pytest.approx((35 - 17, 35))
    assert said(axes) == ["as it is: 35", "bound: 18", "silent: 9"]


@pytest.mark.parametrize(("n", "trees"), [(2, 1), (3, 3), (4, 16), (5, 125)])
def test_all_spanning_trees_are_found(n, trees):
    assert len(_spanning_trees(n)) == trees == round(n ** (n - 2))  # Cayley's formula


def test_what_the_largest_hold_goes_from_nothing_to_all(axes):
    figures.held_by_units(axes, {"one": np.array([1.0, 7.0, 2.0]), "equal": np.ones(4)})
    one, equal = [line.get_ydata() for line in axes.lines if line.get_label() in ("one", "equal")]
    assert one.tolist() == pytest.approx([0, 70, 90, 100])
    assert equal.tolist() == pytest.approx([0, 25, 50, 75, 100])
    markers = {line.get_marker() for line in axes.lines if line.get_label() in ("one", "equal")}
    assert len(markers) == 2
