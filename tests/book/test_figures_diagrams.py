"""Figures of the chapter on diagrams: what is drawn where, and what the slider's frames say."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from obce import homology
from obce.book import figures

POINTS = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0], [6.0, 2.0]])  # deaths 1, 2, 5


@pytest.fixture
def axes():
    yield Figure().subplots()
    plt.close("all")


def marks(axes) -> list[np.ndarray]:
    return [line.get_xydata() for line in axes.lines if line.get_marker() in ("o", "s")]


def test_a_diagram_puts_births_across_and_deaths_up(axes):
    h1 = np.array([[1.0, 3.0]])
    figures.diagram(axes, {"H0": homology.h0_diagram(POINTS), "H1": h1})
    first, second = marks(axes)
    assert first[:3].tolist() == [[0, 1], [0, 2], [0, 5]]
    assert 5 < first[3, 1] < axes.get_ylim()[1]  # the bar that never ends, inside the picture
    assert second.tolist() == h1.tolist()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["H0", "H1"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("birth (scale $t$)", "death (scale $t$)")


def test_a_diagram_may_be_empty(axes):
    figures.diagram(axes, {"H1": np.zeros((0, 2))})
    assert not any(len(points) for points in marks(axes))
    assert axes.get_legend() is None


@pytest.mark.parametrize(
    ("pairs", "title"),
    [
        ([(0, 0), (1, None)], "largest 1, sum 1.5"),
        ([(1, 0), (0, None)], "largest 4, sum 7.5"),
        ([(0, None), (1, None), (None, 0)], "largest 3.5, sum 7.5"),
    ],
)
def test_a_matching_is_priced_in_the_maximum_norm(axes, pairs, title):
    first, second = np.array([[1.0, 8.0], [6.0, 7.0]]), np.array([[2.0, 9.0]])
    figures.matching(axes, {"first": first, "second": second}, pairs)
    assert axes.get_title() == title
    assert sum(line.get_linestyle() == "--" for line in axes.lines) == len(pairs)


@pytest.mark.parametrize(
    ("left", "right", "distance", "dashed"),
    [
        ([0.6, 1, 2, 7], [2.5, 6], 1, 2),
        ([10], [1], 5, 2),  # giving both up is cheaper than pairing them
        ([3, 1], [1, 3], 0, 0),
        ([], [4], 2, 1),
    ],
)
def test_matched_deaths_by_hand(axes, left, right, distance, dashed):
    deaths = {"X": np.array(left, dtype=float), "Y": np.array(right, dtype=float)}
    assert figures.matched_deaths(axes, deaths) == distance
    assert sum(line.get_linestyle() == "--" for line in axes.lines) == dashed
    assert [label.get_text() for label in axes.get_xticklabels()] == ["X", "Y"]


def test_matched_deaths_give_persim_s_distance(axes):
    bottleneck = pytest.importorskip("persim").bottleneck
    rng = np.random.default_rng(0)
    for _ in range(50):
        deaths = [rng.integers(1, 20, rng.integers(0, 6)) / 2 for _ in range(2)]
        expected = bottleneck(*(np.column_stack([0 * part, part]) for part in deaths))
        assert figures.matched_deaths(axes, dict(zip("XY", deaths, strict=True))) == expected


class Parts(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag != "input":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_noise_slider_is_whole_without_a_script():
    page = figures.noise_slider(POINTS, np.linspace(0, 1, 5), start=2).data
    parts = Parts(page)
    assert parts.open == []
    count = [tag for tag, _ in parts.tags]
    assert count.count("circle") == 4 + 4 + 3  # at rest, moved, deaths at rest
    assert count.count("rect") == 3
    (slider,) = [attrs for tag, attrs in parts.tags if tag == "input"]
    assert (slider["max"], slider["value"]) == ("4", "2")
    assert all(attrs["aria-label"] for tag, attrs in parts.tags if tag == "svg")
    assert "http" not in page and "NAME" not in page
    assert not re.search(r"\b[A-Z]{3,}\b", page.split("<script>")[0])  # all words filled in


def test_the_frames_of_the_noise_slider():
    levels = np.array([0, 0.5])
    page = figures.noise_slider(POINTS, levels, seed=1).data
    data = json.loads(re.search(r"data = (\{.*\}), slider", page).group(1))
    still, moved = data["frames"]
    assert still["deaths"] == data["rest"] and still["matched"] == 3
    assert "bottleneck distance 0.00" in still["says"]
    assert "Merge radius 5.00 → 5.00" in still["says"]
    assert "2ε = 1.00" in moved["says"]
    at_rest, there = (np.column_stack([frame["x"], frame["y"]]) for frame in (still, moved))
    steps = np.linalg.norm(there - at_rest, axis=1)
    assert np.ptp(steps) < 0.3 and steps.min() > 5  # all by the same length, and seen
