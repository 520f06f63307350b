"""Figures of the chapter on what compression does to people."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from obce.book import figures


@pytest.fixture
def axes():
    return Figure().subplots()


def test_words_stand_in_the_order_of_the_first_model_s_gaps(axes):
    gaps = {"dense": np.array([0.1, -0.2, 0.3]), "small": np.array([0.0, 0.5, 0.1])}
    figures.gaps_by_word(axes, gaps, ["nurse", "cook", "pilot"])
    dense, small = axes.lines[:2]
    np.testing.assert_allclose(dense.get_xdata(), [-0.2, 0.1, 0.3])
    np.testing.assert_allclose(small.get_xdata(), [0.5, 0.0, 0.1])  # the same words' gaps
    assert [text.get_text() for text in axes.get_yticklabels()] == ["cook", "nurse", "pilot"]
    assert dense.get_marker() != small.get_marker()


def test_ratios_are_drawn_as_such_and_filled_where_they_differ_from_1(axes):
    rows = {
        "one": {"value": np.log(2), "interval": [np.log(1.5), np.log(3)], "p by Holm": 0.01},
        "two": {"value": 0.0, "interval": [np.log(0.5), np.log(2)], "p by Holm": 0.9},
    }
    figures.ratios_with_intervals(axes, rows)
    first, dot, second, other = axes.lines[:4]
    np.testing.assert_allclose(first.get_xdata(), [1.5, 3])
    np.testing.assert_allclose(second.get_xdata(), [0.5, 2])
    assert dot.get_xdata()[0] == pytest.approx(2) and other.get_xdata()[0] == pytest.approx(1)
    assert dot.get_markerfacecolor() == "black" and other.get_markerfacecolor() == "white"
    assert dot.get_ydata()[0] > other.get_ydata()[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["one", "two"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.5", "1", "2"]


def test_each_kind_has_a_marker_and_one_entry_in_the_legend(axes):
    curve = {"divergence": [0.01, 0.1], "size": [0.2, 0.3]}
    found = {
        "curves": {"pairs": [curve, curve], "value": [curve]},
        "dense": 0.25, "divergences": [0.02, 0.05],
    }  # fmt: skip
    figures.sizes_by_divergence(axes, found)
    assert axes.get_legend_handles_labels()[1] == ["pairs", "value", "dense"]
    markers = [line.get_marker() for line in axes.lines[:3]]
    assert markers[0] == markers[1] != markers[2]
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "divergence"
    (span,) = axes.patches
    assert span.get_x() == 0.02 and span.get_width() == pytest.approx(0.03)
