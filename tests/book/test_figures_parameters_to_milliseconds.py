"""The figures of the chapter on speed draw the numbers that they are given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from obce.book import figures


@pytest.fixture
def axes():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_roofline_bends_at_the_ridge(axes):
    parts = {"small": {"map": (0.25, 20.0), "norm": (0.5, 30.0)}, "large": {"map": (50.0, 900.0)}}
    figures.roofline(axes, 1000, 100, parts)
    roof = axes.get_lines()[0].get_xydata()
    assert np.allclose(roof[:, 1], np.minimum(1000, 100 * roof[:, 0]))
    assert roof[0, 0] < 0.25 and roof[-1, 0] > 50
    assert axes.get_lines()[1].get_xdata()[0] == 10  # the ridge
    by_marker = {line.get_marker(): line.get_xydata().tolist() for line in axes.get_lines()[2:4]}
    assert by_marker == {"o": [[0.25, 20], [0.5, 30]], "s": [[50, 900]]}
    assert [text.get_text() for text in axes.texts] == ["1", "2", "1"]
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert named == ["small", "large", "1  map", "2  norm"]
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_points_above_the_peak_stay_in_the_picture(axes):
    figures.roofline(axes, 1000, 100, {"one": {"map": (50.0, 9000.0)}})
    assert axes.get_ylim()[1] > 9000


def test_predicted_and_measured(axes):
    measured = {"median": 1.8, "min": 1.5, "max": 2.2}
    figures.predicted_and_measured(axes, [("a", 2.1, measured), ("b", 2.0, measured)])
    marks = {"o": [(2.1, 0), (2.0, 1)], "s": [(1.8, 0), (1.8, 1)]}
    for marker, places in marks.items():
        lines = [line for line in axes.get_lines() if line.get_marker() == marker]
        assert [tuple(line.get_xydata()[0]) for line in lines] == places
    bars = [bar.get_segments()[0].tolist() for bar in axes.collections]
    assert bars == [[[1.5, 0], [2.2, 0]], [[1.5, 1], [2.2, 1]]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert axes.get_xlim()[0] == 0
