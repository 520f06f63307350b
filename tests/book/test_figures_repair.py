"""Figures of the chapter on repair: the numbers that they draw, by hand."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from obce.book import figures

# unit 1 is unit 0 plus one, but for one up or down
STAYS = np.array([0.0, 1, 2, 4, 5, 6])
GONE = np.array([2.0, 1, 2, 6, 7, 6])


@pytest.fixture
def axes():
    yield Figure().subplots()
    plt.close("all")


def lines(axes) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_the_line_of_least_squares_and_what_it_misses(axes):
    figures.one_unit_by_another(axes, STAYS, GONE, list("abcdef"))
    x, guess = lines(axes)["least squares"].T
    assert guess == pytest.approx(x + 1)
    assert lines(axes)["best constant"][:, 1] == pytest.approx([4, 4])
    missed = [line.get_ydata() for line in axes.lines if line.get_linestyle() == ":"]
    assert [end - start for start, end in missed] == pytest.approx([1, -1, -1, 1, 1, -1])
    assert [text.get_text() for text in axes.texts] == list("abcdef")
    looks = [line.get_linestyle() for line in axes.lines if line.get_label()[0] != "_"]
    assert sorted(looks) == ["-", "--"]  # told apart without colour


def test_a_mean_and_a_median_stand_where_they_are(axes):
    values, special = np.array([0.0, 0.1, -0.1, 0.2, 20.0]), np.array([False] * 4 + [True])
    figures.outputs_and_middles(axes, values, special)
    dots = [line for line in axes.lines if line.get_marker() in ("o", "^")]
    assert [len(line.get_xdata()) for line in dots] == [4, 1]
    assert dots[1].get_xdata().tolist() == [20.0]
    upright = [line for line in axes.lines if line not in dots]
    assert [line.get_xdata()[0] for line in upright] == pytest.approx([0.1, 4.04])
    assert {line.get_linestyle() for line in upright} == {"-", "--"}
    assert [text.get_text() for text in axes.texts] == ["median 0.10", "mean 4.04"]
    left, _ = axes.get_xlim()
    assert left < -2  # the word beside the median has room


def test_the_lowest_point_of_each_line_has_a_ring(axes):
    ridges = [0.01, 0.1, 1.0]
    errors = {"fit": [1.0, 5.0, 30.0], "others": [90.0, 60.0, 70.0]}
    figures.errors_by_ridge(axes, ridges, errors)
    assert lines(axes)["others"][:, 1].tolist() == errors["others"]
    rings = [tuple(line.get_xydata()[0]) for line in axes.lines if line.get_markersize() == 13]
    assert rings == [(0.01, 1.0), (0.1, 60.0)]
    drawn = [line for line in axes.lines if line.get_label() in errors]
    assert len({(line.get_marker(), line.get_linestyle()) for line in drawn}) == 2
    assert axes.get_xscale() == "log"
