"""What each open choice does: ratios, draws and curves, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from obce.book import choices
from obce.study.config import load_study
from obce.study.report import _usual, label_of

ROOT = Path(__file__).parents[2]


def row(divergence: float, value: float = 0.5) -> dict:
    return {"divergence": divergence, "value": value, "dense": 0.8}


@pytest.fixture
def report() -> dict:
    one, two = choices.DRAWS
    texts = choices.by_texts()
    cells = {
        choices.DEFAULT: {"mrpc": 0.1, "stsb": 0.02},
        one: {"mrpc": 0.125, "stsb": 0.02},
        two: {"mrpc": 0.1, "stsb": 0.016},
        texts[25]: {"mrpc": 0.4, "stsb": 0.06},
        texts[100]: {"stsb": 0.03},
    }
    size = {
        label: {"per_task": {task: row(each) for task, each in found.items()}}
        for label, found in cells.items()
    }
    level = {"random": {"per_task": {"mrpc": row(3.0)}}}
    return {
        "budgets": {"46.5 % of the encoder": {"scores": size}, "level light": {"scores": level}}
    }


def test_an_effect_is_a_ratio_on_each_task(report):
    texts = choices.by_texts()
    found = choices.effects(
        report, "46.5", {"few": texts[25], "some": texts[100], "not run": texts[50]}
    )
    assert found == {
        "few": {"mrpc": pytest.approx(4), "stsb": pytest.approx(3)},
        "some": {"stsb": pytest.approx(1.5)},
    }
    beside = choices.effects(report, "46.5", {"few": texts[25]}, beside=texts[100])
    assert beside == {"few": {"stsb": pytest.approx(2)}}


def test_draws_are_as_far_apart_in_both_directions(report):
    # .125 beside .1 is 1.25 times, and so is .02 beside .016
    assert choices.draws_apart(report, "46.5") == (pytest.approx(0.8), pytest.approx(1.25))


def test_a_curve_has_the_values_that_ran(report):
    assert choices.along(report, "46.5", choices.by_texts()) == {
        "mrpc": {25: 0.4, 768: 0.1},
        "stsb": {25: 0.06, 100: 0.03, 768: 0.02},
    }


def test_levels_and_metrics(report):
    assert choices.divergences(report, "light", "random") == {"mrpc": 3.0}
    assert choices.divergences(report, "light", "std") == {}
    assert choices.metrics(report, "46.5", choices.DEFAULT) == {
        "mrpc": (50.0, 80.0),
        "stsb": (50.0, 80.0),
    }
    assert choices.metrics(report, "46.5", choices.AGAIN) == {}


def test_every_label_is_one_that_the_study_asks_for():
    """A label that is written otherwise would only be missing from a figure, without a word."""
    study = load_study(ROOT / "results/study/open-choices.toml")
    cells = [cell for cells in study.groups.values() for cell in cells]
    settings = [dict(sorted(cell.settings.items())) for cell in cells]  # as in a record
    usual = _usual(settings)
    asked = {label_of(each, usual) for each in settings}
    wanted = {label for labels in choices.CHOICES.values() for label in labels.values()}
    wanted |= {*choices.by_texts().values(), *choices.by_degree().values()}
    wanted |= {*choices.by_points().values(), *choices.DRAWS, choices.DEFAULT, choices.AGAIN}
    wanted |= {choices.cut_first(epochs) for epochs in (2, 5)}
    for score in ("merge_radius cls", "std cls"):
        wanted |= {choices.at_levels(score, texts=150, **more) for more in ({}, {"repair": "none"})}
    wanted |= {choices.at_levels("random", texts=150), choices.at_levels("random", repair="none")}
    assert wanted <= asked, sorted(wanted - asked)
    assert math.inf in choices.by_degree()
