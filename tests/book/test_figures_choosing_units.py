"""Figures of the chapter on choosing units: what a budget leaves, layer by layer."""

from __future__ import annotations

import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

import obce
from obce.book import figures
from obce.units import Shape

KINDS = ("value", "intermediate")


@pytest.fixture
def plans(tiny_bert):
    shape = Shape.of(tiny_bert.config)
    scores = {
        (layer, kind): np.arange(1.0, shape.width(kind) + 1) * (layer + 1)
        for layer in range(shape.layers)
        for kind in KINDS
    }
    return [obce.plan(tiny_bert, scores, percentile=p, scope="global") for p in (50, 0)]


def test_lines_say_which_part_of_each_layer_stays(plans):
    axes = Figure().subplots()
    figures.kept_by_layer(axes, {"half": plans[0], "whole": plans[1]}, "intermediate")
    half, whole = (line.get_ydata() for line in axes.lines)
    counts = [plans[0].counts(layer)["intermediate"] for layer in range(3)]
    np.testing.assert_allclose(half, [100 * count / 40 for count in counts])
    assert list(whole) == [100, 100, 100] and half[0] < half[2]
    plt.close("all")


def test_the_slider_is_whole_without_a_script_and_has_a_frame_for_each_budget(plans):
    page = figures.budget_slider(plans, KINDS, start=1).data
    frames = json.loads(re.search(r"frames = (\[.*\]), slider", page).group(1))
    assert [len(frame["kept"]) for frame in frames] == [6, 6]
    assert set(frames[1]["kept"]) == {110.0}  # full bars
    counts = plans[0].counts(2)
    assert frames[0]["kept"][2] == pytest.approx(110 * counts["value"] / 24, abs=0.1)
    assert frames[0]["kept"][5] == pytest.approx(110 * counts["intermediate"] / 40, abs=0.1)
    shown = re.findall(r'height="([\d.]+)" fill', page)
    assert {float(height) for height in shown} == {110.0} and len(shown) == 6
    assert frames[1]["says"] in page.split("<script>")[0]
    assert 'max="1"' in page and 'value="1"' in page and "NAME" not in page
