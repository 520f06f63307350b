"""The figures of the chapter on GLUE draw the numbers that they are given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest

from obce.book import figures


@pytest.fixture
def axes():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def points(axes, marker):
    """The points drawn with a marker, as rounded (x, y)."""
    lines = [line for line in axes.get_lines() if line.get_marker() == marker]
    return [tuple(round(float(v), 3) for v in line.get_xydata()[0]) for line in lines]


def labels(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def test_what_is_left_of_what_was_learned(axes):
    def task(one_answer, **ways):
        small = {way: {"value": value} for way, value in ways.items()}
        return {"dense": 80.0, "one answer": one_answer, "46.5": small}

    tasks = {
        "mrpc": task(60.0, random=60.0, repaired=75.0, labels=82.0),
        "stsb": task(0.0, repaired=40.0),
    }
    figures.learned(axes, tasks, "46.5")
    assert points(axes, "x") == [(0, 0)]
    assert points(axes, "o") == [(75, 0), (50, 1)]
    assert points(axes, "D") == [(110, 0)]
    assert labels(axes) == ["MRPC", "STS-B"]
    named = [text.get_text() for text in axes.legend().get_texts()]
    assert named == ["random units, repaired", "chosen units, repaired", "and trained again"]


def test_before_and_after_draws_two_circles_a_row(axes):
    figures.before_and_after(axes, {"a": (10, 60), "b": (20, 50)}, 70)
    assert points(axes, "o") == [(10, 0), (60, 0), (20, 1), (50, 1)]
    faces = [li.get_markerfacecolor() for li in axes.get_lines() if li.get_marker() == "o"]
    assert faces == ["white", figures.DARK] * 2
    dashed = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in dashed] == [70]
    assert labels(axes) == ["a", "b"]


def test_sizes_and_scores_name_every_model(axes):
    figures.sizes_and_scores(axes, [("big", 110, 92, "o"), ("ours", 17, 86, "s")], {"big": "left"})
    assert points(axes, "o") == [(110, 92)] and points(axes, "s") == [(17, 86)]
    assert [text.get_text() for text in axes.texts] == ["big", "ours"]
    assert [text.get_ha() for text in axes.texts] == ["right", "left"]
    assert axes.get_xlabel() == "parameters (millions)" and axes.get_xlim()[0] == 0


def test_random_plans_of_each_task_stand_in_a_panel(axes):
    def score(value):
        one = {"seeds": [0, 1], "value_runs": [0.5, value], "metric": "accuracy"}
        return {"per_task": {"mrpc": one, "rte": one}}

    drawn, few = {"metrics": [0.6, 0.7, 0.7], "seed": 1, "dense": 0.9}, {"metrics": [0.6]}
    budget = {
        "chance": {"random": {"mrpc": drawn, "cola": few, "rte": drawn}},
        "scores": {"random": score(0.65), "std": score(0.8)},
    }
    figure = figures.drawn_by_task(budget, {"std": "spread"}, draws=3)
    below = [each.get_xlabel() for each in figure.axes]
    assert below == ["MRPC: accuracy (%)", "RTE: accuracy (%)"]
    panel = figure.axes[0]
    assert sum(bar.get_height() for bar in panel.patches) == 3
    assert [text.get_text() for text in panel.texts] == ["spread"]
    assert points(panel, "o")[0][0] == 80
    dashed = [line for line in panel.get_lines() if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in dashed] == [90]
