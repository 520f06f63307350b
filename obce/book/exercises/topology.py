"""Checkers of the chapter that asks whether it is the topology."""

from __future__ import annotations

import numpy as np

from obce.book.exercises.check import Answer, compare_function, compare_number, returned
from obce.study import measures, statistics


def divergence(answer: Answer) -> None:
    """``answer(dense, small)``: the mean divergence of logits (rows, classes), in nats."""
    rng = np.random.default_rng(8)
    half, sure = np.log([[0.5, 0.5]]), np.log([[0.75, 0.25]])
    cases = [(half, sure), (sure, half), (half, half)]
    cases += [
        tuple(rng.normal(0, 2, size=(2, rows, classes))) for rows, classes in ((4, 2), (3, 3))
    ]
    compare_function(
        answer,
        lambda dense, small: measures.divergences(dense, small).mean(),
        cases,
        hint="The dense probabilities times the difference of the log-probabilities, dense less "
        "compressed; added up over classes, averaged over rows.",
    )


def by_chance(answer: Answer) -> None:
    """``answer(draws, observed)``: the p-value of a score among random plans."""
    rng = np.random.default_rng(9)
    cases = [([0.3, 0.4, 0.5], 0.2), ([0.3, 0.4, 0.5], 0.4), ([0.3, 0.4, 0.5], 0.9)]
    cases += [(rng.normal(size=19).tolist(), 0.0)]
    compare_function(
        answer,
        lambda draws, observed: (1 + np.sum(np.asarray(draws) <= observed)) / (1 + len(draws)),
        cases,
        hint="Count the draws that are as near to the dense model or nearer; the observed plan "
        "counts as one more draw, above and below the line.",
    )


def sign_test(answer: Answer) -> None:
    """``answer()``: the two-sided p-value of 7 wins in 8 tasks."""
    given = returned(answer)
    if given is None:
        return None
    traps = {
        9 / 256: "that is one-sided: 7 or more wins. As many losses would be as odd.",
        8 / 256: "that is the chance of exactly 7 wins; 8 wins are at least as odd.",
        16 / 256: "7 wins or 7 losses; 8 of either are at least as odd.",
        1 / 8: "that is the share of losses.",
    }
    return compare_number(given, 18 / 256, 1e-3, traps)


def holm(answer: Answer) -> None:
    """``answer(p)``: p-values corrected by Holm's method, in the order given."""
    rng = np.random.default_rng(10)
    cases = [([0.01, 0.04, 0.03],), ([0.2],), ([0.6, 0.7],), (rng.uniform(0, 0.2, 7).tolist(),)]
    compare_function(
        answer,
        lambda p: np.array(statistics.holm(p)),
        cases,
        hint="The smallest times n, the next times n - 1, and so on; none below the one before, "
        "and none above 1.",
    )
