"""The drawing functions of the chapter on clouds."""

from __future__ import annotations

from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest

from obce.book import figures


@pytest.fixture
def axes():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_the_heat_map_hatches_what_is_after_the_end(axes):
    figures.ragged_heatmap(axes.figure, axes, [np.arange(3.0), np.arange(5.0)])
    assert [patch.get_width() for patch in axes.patches] == [2, 0]
    assert np.isnan(axes.images[0].get_array().filled(np.nan)[0, 3:]).all()


def test_the_last_merge_is_marked_on_the_line(axes):
    figures.cloud_on_a_line(axes, np.array([4.0, 0.0, 1.0]))
    assert axes.lines[1].get_xdata().tolist() == [1, 4]
    assert [text.get_text() for text in axes.texts] == ["2", "1", "$r_f$ = 3"]


def test_the_matrix_holds_its_numbers(axes):
    figures.rank_matrix(axes, ["a", "b"], np.array([[1, -0.01], [-0.01, 1]]))
    assert [text.get_text() for text in axes.texts] == ["1.0", "0.0", "0.0", "1.0"]


def test_the_sliding_scale_stands_still_below_the_last_merge():
    html = figures.sliding_scale(np.array([3.0, 0.0, 1.0]), ["c <", "a", "b"], "mean").data
    parser = HTMLParser()
    parser.feed(html)
    assert "1 of 3 texts outside the largest" in html and "2 components" in html
    assert "<li>c &lt;</li>" in html and "NAME" not in html
