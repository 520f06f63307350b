"""Checkers of the chapter on repair."""

from __future__ import annotations

from typing import Any

import numpy as np

from obce.book.exercises.check import Answer, compare_function


def taken_over(answer: Answer) -> None:
    """``answer(stays, gone, weight)``: what least squares adds to the weight of the unit that
    stays, and to the bias."""
    rng = np.random.default_rng(5)
    unit, other = rng.normal(2, 3, size=(2, 30))
    hand = np.array([0.0, 1, 2, 4, 5, 6]), np.array([2.0, 1, 2, 6, 7, 6])

    def wanted(stays: np.ndarray, gone: np.ndarray, weight: float) -> np.ndarray:
        return np.polyfit(stays, weight * gone, 1)

    compare_function(
        answer,
        wanted,
        [(*hand, 2.0), (*hand, -1.0), (unit, other, 0.5), (unit, 3 - 2 * unit, 4.0)],
        hint="First what is added to the weight, then what is added to the bias.",
    )


def token_weights(answer: Answer) -> None:
    """``answer(sums)``: how much each token counts, one over the variance of its sum, (tokens,
    hidden); together 1."""
    rng = np.random.default_rng(6)
    many = rng.normal(1, 2, size=(5, 8)) * np.array([[1.0], [10], [1], [0.3], [4]])

    def wanted(sums: np.ndarray) -> np.ndarray:
        weights = 1 / np.var(sums, axis=1)
        return weights / weights.sum()

    compare_function(
        answer,
        wanted,
        [
            (np.array([[3.0, 0, -3], [30, 0, -30]]),),
            (np.array([[4.0, 2], [9, 5], [1, 0]]),),
            (many,),
        ],
        hint="One number for each token: one over the variance of its row, divided by the total.",
    )


def ridge_refit(answer: Answer) -> None:
    """``answer(x, missing, penalty)``: the change (outputs, inputs) and the bias (outputs,) that
    ridge regression adds, the bias not penalised."""
    rng = np.random.default_rng(7)
    many = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 3)) + np.array([1.0, -2, 5])
    few = rng.normal(3, 1, size=(4, 6))  # fewer tokens than inputs
    by_hand = np.array([[0.0], [1], [2], [4], [5], [6]])
    twice = np.array([[4.0], [2], [4], [12], [14], [12]])  # what unit 1 was worth, on that page
    cases = [
        (by_hand, twice, 0.0),
        (by_hand, twice, 28.0),
        (many, many @ rng.normal(size=(3, 2)) + rng.normal(size=(40, 2)) + 4, 2.5),
        (few, rng.normal(-1, 2, size=(4, 3)), 0.7),
    ]

    def flat(given: Any) -> Any:
        """Both in one row, if they have the shapes that were asked for."""
        if given is None or given is Ellipsis:
            return given
        change, bias = given
        return np.concatenate([np.ravel(np.asarray(part, dtype=float)) for part in (change, bias)])

    def given(x: np.ndarray, missing: np.ndarray, penalty: float) -> Any:
        found = answer(x, missing, penalty)
        if found is None or found is Ellipsis:
            return found
        shapes = (missing.shape[1], x.shape[1]), (missing.shape[1],)
        for part, shape, name in zip(found, shapes, ("change", "bias"), strict=True):
            if np.shape(part) != shape:
                raise ValueError(f"the {name} has the shape {np.shape(part)} instead of {shape}")
        return flat(found)

    def wanted(x: np.ndarray, missing: np.ndarray, penalty: float) -> np.ndarray:
        # Least squares with rows of zeros below, which hold the weights but not the bias.
        inputs = x.shape[1]
        rows = np.block(
            [[x, np.ones((len(x), 1))], [np.sqrt(penalty) * np.eye(inputs), np.zeros((inputs, 1))]]
        )
        aims = np.vstack([missing, np.zeros((inputs, missing.shape[1]))])
        found = np.linalg.lstsq(rows, aims, rcond=None)[0]
        return flat((found[:-1].T, found[-1]))

    compare_function(
        given if callable(answer) else answer,
        wanted,
        cases,
        hint="The change, row by row, and then the bias, which the penalty leaves alone.",
    )
