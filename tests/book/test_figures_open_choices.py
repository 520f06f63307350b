"""Figures of the chapter on what the paper leaves open: the numbers that they draw."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from obce.book import figures


@pytest.fixture
def axes():
    yield Figure().subplots()
    plt.close("all")


def drawn(axes, marker: str) -> list:
    """The points that are drawn with a marker, those of the legend left out."""
    found = [line.get_xydata() for line in axes.lines if line.get_marker() == marker]
    return [tuple(map(float, point)) for points in found for point in points]


def test_a_row_for_each_choice_and_a_mark_for_each_task(axes):
    groups = {"texts": {"25": {"mrpc": 4.0, "stsb": 3.0}}, "": {"none": {"stsb": 9.0}}}
    figures.one_at_a_time(axes, groups, ["stsb", "mrpc"], (0.8, 1.25))
    ticks = [label.get_text() for label in axes.get_yticklabels()]
    assert ticks == ["TEXTS", "25", "none"]
    (few, row), (none, below) = drawn(axes, "o")
    assert (few, none) == (3, 9) and row < below
    assert drawn(axes, "s") == [(4, row)]
    assert axes.patches[0].get_extents().width > 0  # the band of the draws
    assert axes.get_legend_handles_labels()[1] == ["STS-B", "MRPC"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first row stands on top"


def test_infinity_stands_last(axes):
    figures.along_a_setting(axes, {"stsb": {1: 0.2, math.inf: 0.5, 4: 0.3}}, ["stsb", "mrpc"])
    (line,) = axes.lines
    assert line.get_ydata().tolist() == [0.2, 0.3, 0.5]
    assert np.all(np.diff(line.get_xdata()) > 0)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "4", "∞"]


def test_levels_by_geometric_means(axes):
    found = {"std": [{"mrpc": 0.1, "stsb": 0.4}, {"mrpc": 1.0, "stsb": 1.0}]}
    figures.by_level(axes, found, ["light", "severe"])
    assert axes.lines[0].get_ydata() == pytest.approx([0.2, 1.0])
    assert sorted(y for _, y in drawn(axes, "_")) == [0.1, 0.4, 1.0, 1.0]


def test_two_choices_at_once(axes):
    figures.two_by_two(axes, {"a": (2.0, 0.5), "b": (3.0, 0.1)})
    assert [line.get_ydata().tolist() for line in axes.lines] == [[2.0, 0.5], [3.0, 0.1]]
    assert len({line.get_marker() for line in axes.lines}) == 2
