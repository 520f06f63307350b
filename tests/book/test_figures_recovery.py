"""Figures of the chapter on recovery: the numbers that they draw, by hand."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from obce.book import figures


@pytest.fixture
def figure():
    yield Figure()
    plt.close("all")


def lines(axes) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_a_line_of_means_in_a_band_above_the_floor(figure):
    axes = figure.subplots()
    found = {"labels": [[0.2, 0.4, 0.6], [0.2, 0.2, 0.2]], "teacher": [[0.1] * 3, [0.1] * 3]}
    figures.students(axes, [10, 100], found, 0.05)
    drawn = lines(axes)
    assert drawn["taught by labels"].tolist() == [
        [10, pytest.approx(0.4)],
        [100, pytest.approx(0.2)],
    ]
    assert drawn["the best student"][:, 1].tolist() == [0.05, 0.05]
    low, high = (axes.collections[0].get_paths()[0].vertices[:, 1] for _ in range(2))
    assert low.min() == pytest.approx(0.2) and high.max() == pytest.approx(0.56)  # 10 and 90 %
    looks = [line.get_linestyle() for line in axes.lines]
    assert len(set(looks)) == 3  # told apart without colour


def test_two_measures_by_epoch(figure):
    axes = figure.subplots(1, 2)
    stages = {"labels": [(80, 0.3), (90, 0.4)], "teacher": [(80, 0.3), (85, 0.1)]}
    figures.epochs_of_students(axes, stages, 95)
    assert lines(axes[0])["taught by labels"].tolist() == [[0, 80], [1, 90]]
    assert lines(axes[1])["taught by teacher"].tolist() == [[0, 0.3], [1, 0.1]]
    assert lines(axes[0])["dense model"][:, 1].tolist() == [95, 95]
    assert axes[1].get_ylim()[0] == 0


def test_shares_of_the_dense_metric(figure):
    axes = figure.subplots()
    rows = {
        "one": {"dense": 0.5, "repaired": 0.4, "labels": 0.45, "teacher": 0.5, "control": 0.6},
        "two": {"dense": 0.8, "repaired": 0.8},
    }
    figures.recovered(axes, rows)
    marks = {(line.get_marker(), *map(float, line.get_xydata()[0])) for line in axes.lines[1:]}
    assert {(marker, round(share)) for marker, share, _ in marks} == {
        ("o", 80), ("s", 90), ("D", 100), ("x", 120), ("o", 100),
    }  # fmt: skip
    assert len({height for *_, height in marks}) == 5, "equal ones are all seen"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == [
        "repaired",
        "taught by labels",
        "by labels and teacher",
        "dense, trained again",
    ]
