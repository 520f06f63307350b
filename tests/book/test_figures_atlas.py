"""Figures of the chapter on the atlas."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from obce.book import figures
from obce.explain import Chart


def chart(units=40, layer=0, kind="value"):
    random = np.random.default_rng(0)
    told = np.arange(units) % 3 == 0
    return Chart(
        layer, kind, random.permutation(units) / units, 1 + told.astype(int),
        ["a word" if one else "" for one in told], 0.6 * told, np.arange(units) % 2 == 0,
    )  # fmt: skip


def test_signs_stand_in_the_order_of_the_shares():
    shares = np.array([0.1, 0.6, 0.3])
    stories, kept = ["", "a", ""], np.array([True, True, False])
    one = Chart(0, "value", shares, np.array([2, 2, 1]), stories, np.zeros(3), kept)
    assert figures.by_share(one) == {
        "layer": 0, "kind": "value", "by share": {"told": "100", "split": "101", "kept": "101"}
    }  # fmt: skip
    one.kept = None
    assert figures.by_share(one)["by share"]["kept"] == "111"


def test_every_unit_has_its_cell_and_every_story_its_mark():
    rows = [
        figures.by_share(chart(units, layer, kind))
        for layer in (0, 1)
        for kind, units in (("value", 40), ("intermediate", 100))
    ]
    figure = figures.network(rows)
    assert [axes.get_title() for axes in figure.axes] == ["value", "intermediate", "", ""]
    for axes, row in zip(figure.axes, rows, strict=True):
        signs = row["by share"]
        cells = np.asarray(axes.images[0].get_array(), dtype=float)
        drawn = cells.T[np.isfinite(cells.T)]
        assert "".join("01"[int(cell)] for cell in drawn) == signs["kept"]
        kept, going = ({(x, y) for x, y in line.get_xydata().tolist()} for line in axes.lines)
        for place, (told, stays) in enumerate(zip(signs["told"], signs["kept"], strict=True)):
            at = divmod(place, cells.shape[0])
            assert (at in kept) == (told == stays == "1")
            assert (at in going) == (told == "1" and stays == "0")
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["kept", "cut", "kept, with a story", "cut, with a story"]


def test_differences_have_a_line_from_end_to_end():
    row = {"points more": 3.0, "points more, 95 %": [1.0, 4.0]}
    other = {"points more": -2.0, "points more, 95 %": [-5.0, 1.0]}
    axes = Figure().subplots()
    figures.differences(axes, {"one way": {"all": row, "value": other}, "another": {"all": row,
                        "value": other}})  # fmt: skip
    (first, second) = axes.containers
    assert first[0].get_xdata() == pytest.approx([3, -2])
    ends = [bar[:, 0].tolist() for bar in second[2][0].get_segments()]
    assert ends == [pytest.approx([1, 4]), pytest.approx([-5, 1])]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["all", "value"]
    low, high = axes.get_ylim()
    assert low > high, "the first part on top"
