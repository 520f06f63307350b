"""Checkers of the chapter that goes layer by layer."""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from obce.book.exercises.check import Answer, compare_function


def effective_units(answer: Answer) -> None:
    """``answer(shares)``: the participation ratio of shares (units,)."""
    rng = np.random.default_rng(11)
    compare_function(
        answer,
        lambda shares: shares.sum() ** 2 / np.sum(shares**2),
        [
            (np.ones(4),),
            (np.array([6.0, 6.0, 0.0, 0.0, 0.0]),),
            (np.array([3.0, 1.0]),),
            (rng.exponential(size=50),),
        ],
        hint="The square of the sum, over the sum of the squares.",
    )


def two_halves(answer: Answer) -> None:
    """``answer(outputs)``: of outputs (units, texts), Spearman's correlation of the units' standard
    deviations over the texts at even places and over those at odd places."""
    rng = np.random.default_rng(12)
    few = np.array([[1.0, 0.0, 2.0, 5.0], [0.0, 1.0, 0.0, 3.0], [4.0, 1.0, 0.0, 1.5]])
    scales = rng.uniform(1, 3, size=(30, 1))
    skewed = np.exp(rng.normal(size=(12, 1))) * rng.normal(size=(12, 7))
    compare_function(
        answer,
        lambda outputs: (
            spearmanr(outputs[:, ::2].std(axis=1), outputs[:, 1::2].std(axis=1)).statistic
        ),
        [(few,), (scales * rng.normal(size=(30, 20)),), (skewed,)],
        hint="One standard deviation per unit and half, then the rank correlation of the two.",
    )


def beyond_the_draws(answer: Answer) -> None:
    """``answer(first, second)``: of two arrays (draws, layers), which layers have ranges that do
    not meet."""
    rng = np.random.default_rng(13)
    compare_function(
        answer,
        lambda first, second: (
            (first.min(axis=0) > second.max(axis=0)) | (second.min(axis=0) > first.max(axis=0))
        ),
        [
            (np.array([[1.0, 1.0], [2.0, 2.0]]), np.array([[3.0, 1.5], [4.0, 4.0]])),
            (np.array([[5.0, 1.0, 2.0]]), np.array([[3.0, 3.0, 2.0], [4.0, 0.0, 9.0]])),
            tuple(rng.normal(size=(2, 3, 6)) + np.array([[[0.0]], [[1.5]]])),
        ],
        hint="One truth value for each layer: is the least of one above the greatest of the other?",
    )


def without_noise(answer: Answer) -> None:
    """``answer(before, after)``: of scores (2 halves, units), the correlation of before and after,
    corrected for what one half and the other disagree in."""
    rng = np.random.default_rng(14)

    def wanted(before: np.ndarray, after: np.ndarray) -> float:
        across = np.mean([spearmanr(b, a).statistic for b in before for a in after])
        within = [spearmanr(*halves).statistic for halves in (before, after)]
        return across / np.sqrt(np.prod(within))

    def noisy(units: int, change: float) -> tuple[np.ndarray, np.ndarray]:
        before, moved = rng.normal(size=(2, units))
        after = (1 - change) * before + change * moved
        noise = rng.normal(size=(2, 2, units))
        return np.exp(before + 0.6 * noise[0]), np.exp(after + 0.9 * noise[1])

    compare_function(
        answer,
        wanted,
        [noisy(40, 0.0), noisy(60, 0.5), noisy(25, 1.0)],
        hint="The mean of the four correlations across, over the root of the product of the two "
        "within.",
    )
