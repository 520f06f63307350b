"""Checkers of the chapter on whether an explanation holds."""

from __future__ import annotations

import numpy as np

from obce.book.exercises.check import Answer, compare_function


def verdict_of(answer: Answer) -> None:
    """``answer(low, high, worth)``: 1 if a claim holds, -1 if it does not, 0 if nobody can tell."""

    def wanted(low: float, high: float, worth: float) -> int:
        return -1 if high < worth else int(low > 0)

    compare_function(
        answer,
        wanted,
        [
            (0.2, 0.4, 0.1), (-0.3, -0.1, 0.1), (-0.1, 0.3, 0.1), (0.01, 0.05, 0.1),
            (0.05, 0.3, 0.1), (-0.04, 0.06, 0.1), (-0.2, 0.1, 0.1),
        ],
        hint="First ask whether the effect is surely too small, then whether it is surely there.",
    )  # fmt: skip


def f1_of(answer: Answer) -> None:
    """``answer(truth, said)``: F1 of yes-or-no answers; 0 if no yes is right."""

    def wanted(truth: np.ndarray, said: np.ndarray) -> float:
        return float(2 * (truth & said).sum() / (truth.sum() + said.sum()))

    compare_function(
        answer,
        wanted,
        [
            (np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)),
            (np.array([1, 0, 1, 0, 1, 0], bool), np.ones(6, bool)),
            (np.array([1, 0, 0, 0, 0, 0, 0, 0], bool), np.array([1, 1, 1, 0, 0, 0, 0, 0], bool)),
            (np.array([1, 1, 0, 0, 0], bool), np.array([0, 0, 1, 0, 0], bool)),
        ],
        hint="Twice what is right, over the yeses of both; where both are no, nothing is counted.",
    )


def kappa_of(answer: Answer) -> None:
    """``answer(first, second)``: Cohen's kappa of two counts of the same units."""

    def wanted(first: np.ndarray, second: np.ndarray) -> float:
        agreed = float((first == second).mean())
        chance = sum(float((first == k).mean() * (second == k).mean()) for k in np.unique(first))
        return (agreed - chance) / (1 - chance)

    compare_function(
        answer,
        wanted,
        [
            (np.array([1, 1, 2, 2]), np.array([1, 1, 2, 1])),
            (np.array([1, 2, 3, 1]), np.array([1, 2, 3, 1])),
            (np.array([1, 1, 1, 2, 1, 1]), np.array([1, 1, 1, 1, 2, 1])),
            (np.array([3, 1, 1, 4, 1]), np.array([1, 1, 1, 3, 2])),
        ],
        hint="By chance, two counts are both k as often as the product of their shares of k says.",
    )


def gradients_of_product(answer: Answer) -> None:
    """``answer(start, end)``: integrated gradients of the product of all inputs, each input's."""

    def wanted(start: np.ndarray, end: np.ndarray) -> np.ndarray:
        step = (np.arange(4000) + 0.5)[:, None] / 4000
        way = start + step * (end - start)
        others = [np.prod(np.delete(way, i, axis=1), axis=1).mean() for i in range(len(start))]
        return (end - start) * np.array(others)

    compare_function(
        answer,
        wanted,
        [
            (np.array([0.0, 0.0]), np.array([2.0, 3.0])),
            (np.array([1.0, 0.0]), np.array([1.0, 3.0])),
            (np.array([0.0, 0.0, 0.0]), np.array([1.0, 2.0, 3.0])),
            (np.array([1.0, -1.0, 2.0]), np.array([3.0, 2.0, 0.5])),
        ],
        tolerance=1e-3,
        hint="The slope by one input is the product of the others, and it changes along the way.",
    )
