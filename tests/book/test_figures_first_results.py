"""The figures of the chapter on first results draw the numbers that they are given."""

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


def test_shares_of_dense_are_percent_of_the_dense_metric(axes):
    def record(metric, **values):
        return {"stages": {n: {"value": v, "metric": metric} for n, v in values.items()}}

    records = {
        "one": record("accuracy", dense=0.8, cut=0.4, repaired=0.6, finetuned=0.88),
        "two": record("pearson", dense=0.5, cut=-0.1, repaired=0.5),
    }
    figures.shares_of_dense(axes, records)
    assert points(axes, "x") == [(50, 0), (-20, 1)]
    assert points(axes, "o") == [(75, 0), (100, 1)]
    assert points(axes, "D") == [(110, 0)]
    assert labels(axes) == ["one\naccuracy", "two\nPearson"]
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert named == ["cut", "cut, repaired", "cut, repaired, fine-tuned"]
    assert axes.get_xlim()[0] < -20, "a negative share is in the picture"


def test_before_and_after_draws_two_circles_a_row(axes):
    figures.before_and_after(axes, {"a": (10, 60), "b": (20, 50)}, 70)
    assert points(axes, "o") == [(10, 0), (60, 0), (20, 1), (50, 1)]
    faces = [li.get_markerfacecolor() for li in axes.get_lines() if li.get_marker() == "o"]
    assert faces == ["white", figures.DARK] * 2
    dashed = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in dashed] == [70]
    assert labels(axes) == ["a", "b"]


def test_trial_rows_read_the_main_metric(axes):
    row = {"cut": {"pearson": 0.1, "spearmanr": 0.2}, "repaired": {"pearson": 0.3, "spearmanr": 0}}
    figures.trial_rows(
        axes, {"task": "stsb", "dense": {"pearson": 0.9, "spearmanr": 0}}, {"r": row}
    )
    assert points(axes, "o") == [(10, 0), (30, 0)]
    assert axes.get_xlabel() == "Pearson (%)" and axes.get_title() == "stsb, dev"


def test_sizes_and_scores_name_every_model(axes):
    figures.sizes_and_scores(axes, [("big", 110, 92, "o"), ("ours", 17, 86, "s")], {"big": "left"})
    assert points(axes, "o") == [(110, 92)] and points(axes, "s") == [(17, 86)]
    assert [text.get_text() for text in axes.texts] == ["big", "ours"]
    assert [text.get_ha() for text in axes.texts] == ["right", "left"]
    assert axes.get_xlabel() == "parameters (millions)" and axes.get_xlim()[0] == 0
