"""What random plans give, of cells that are written by hand."""

from __future__ import annotations

import pytest

from obce.study.report import Cell, Run, _chance

FIRST, SECOND = Run("rte", 0, "a", True), Run("rte", 1, "b", True)


def cells(label, run, *divergences):
    return [
        Cell(
            run,
            label,
            "46.5 % of the encoder",
            {
                "divergence": each,
                "metric": "accuracy",
                "metrics": {"accuracy": 1 - each},
                "settings": {"score": label, "score_seed": seed},
            },
            0.9,
        )
        for seed, each in enumerate(divergences)
    ]


def test_chance_is_that_of_the_dense_model_with_most_draws():
    """Draws from another dense model are no draws from this one."""
    by = {
        ("random", FIRST): cells("random", FIRST, 0.1),
        ("random", SECOND): cells("random", SECOND, 0.2, 0.3, 0.5, 0.6),
        ("std", FIRST): cells("std", FIRST, 0.01),
        ("std", SECOND): cells("std", SECOND, 0.4),
        ("once", FIRST): cells("once", FIRST, 0.4),
    }
    found = _chance(["random", "std", "once"], by, ["rte", "mrpc"])
    assert list(found) == ["random"] and list(found["random"]) == ["rte"]
    rte = found["random"]["rte"]
    assert (rte["draws"], rte["seed"], rte["dense"]) == (4, 1, 0.9)
    assert rte["values"] == [0.2, 0.3, 0.5, 0.6]
    assert rte["metrics"] == pytest.approx([0.8, 0.7, 0.5, 0.4])
    assert rte["nearer_than"] == {"std": 0.5}, "the other score of the same dense model"
