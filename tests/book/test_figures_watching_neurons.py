"""The pictures of what units put out: what they draw, label and leave white."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from obce.book import figures
from obce.units import KINDS


@pytest.fixture
def axes():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_a_bar_for_each_token_and_a_hatch_for_padding(axes):
    figures.token_bars(axes, ["[CLS]", "rain", "[PAD]"], [0.5, -1.0, 2.0], hatched=[2])
    assert [bar.get_height() for bar in axes.patches] == [0.5, -1.0, 2.0]
    assert [bar.get_hatch() for bar in axes.patches] == ["", "", "////"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["[CLS]", "rain", "[PAD]"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("token", "output")


def test_strips_are_darker_where_the_output_is_larger_and_write_large_ones(axes):
    figures.token_strips(axes, [(["a", "b"], np.array([-3.0, 4.0])), (["c"], np.array([1.0]))])
    blues = [patch.get_facecolor()[0] for patch in axes.patches]  # less red is darker
    assert blues[1] < blues[2] < blues[0]
    assert [text.get_text() for text in axes.texts] == ["a", "b", "4.0", "c", "1.0"]
    bottom, top = axes.get_ylim()
    assert bottom > top  # the first text stands on top


def test_lines_by_layer_have_names_and_their_own_markers(axes):
    figures.lines_by_layer(axes, {"one": [1, 2, 3], "two": [3, 2, 1]}, "size")
    one, two = axes.get_lines()
    assert one.get_marker() != two.get_marker()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "two"]
    assert list(axes.get_xticks()) == [0, 1, 2]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("layer", "size")


def test_maxima_fall_and_medians_stay_with_their_units(axes):
    figures.sorted_maxima(axes, np.array([2.0, 9.0, 4.0]), np.array([0.2, 0.0, 0.4]))
    line, dots = axes.get_lines()
    assert list(line.get_ydata()) == [9, 4, 2]
    assert list(dots.get_ydata()) == [1e-3, 0.4, 0.2]  # zero is drawn at the floor
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_quantiles_have_a_panel_for_each_kind():
    rows = np.array([[-2.0, -1.0, 0.0, 1.0, 2.0], [-4.0, -1.0, 0.5, 1.0, 4.0]])
    figure = figures.quantiles_by_layer(dict.fromkeys(KINDS, rows))
    assert [axes.get_title() for axes in figure.axes] == list(KINDS)
    for axes in figure.axes:
        assert list(axes.get_lines()[0].get_ydata()) == [0, 0.5]
        assert len(axes.collections) == 2


def test_two_classes_share_their_bins_and_one_is_hatched(axes):
    figures.two_classes(axes, {"bad": np.array([0.0, 0.1]), "good": np.array([1.0, 0.9, 0.8])}, 10)
    bad, good = axes.patches
    assert bad.get_hatch() is None and good.get_hatch() == "////"
    assert bad.get_xy()[:, 0].min() == good.get_xy()[:, 0].min() == 0
    assert axes.get_legend_handles_labels()[1] == ["bad", "good"]
