"""Checkers of the chapter on what compression does to people."""

from __future__ import annotations

from typing import Any

import numpy as np

from obce.book.exercises.check import Answer, compare_function, letters


def paired_gaps(answer: Answer) -> None:
    """``answer(numbers)``: the gap of each template and pair of words, the woman's number first."""
    random = np.random.default_rng(3)
    compare_function(
        answer,
        lambda numbers: numbers[:, 0::2] - numbers[:, 1::2],
        [
            (np.array([[0.9, 0.4, 0.2, 0.3]]),),
            (np.array([[1.0, 1.0], [2.0, 5.0], [0.0, -1.0]]),),
            (random.normal(size=(3, 6)),),
        ],
        hint="In each row women's and men's words take turns; a gap is the woman's less the man's.",
    )


def two_sided(answer: Answer) -> None:
    """``answer(draws)``: the two-sided p of bootstrap draws of a mean, with the one that counts
    what was observed."""
    random = np.random.default_rng(4)

    def wanted(draws: np.ndarray) -> float:
        beyond = min(np.sum(draws <= 0), np.sum(draws >= 0))
        return min(1.0, 2 * (beyond + 1) / (len(draws) + 1))

    compare_function(
        answer,
        wanted,
        [
            (np.array([-0.1, 0.2, 0.3, 0.1, 0.4, 0.2, 0.3, 0.5, 0.6]),),
            (np.arange(1.0, 20.0),),
            (-np.arange(1.0, 20.0),),
            (np.array([-1.0, -0.5, 0.5, 1.0]),),
            (random.normal(-0.5, size=999),),
        ],
        hint="Count on both sides of 0, take the rarer side, add one, and double.",
    )


def at_equal_divergence(answer: Answer) -> None:
    """``answer(divergences, sizes, level)``: the size of the gaps at a divergence between those of
    two cuts, on a line over the logarithm."""
    compare_function(
        answer,
        lambda divergences, sizes, level: np.interp(np.log(level), np.log(divergences), sizes),
        [
            (np.array([0.01, 1.0]), np.array([0.2, 0.4]), 0.1),
            (np.array([0.01, 0.1, 0.4]), np.array([0.3, 0.2, 0.5]), 0.2),
            (np.array([0.02, 0.05, 0.3, 0.9]), np.array([0.1, 0.4, 0.3, 0.0]), 0.3),
        ],
        hint="Interpolate over np.log of the divergence.",
    )


def odds_and_interval(answer: Answer) -> None:
    """``answer(a, b, c, d)``: the odds ratio of a table and its 95 % interval by Woolf."""

    def wanted(a: float, b: float, c: float, d: float) -> list[float]:
        log, error = np.log(a * d / (b * c)), np.sqrt(1 / a + 1 / b + 1 / c + 1 / d)
        return [float(np.exp(log + z * error)) for z in (0, -1.96, 1.96)]

    compare_function(
        answer,
        wanted,
        [(10, 10, 10, 10), (12, 8, 100, 200), (3, 9, 40, 60), (50, 20, 25, 80)],
        tolerance=1e-3,  # 1.96 or 1.95996
        hint="Ratio, lower, upper; the error belongs to the logarithm of the ratio.",
    )


def what_a_gap_says(answer: Any) -> None:
    """Which of the claims A to E the measured gaps support, as a string of letters."""
    letters(
        answer, "BD",
        {"A": "a small gap on some templates is no proof that people are treated alike.",
         "B": "this is the interval, said in words.",
         "C": "another seed of fine-tuning was not tried, so nothing is known of it.",
         "D": "this is what a change against the dense model's own gap says.",
         "E": "where nothing was found, there may be something that was too small to see."},
    )  # fmt: skip
