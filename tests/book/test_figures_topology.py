"""Figures of the chapter that asks whether it is the topology: the numbers that they draw."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from obce.book import figures


@pytest.fixture
def axes():
    yield Figure().subplots()
    plt.close("all")


def points_of(axes):
    """x of each line that is one point, by its height."""
    found = {}
    for line in axes.lines:
        x, y = line.get_data()
        if len(np.atleast_1d(x)) == 1:
            found.setdefault(float(np.atleast_1d(y)[0]), []).append(float(np.atleast_1d(x)[0]))
    return found


def test_all_draws_are_in_the_bars_and_each_score_stands_at_its_value(axes):
    draws = [0.4, 0.5, 0.5, 0.6]
    figures.chance(axes, draws, {"near": 0.1, "far": 0.7})
    assert sum(bar.get_height() for bar in axes.patches) == 4
    assert sorted(x for row in points_of(axes).values() for x in row) == [0.1, 0.7]
    assert [text.get_text() for text in axes.texts] == ["near", "far"]
    assert axes.texts[0].get_ha() == "left" and axes.texts[1].get_ha() == "right"  # inside


def test_each_score_is_a_multiple_of_chance_task_by_task(axes):
    logs = {"random": (0.0, np.log(0.5)), "good": (np.log(0.2), np.log(0.2))}
    budget = {
        "scores": {
            label: {"per_task": {task: {"log_divergence": log}
                                 for task, log in zip(("a", "b"), row, strict=True)}}
            for label, row in logs.items()
        }
    }  # fmt: skip
    figures.beside_random(axes, budget, ["a", "b"], {"good": "Good", "random": "Chance"})
    found = points_of(axes)
    assert found[1.0] == pytest.approx([0.2, 0.4, np.sqrt(0.2 * 0.4)])  # the best on top
    assert found[0.0] == pytest.approx([1, 1, 1])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Chance", "Good"]
    _, labels = axes.get_legend_handles_labels()
    assert labels == ["a", "b", "mean"]
