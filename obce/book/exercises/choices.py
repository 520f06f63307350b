"""Checkers of the chapter on what the paper leaves open."""

from __future__ import annotations

import numpy as np

from obce.book.exercises.check import Answer, compare_function


def effect(answer: Answer) -> None:
    """``answer(default, changed)``: the geometric mean over tasks of changed by default."""
    rng = np.random.default_rng(11)
    cases = [
        (np.array([0.1, 0.2]), np.array([0.2, 0.1])),
        (np.array([0.05]), np.array([0.15])),
        (np.array([0.1, 0.1, 0.1]), np.array([0.1, 0.2, 0.8])),
        tuple(rng.uniform(0.01, 1, size=(2, 6))),
    ]
    compare_function(
        answer,
        lambda default, changed: np.exp(np.mean(np.log(changed) - np.log(default))),
        cases,
        hint="A task on which the divergence doubles and one on which it halves give 1.",
    )


def fit_texts(answer: Answer) -> None:
    """``answer(n, divergence)``: (a, b) of the curve a + b / n that is closest."""
    rng = np.random.default_rng(12)

    def wanted(n: np.ndarray, divergence: np.ndarray) -> np.ndarray:
        return np.polyfit(1 / np.asarray(n, dtype=float), divergence, 1)[::-1]

    n = np.array([100, 200, 400])
    cases = [
        (np.array([1, 2]), np.array([3.0, 2.0])),
        (n, 0.03 + 2.0 / n),
        (n, np.array([0.05, 0.05, 0.02])),
        (np.array([25, 50, 100, 200]), rng.uniform(0.01, 0.1, 4)),
    ]
    compare_function(
        answer, wanted, cases,
        hint="First the floor a, then b. For 1 and 2 texts with 3 and 2 they are 1 and 2.",
    )  # fmt: skip


def interaction(answer: Answer) -> None:
    """``answer(table)``: the effect of the first choice at the second's value 1, by that at 0."""
    rng = np.random.default_rng(13)
    cases = [
        (np.array([[1.0, 2.0], [3.0, 6.0]]),),
        (np.array([[1.0, 1.0], [0.5, 1.0]]),),
        (np.array([[0.8, 0.2], [0.4, 0.05]]),),
        (rng.uniform(0.01, 1, size=(2, 2)),),
    ]
    compare_function(
        answer,
        lambda table: (table[1][1] / table[0][1]) / (table[1][0] / table[0][0]),
        cases,
        hint="table[a][b]: the first place is the choice A. Ratios, not differences.",
    )
