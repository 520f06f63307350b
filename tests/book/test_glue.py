"""The default recipe on GLUE, read from a report worked out by hand."""

from __future__ import annotations

from obce.book import glue

CHOSEN = glue.WAYS["repaired"][0]
AGAIN = glue.WAYS["labels"][1]


def report():
    def score(**values):
        return {"per_task": {task: {"value": v, "divergence": 1 - v} for task, v in values.items()}}

    row = {"metric": "accuracy", "train": [10, 20], "dev": [4, 4], "one_answer": 0.5}
    return {
        "rows": [
            {"task": "rte", "dense": {"0": [0.7], "1": [0.9]}, "learned": True, **row},
            {"task": "wnli", "dense": {"0": [0.5]}, "learned": False, **row},
        ],
        "budgets": {
            "100 % of the encoder": {"scores": {f"{AGAIN}, repair none": score(rte=0.81)}},
            "46.5 % of the encoder": {
                "scores": {
                    CHOSEN: score(rte=0.75, wnli=0.5),
                    AGAIN: score(rte=0.8),
                    "random": score(rte=0.6),
                    "std mean": score(rte=0.1),
                }
            },
            "75 % of the encoder": {"scores": {CHOSEN: score(rte=0.79)}},
        },
    }


def test_each_way_is_found_under_its_name():
    rte, wnli = glue.on_glue(report()).values()
    assert rte["dense"] == 80 and rte["fine-tunings"] == 2 and rte["one answer"] == 50
    assert {way: found["value"] for way, found in rte["46.5"].items()} == {
        "repaired": 75, "labels": 80, "random": 60,
    }  # fmt: skip
    assert rte["control"]["value"] == 81 and "control" not in wnli
    assert rte["31.8"] == wnli["31.8"] == {}
    assert not wnli["learned"] and wnli["46.5"]["repaired"]["divergence"] == 0.5


def test_one_answer_for_all_rows_has_learned_nothing():
    rte = glue.on_glue(report())["rte"]
    assert glue.share_learned(rte, 50) == 0
    assert glue.share_learned(rte, rte["dense"]) == 100
    assert glue.share_learned(rte, 75) == 250 / 3
