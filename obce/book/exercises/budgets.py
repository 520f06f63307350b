"""Checkers of the chapter on choosing units."""

from __future__ import annotations

import numpy as np

from obce.book.exercises.check import Answer, compare_function, compare_number, returned
from obce.book.exercises.neurons import layer_size


def one_budget(answer: Answer) -> None:
    """``answer(layers, k)``: how many units of each layer go, if the k lowest of all go; scores
    (layers, units)."""
    rng = np.random.default_rng(11)
    hand = np.array([[1.0, 5.0, 9.0], [2.0, 3.0, 8.0]])
    many = rng.permutation(28).reshape(4, 7) + np.array([[0.0], [9], [0], [30]])

    def wanted(layers: np.ndarray, k: int) -> np.ndarray:
        last = np.sort(layers, axis=None)[k - 1] if k else -np.inf
        return np.sum(layers <= last, axis=1)

    compare_function(
        answer,
        wanted,
        [(hand, k) for k in (1, 3, 4, 0, 6)] + [(many + rng.uniform(0, 0.5, many.shape), 9)],
        hint="One number per layer: all scores are ranked together, whatever their layer.",
    )


def small_step(answer: Answer) -> None:
    """``answer()``: the divergence, to second order, of a step of 0.1 in the logit at p = 0.8."""
    given = returned(answer)
    if given is None:
        return None
    traps = {
        0.0016: "the second derivative is divided by 2 in Taylor's formula.",
        0.005: "that is half of the step's square; the curvature p (1 - p) is missing.",
        0.08: "the step enters with its square.",
        0.008: "the step enters with its square, and the curvature with one half.",
        0.004: "the curvature is p (1 - p), not p.",
    }
    return compare_number(given, 0.0008, 0.06, traps)


def share_that_goes(answer: Answer) -> None:
    """``answer(hidden, inner, keep)``: the share of two kinds' units that leaves so much."""

    def wanted(hidden: int, inner: int, keep: float) -> float:
        return (1 - keep) * layer_size(hidden, inner) / ((hidden + inner) * (2 * hidden + 1))

    compare_function(
        answer,
        wanted,
        [(384, 1536, 0.465), (768, 3072, 0.465), (1, 1, 0.9), (4, 8, 1.0)],
        tolerance=1e-6,
        hint="What must go, by what can go: a unit of either kind takes 2 H + 1 parameters along.",
    )
