"""The default recipe on GLUE, read from a report worked out by hand."""

from __future__ import annotations

import pytest

from obce.book import glue

CHOSEN = glue.WAYS["repaired"][0]
AGAIN = glue.WAYS["labels"][1]


def score(**runs):
    """``{task: the values of seeds 0, 1, ...}``"""
    return {
        "per_task": {
            task: {
                "seeds": list(range(len(values))),
                "value_runs": values,
                "divergence_runs": [1 - value for value in values],
            }
            for task, values in runs.items()
        }
    }


def report(**budgets):
    row = {"metric": "accuracy", "train": [10, 20], "dev": [4, 4], "one_answer": 0.5}
    scores = {
        "100": {f"{AGAIN}, repair none": score(rte=[0.81])},
        "46.5": {
            CHOSEN: score(rte=[0.75, 0.95], wnli=[0.5]),
            AGAIN: score(rte=[0.8]),
            "random": score(rte=[0.6]),
            "std mean": score(rte=[0.1]),
        },
        "75": {CHOSEN: score(rte=[0.79])},
    } | budgets
    return {
        "rows": [
            {"task": "rte", "dense": {"0": [0.7], "1": [0.9]}, "learned": True, **row},
            {"task": "wnli", "dense": {"0": [0.5]}, "learned": False, **row},
        ],
        "budgets": {f"{size} % of the encoder": {"scores": s} for size, s in scores.items()},
    }


def test_each_way_is_found_under_its_name():
    rte, wnli = glue.on_glue(report()).values()
    assert {way: found["value"] for way, found in rte["46.5"].items()} == {
        "repaired": 75, "labels": 80, "random": 60,
    }  # fmt: skip
    assert rte["one answer"] == 50 and rte["control"]["value"] == 81 and "control" not in wnli
    assert rte["31.8"] == wnli["31.8"] == {}
    assert not wnli["learned"] and wnli["46.5"]["repaired"]["divergence"] == 0.5


def test_ways_are_compared_on_the_fine_tunings_that_all_of_them_have():
    only_first = glue.on_glue(report())["rte"]
    assert only_first["fine-tunings"] == 1 and only_first["dense"] == pytest.approx(70)
    assert only_first["46.5"]["repaired"]["changes"] == pytest.approx([5, 5])
    assert only_first["46.5"]["labels"]["changes"] == pytest.approx([10])
    both = report(**{"100": {}, "46.5": {CHOSEN: score(rte=[0.75, 0.95])}, "75": {}})
    rte = glue.on_glue(both)["rte"]
    assert rte["fine-tunings"] == 2 and rte["dense"] == pytest.approx(80)
    assert rte["46.5"]["repaired"]["value"] == pytest.approx(85)


def test_one_answer_for_all_rows_has_learned_nothing():
    rte = glue.on_glue(report())["rte"]
    assert glue.share_learned(rte, 50) == 0
    assert glue.share_learned(rte, rte["dense"]) == 100
    assert glue.share_learned(rte, 60) == 50
