"""Figures of the chapter on whether an explanation holds: the numbers that they draw, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from obce.book import figures


def rows(*heights):
    return [
        {"silent": part, "metric": {"value": metric}, "log divergence": {"value": np.log(moved)}}
        for part, metric, moved in heights
    ]


CURVES = {
    f"{name}, {end}": rows((0.1, 0.9, moved), (0.5, 0.8, 4 * moved))
    for name in ("persistence share", "merge radius", "std")
    for end, moved in (("bottom", 0.01), ("top", 1.0))
} | {
    "random 0": rows((0.1, 0.9, 0.1), (0.5, 0.6, 1.0)),
    "random 1": rows((0.1, 0.7, 0.4), (0.5, 0.6, 1.0)),
}


@pytest.mark.parametrize("end, first", [("bottom", 0.01), ("top", 1.0)])
def test_curves_are_those_of_one_end_and_random_ones_are_averaged(end, first):
    axes = Figure().subplots()
    figures.silence_curves(axes, CURVES, end, "divergence")
    drawn = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert set(drawn) == {"persistence share", "merge radius", "std × norm", "random"}
    assert drawn["merge radius"] == pytest.approx(np.array([[10, first], [50, 4 * first]]))
    assert drawn["random"][:, 1] == pytest.approx([0.2, 1.0])  # the mean of the logarithms
    assert axes.get_yscale() == "log"


def test_the_metric_is_in_percent_and_lines_differ_without_colour():
    axes = Figure().subplots()
    figures.silence_curves(axes, CURVES, "bottom", "metric")
    drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert drawn["random"] == pytest.approx([80, 60])
    assert drawn["persistence share"] == pytest.approx([90, 80])
    assert len({(line.get_marker(), line.get_linestyle()) for line in axes.lines}) == 4
    assert axes.get_yscale() == "linear"
