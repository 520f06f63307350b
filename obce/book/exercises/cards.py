"""Checkers of the chapters on a neuron's card and on how many stories it has."""

from __future__ import annotations

from typing import Any

import numpy as np

from obce.book.exercises.check import Answer, compare_function, compare_number, letters, returned


def gap_ratio(answer: Answer) -> None:
    """``answer(values, place, k)``: a gap beside the wider mean of the k gaps on either side."""
    random = np.random.default_rng(8)

    def wanted(values: np.ndarray, place: int, k: int) -> float:
        gaps = np.diff(np.sort(values))
        return gaps[place] / max(gaps[place - k : place].mean(), gaps[place + 1 :][:k].mean())

    cases: list[tuple[Any, ...]] = [
        (np.array([0.0, 1.0, 2.0, 8.0, 9.0, 12.0]), 2, 2),
        (random.permutation(np.r_[0:5, 20:25]).astype(float), 4, 3),
        (random.normal(size=40), 20, 12),
        (np.array([0.0, 3.0, 4.0, 12.0, 13.0, 14.0]), 2, 2),
    ]
    compare_function(
        answer, wanted, cases, hint="Sort, take the gaps, and divide by the larger of two means."
    )


def needed_ratio(answer: Any) -> None:
    """The ratio from which on one of 400 gaps with 12 on each side is a split, at level 0.05."""
    given = returned(answer)
    if given is not None:
        single = 12 * (40 ** (1 / 12) - 1)
        one_side = 12 * (8000 ** (1 / 12) - 1)
        compare_number(
            given, 12 * (16000 ** (1 / 12) - 1), 0.01,
            {single: "that is for one gap alone; 400 are tested.",
             one_side: "either side may be the outer one: the probability doubles."},
        )  # fmt: skip


def phi_of_table(answer: Answer) -> None:
    """``answer(both, only_side, only_word, neither)``: the correlation of two yes-or-no's."""
    compare_function(
        answer,
        lambda a, b, c, d: (a * d - b * c) / np.sqrt((a + b) * (c + d) * (a + c) * (b + d)),
        [(6, 2, 2, 10), (30, 0, 0, 70), (5, 5, 5, 5), (1, 9, 40, 50)],
        hint="It is what np.corrcoef gives for two columns of zeros and ones.",
    )


def what_a_card_says(answer: Any) -> None:
    """Which of the claims A to E a card supports, as a string of letters."""
    letters(
        answer, "BD",
        {"A": "a story tells what a side contains, not what the model uses it for.",
         "B": "this is what precision says.",
         "C": "other texts have other words: nothing was tested on them.",
         "D": "this is what the comparison with matched units says.",
         "E": "no story found means that nothing we asked about passed."},
    )  # fmt: skip


def groups_that_count(answer: Any) -> None:
    """In which of the clouds A to D the number of groups may be called the number of stories."""
    letters(
        answer, "C",
        {"A": "the same token at the same place was counted many times: no independent points.",
         "B": "the level holds for each unit; among 1,536 units at 0.05 some 77 may be wrong.",
         "C": "fresh points, the same splits, and a story on each side.",
         "D": "a cut that is set by eye has no level."},
    )  # fmt: skip


def expected_false(answer: Any) -> None:
    """How many of 1,536 units with one mode are split at level 0.05, at most, on average."""
    given = returned(answer)
    if given is not None:
        compare_number(given, 76.8, 0.02, {0.05: "that is the probability for one unit."})


def superfluous(answer: Answer) -> None:
    """``answer(groups)``: the part of the units that is left over if each group keeps one."""
    compare_function(
        answer,
        lambda groups: 1 - len(np.unique(groups)) / len(groups),
        [(np.array([0, 0, 0, 1]),), (np.array([5, 2, 9]),), (np.array([3, 1, 3, 1, 1, 1]),)],
        hint="How many groups are there? So many units stay.",
    )
