"""The pictures of growing discs: what they count, draw and say."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import matplotlib.pyplot as plt
import numpy as np
import pytest

from obce.book import figures

LINE = np.array([0.0, 0.4, 1.1, 1.3, 2.6])  # gaps 0.4, 0.7, 0.2, 1.3
SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])


@pytest.fixture
def axes():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


@pytest.mark.parametrize(
    ("points", "scale", "title", "lines"),
    [
        (LINE, 0.0, "t = 0: 5 components", 0),
        (LINE, 0.4, "t = 0.4: 3 components", 2),
        (SQUARE, 0.9, "t = 0.9: 4 components", 0),
        (SQUARE, 1.0, "t = 1: 1 component", 4),
    ],
)
def test_discs(axes, points, scale, title, lines):
    figures.discs(axes, points, scale)
    assert axes.get_title() == title
    assert len(axes.lines) == lines + 1  # the points are one more
    assert {patch.radius for patch in axes.patches} == {scale / 2}


def test_discs_show_the_last_merge_thick_and_a_loop_dotted(axes):
    figures.discs(axes, SQUARE, 1.0)
    assert [line.get_linewidth() for line in axes.lines[:4]].count(4) == 1
    assert [line.get_linestyle() for line in axes.lines[:4]].count(":") == 1


def test_barcode(axes):
    figures.barcode(axes, [0.7, 0.0, 1.3], scale=0.5)
    bars = [path for part in axes.collections for path in part.get_paths()]
    ends = sorted(path.vertices[1, 0] for path in bars)
    assert ends == [0.7, 1.3, 1.3]  # the last one twice: thick, over its thin bar
    dots, scale = axes.lines
    assert list(dots.get_xdata()) == [0.0] and list(scale.get_xdata()) == [0.5, 0.5]
    assert axes.texts[0].get_text() == "$r_f$ = 1.30"
    assert axes.get_xlabel() == "scale t"


def test_barcode_of_one_point_is_the_bar_that_never_ends(axes):
    figures.barcode(axes, [])
    assert not any(part.get_paths() for part in axes.collections) and len(axes.texts) == 1


def _parts(html: str) -> tuple[ET.Element, str]:
    box, script = re.fullmatch(r"(.*)<script>(.*)</script>", html, re.S).groups()
    assert "http" not in html  # nothing is fetched
    return ET.fromstring(re.sub(r"(<input[^>]*)>", r"\1/>", box)), script


def test_growing_discs_stand_still_at_their_scale():
    box, script = _parts(figures.growing_discs(LINE, ["<", "b", "c", "d", "e"], scale=0.5).data)
    slider = box.find(".//input")
    assert float(slider.get("value")) == 0.5 and float(slider.get("max")) == 1.56
    assert box.find(".//p[@aria-live='polite']/strong").text == "Scale t = 0.50: 3 components"
    shown = [part for part in box.iter() if "display" not in part.get("style", "")]
    ends = [float(part.get("data-t")) for part in shown if part.get("class") == "cap"]
    assert ends == [0.2, 0.4]
    assert sum(part.get("class") == "edge merge" for part in shown) == 2
    assert sum(part.get("class") == "rim" for part in shown) == 5
    assert [text.text for text in box.iter("text")][:5] == ["<", "b", "c", "d", "e"]
    assert all(svg.get("aria-label") for svg in box.iter("svg"))
    assert box.get("class") in script and "NAME" not in script


def test_growing_discs_have_a_class_of_their_own():
    one, other = (_parts(figures.growing_discs(cloud).data)[0] for cloud in (SQUARE, SQUARE * 2.0))
    assert one.get("class") != other.get("class")
    assert figures.growing_discs(SQUARE).data == figures.growing_discs(SQUARE).data


def test_growing_discs_of_many_points_draw_the_tree_alone():
    cloud = np.random.default_rng(0).random((41, 2))
    box, _ = _parts(figures.growing_discs(cloud).data)
    assert sum("edge" in part.get("class", "") for part in box.iter("line")) == 40


def test_points_in_space_are_refused(axes):
    with pytest.raises(ValueError, match=r"\(n, 2\)"):
        figures.discs(axes, np.zeros((4, 3)), 1.0)
