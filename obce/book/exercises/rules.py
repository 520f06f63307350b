"""Checkers of the chapter on rules for a BERT."""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np

from obce.book.exercises.check import (
    Answer,
    compare_function,
    compare_number,
    returned,
    same,
    say,
)


def inner_bar(answer: Answer) -> None:
    """``answer(values, least)``: the middle of the longest gap with as many points on each side."""
    random = np.random.default_rng(3)

    def wanted(values: np.ndarray, least: int) -> float:
        points = np.sort(values)
        places = range(least - 1, len(points) - least)
        best = max(places, key=lambda place: points[place + 1] - points[place])
        return (points[best] + points[best + 1]) / 2

    cases: list[tuple[Any, ...]] = [
        (np.array([4.0, 0.0, 9.0, 1.0, 3.0]), 2),
        (np.array([0.0, 10.0, 11.0, 15.0, 16.0, 40.0]), 2),
        (np.array([5.0, 1.0]), 1),
        (random.permutation(np.r_[-30, random.normal(size=20), random.normal(6, 1, 20), 60]), 12),
    ]
    compare_function(
        answer, wanted, cases,
        hint="Sort. The first gap that counts has `least` points on its left.",
    )  # fmt: skip


def trees_with_leaves(answer: Answer) -> None:
    """``answer(leaves, questions)``: yes-or-no trees with exactly so many leaves."""

    def wanted(k: int, f: int) -> int:
        return comb(2 * k - 2, k - 1) // k * f ** (k - 1) * 2**k

    try:
        given = answer(8, 96)
    except Exception:  # whatever it is, the comparison tells it
        given = None
    if isinstance(given, (float, np.floating)) and same(given, wanted(8, 96), 1e-3):
        return say(
            "a float has 16 digits, and with 8 leaves and 96 questions the number has 19. "
            "Work with whole numbers, and divide with `//`."
        )
    compare_function(
        answer,
        wanted,
        [(1, 5), (2, 1), (2, 3), (3, 2), (4, 10), (8, 96)],
        tolerance=0,
        hint="Shapes times questions at the inner nodes times answers at the leaves.",
    )


def texts_enough(answer: Any) -> None:
    """Texts without an error that put the error of one of 1,024 rules below 5 %, at level 0.05."""
    given = returned(answer)
    if given is not None:
        alone = int(np.ceil(np.log(0.05) / np.log(0.95)))
        short = np.log(0.05 / 1024) / np.log(0.95)
        simple = np.log(1024 / 0.05) / 0.05
        simpler = "with exp(-en) the bound is simpler and the number larger than the theorem's."
        compare_number(
            given, 194, 0.001,
            {float(alone): "that is enough for one rule that was fixed before; here are 1,024.",
             float(np.floor(short)): "one text too few: round up.",
             float(short): "texts are whole: round up.",
             float(simple): simpler, float(np.ceil(simple)): simpler},
        )  # fmt: skip
