"""The drawings of the chapter on what a neuron is: what they say, and where they put it."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from obce.book import figures
from obce.units import Parameters, Shape

COUNTS = {"small": Parameters(100, 50, 48, 2), "large": Parameters(1000, 800, 190, 10)}


@pytest.fixture
def axes():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def texts(axes) -> list[str]:
    return [text.get_text().replace("_\n", "_") for text in axes.texts]


def test_layer_names_maps_and_widths(axes):
    figures.bert_layer(axes, Shape(1, 6, 3, 10))
    said = texts(axes)
    for kind, weight in {
        "query": "(6, 6)",
        "key": "(6, 6)",
        "value": "(6, 6)",
        "attention_output": "(6, 6)",
        "intermediate": "(10, 6)",
        "output": "(6, 10)",
    }.items():
        assert f"{kind}\n{weight}" in said
    assert said.count("3 × 2") == 3
    assert said.count("read 6") == said.count("write 6") == said.count("10") == 2
    assert said.count("+") == 2


def black(axes) -> list[tuple[float, float]]:
    """(width, height) of what goes."""
    return [
        (patch.get_width(), patch.get_height())
        for patch in axes.patches
        if isinstance(patch, Rectangle) and patch.get_facecolor() == (0, 0, 0, 1)
    ]


def test_rows_columns_and_biases_that_go(axes):
    figures.what_goes_with_a_unit(axes)
    stripes = black(axes)
    rows = sorted(width for width, height in stripes if height == 0.08 and width > 0.1)
    columns = sorted(height for width, height in stripes if width == 0.08)
    biases = [1 for width, height in stripes if (width, height) == (0.1, 0.08)]
    assert rows == [1, 1, 1, 1, 4]  # query, key, value, intermediate; output
    assert columns == [1, 1]  # of attention_output and output
    assert len(biases) == 4  # that of the output unit stays
    assert "its place\nin the\nbias stays" in texts(axes)


def test_bars_of_parameters_reach_a_hundred_percent(axes):
    figures.where_parameters_are(axes, COUNTS)
    widths = np.reshape([patch.get_width() for patch in axes.patches], (3, 2))
    assert widths.T.tolist() == [[48, 50, 2], [19, 80, 1]]
    assert texts(axes) == ["48 %", "19 %", "50 %", "80 %"]  # slivers go without a number
    assert len({patch.get_hatch() for patch in axes.patches}) == 3


def test_lines_of_two_fractions_and_published_points(axes):
    published = [("small", 0.75, "o", "half"), ("large", 0.6, "^", "also half")]
    figures.two_fractions(axes, COUNTS, published)
    small, large, *points = axes.lines
    assert small.get_ydata().tolist() == [50, 100]
    assert large.get_ydata() == pytest.approx([20, 100])
    assert [float(point.get_xdata()[0]) for point in points] == pytest.approx([50, 50])
    assert [point.get_marker() for point in points] == ["o", "^"]
    assert texts(axes) == ["small", "large", "half", "also half"]


def test_lines_without_published_points(axes):
    figures.two_fractions(axes, COUNTS)
    assert len(axes.lines) == 2
