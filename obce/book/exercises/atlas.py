"""Checkers of the chapter on the atlas."""

from __future__ import annotations

from typing import Any

import numpy as np

from obce.book.exercises.check import Answer, compare_function


def kept_blindly(answer: Answer) -> None:
    """``answer(units, kept, stories)``, three lists with a number for each layer and kind: how many
    units with a story blind draws keep on average."""
    compare_function(
        answer,
        lambda units, kept, stories: float(
            (np.asarray(stories) * np.asarray(kept) / np.asarray(units)).sum()
        ),
        [
            (np.array([10]), np.array([4]), np.array([5])),
            (np.array([100, 10]), np.array([20, 8]), np.array([5, 10])),
            (np.array([6, 8, 4]), np.array([3, 0, 4]), np.array([2, 5, 1])),
        ],
        hint="In a layer and kind each unit stays with the same probability; then add them up.",
    )


def moved_most(answer: Answer) -> None:
    """``answer(before, after)``: the number of the unit whose rank moved most, among those that
    both models have; shares that are NaN belong to units that are not there."""

    def wanted(before: np.ndarray, after: np.ndarray) -> int:
        there = np.flatnonzero(np.isfinite(before) & np.isfinite(after))
        first, second = (np.argsort(np.argsort(-row[there])) for row in (before, after))
        return int(there[np.abs(first - second).argmax()])

    nan = np.nan
    cases: list[tuple[Any, ...]] = [
        (np.array([0.1, 0.4, 0.3, 0.2]), np.array([0.45, 0.3, 0.2, 0.05])),
        (np.array([0.05, 0.25, 0.5, 0.2]), np.array([nan, 0.5, 0.2, 0.3])),
        (np.array([0.9, 0.04, 0.03, 0.02, 0.01]), np.array([0.4, 0.1, 0.07, 0.05, 0.38])),
        (np.array([0.3, 0.12, 0.2, 0.28, 0.1]), np.array([nan, 0.6, nan, 0.1, 0.3])),
    ]
    compare_function(
        answer, wanted, cases,
        hint="Leave out the units that one model lacks, rank the others in both, and compare.",
    )  # fmt: skip


def points_more(answer: Answer) -> None:
    """``answer(tables)``, ``(strata, 2, 2)``: the difference of the rates at which units with a
    story and without stay, in percentage points, as a weighted mean over strata."""

    def wanted(tables: np.ndarray) -> float:
        units = tables.sum(axis=2)  # with a story, and without
        gaps = tables[:, 0, 0] / units[:, 0] - tables[:, 1, 0] / units[:, 1]
        weights = units[:, 0] * units[:, 1] / units.sum(axis=1)
        return float(100 * (weights * gaps).sum() / weights.sum())

    compare_function(
        answer, wanted,
        [
            (np.array([[[6, 4], [5, 15]]]),),
            (np.array([[[8, 2], [60, 40]], [[1, 9], [4, 6]]]),),
            (np.array([[[9, 1], [9, 1]], [[2, 38], [10, 190]]]),),
            (np.array([[[3, 7], [40, 50]], [[1, 1], [1, 3]], [[5, 5], [2, 8]]]),),
        ],
        hint="Take the gap within each stratum first, and then the weighted mean of the gaps.",
    )  # fmt: skip
