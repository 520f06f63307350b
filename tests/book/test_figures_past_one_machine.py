"""The drawing functions of the chapter on many processes."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest

from obce.book import figures


@pytest.fixture
def axes():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


@pytest.mark.parametrize(("by", "holders"), [("texts", "0011"), ("units", "0101")])
def test_every_block_bears_its_holder_s_number(axes, by, holders):
    figures.shared_matrix(axes, 4, 5, 2, by)
    assert [text.get_text() for text in axes.texts] == list(holders)
    # 5 units are shared as 2 and 3; the hatch follows the holder
    assert [patch.get_width() for patch in axes.patches] == [2, 3, 2, 3]
    assert [patch.get_hatch() for patch in axes.patches] == [("", "//")[int(h)] for h in holders]


def test_the_whole_is_the_sum_of_the_parts(axes):
    figures.seconds_by_processes(
        axes, [1, 10, 100, 1000], {"a": [8, 4, 2, 1], "b": [0, 1, 1, 1]}, 10
    )
    assert axes.lines[2].get_ydata().tolist() == [8, 5, 3, 2]
    assert axes.lines[1].get_ydata()[1:].tolist() == [1, 1, 1]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert [line.get_label() for line in axes.lines[:3]] == ["a", "b", "all of it"]
