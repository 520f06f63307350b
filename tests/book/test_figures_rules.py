"""Figures of the chapter on rules."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure

from obce.book import figures


@pytest.fixture
def axes():
    return Figure().subplots()


def test_texts_at_one_place_are_one_disc_with_their_number(axes):
    values = np.array([[0.0, 1.0], [0.0, 1.0], [2.0, 1.0], [0.0, 0.0]])
    figures.two_cuts(axes, values, [1.0, 0.5], np.array([1, 1, 0, 0]), ["one", "other"])
    said = {text.get_position(): text.get_text() for text in axes.texts}
    assert said == {(0, 1): "2", (2, 1): "1", (0, 0): "1"}
    dark = [not same_color(disc.get_facecolor()[0], "white") for disc in axes.collections]
    assert sorted(dark) == [False, False, True]
    assert [text.get_color() for text in axes.texts].count("white") == 1
    across, along = axes.lines
    assert set(across.get_xdata()) == {1.0} and set(along.get_ydata()) == {0.5}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("one", "other")


def test_lines_go_through_medians_and_bars_from_least_to_greatest(axes):
    found = np.array([[0.5, 0.6, 0.9], [0.7, 0.8, 1.0]])
    figures.fidelity_by_leaves(axes, [2, 4], {"bars": found, "words": found / 2}, 0.55, "a task")
    lines = [container[0] for container in axes.containers]
    np.testing.assert_allclose(lines[0].get_ydata(), [60, 80])
    bars = axes.containers[0][2][0].get_segments()
    np.testing.assert_allclose([bar[:, 1] for bar in bars], [[50, 90], [70, 100]])
    assert lines[0].get_marker() != lines[1].get_marker()
    assert axes.get_legend_handles_labels()[1] == ["majority", "bars", "words"]
    assert axes.lines[0].get_ydata()[0] == pytest.approx(55)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["2", "4"]
    assert axes.get_title() == "a task"
