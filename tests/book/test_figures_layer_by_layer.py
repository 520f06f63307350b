"""Figures of the chapter that goes layer by layer."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from obce.book import figures


@pytest.fixture
def axes():
    return Figure().subplots()


def test_each_cell_of_a_table_says_its_percentage_and_layer_0_lies_at_the_bottom(axes):
    figures.layer_table(axes, np.array([[0.5, 0.2], [0.0, 0.3]]), ["value", "other"], "a model")
    said = {text.get_position(): text.get_text() for text in axes.texts}
    assert said == {(0, 0): "50", (1, 0): "20", (0, 1): "0.0", (1, 1): "30"}
    assert [text.get_text() for text in axes.get_xticklabels()] == ["value", "other"]
    low, high = axes.get_ylim()
    assert low < high and axes.get_title() == "a model"


def test_numbers_on_dark_cells_are_white(axes):
    figures.layer_table(axes, np.array([[0.9, 0.1]]), ["value", "other"])
    assert [text.get_color() for text in axes.texts] == ["white", "black"]


def test_dots_stand_beside_one_another_and_lines_reach_from_least_to_greatest(axes):
    rows = np.array([[0.5, 0.4, 0.9], [0.2, 0.1, 0.2]])
    figures.dots_with_ranges(axes, {"one": rows, "two": rows + 1})
    dots = [container[0] for container in axes.containers]
    np.testing.assert_allclose(dots[0].get_ydata(), [0.5, 0.2])
    assert all(a < b for a, b in zip(dots[0].get_xdata(), dots[1].get_xdata(), strict=True))
    assert dots[0].get_marker() != dots[1].get_marker()
    bars = axes.containers[0][2][0].get_segments()
    np.testing.assert_allclose([bar[:, 1] for bar in bars], rows[:, 1:])
    assert axes.get_legend_handles_labels()[1] == ["one", "two"]
    assert list(axes.get_xticks()) == [0, 1] and axes.get_xlabel() == "layer"
