"""Claims of a study: paired comparisons of scores over tasks, seeds and rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from scipy import stats

from obce.base.corrections import holm as holm  # reports ask for it here

LEVEL = 0.95
FLOOR = 1e-9  # below this, predictions are the dense model's own but for rounding
ROW_DRAWS = 1000


def log_divergence(values: Sequence[float]) -> float:
    """The mean of the logarithms: of several runs, or several random draws.

    >>> round(log_divergence([0.1, 0.1]), 3)
    -2.303
    """
    return float(np.mean(np.log(np.maximum(values, FLOOR))))


def compare(differences: Sequence[float], comparisons: int = 1) -> dict[str, Any]:
    """Whether the mean of paired differences, one per task, is not zero.

    Args:
        differences: of the log divergence of one score and another, averaged over seeds.
        comparisons: of so many that are made together, by which the interval is widened
            (Bonferroni), so that all of them hold at once with 95 %.

    Returns:
        ``difference``, the mean; ``ratio``, its exponential: how many times the other's divergence;
        ``interval`` and ``p`` by Student's t over tasks (both None for a single task); ``claim``:
        -1 if the interval lies below zero (the first is nearer to the dense model), 1 if above, 0
        if neither.

    >>> found = compare([-0.5, -0.4, -0.6])
    >>> found["claim"], round(found["ratio"], 3), [round(x, 3) for x in found["interval"]]
    (-1, 0.607, [-0.748, -0.252])
    """
    values = np.asarray(differences, dtype=np.float64)
    mean = float(values.mean())
    found: dict[str, Any] = {
        "difference": mean, "ratio": float(np.exp(mean)), "tasks": len(values),
        "interval": None, "p": None, "claim": 0,
    }  # fmt: skip
    if len(values) < 2:
        return found
    if np.ptp(values) <= 1e-12:  # equal plans, as a rule; Student's t has no say on them
        low = high = mean
        p = 1.0 if abs(mean) <= 1e-12 else 0.0
    else:
        test = stats.ttest_1samp(values, 0.0)
        between = test.confidence_interval(1 - (1 - LEVEL) / max(comparisons, 1))
        low, high, p = float(between.low), float(between.high), float(test.pvalue)
    claim = -1 if high < 0 else 1 if low > 0 else 0
    return found | {"interval": [low, high], "p": p, "claim": 0 if p == 1.0 else claim}


def resampled(rows: np.ndarray) -> np.ndarray:
    """The log of the mean divergence on rows that are drawn anew, ``ROW_DRAWS`` times.

    The draws are the same for all cells with so many rows: what two of them differ by is paired.
    """
    means = _draws(len(rows)) @ rows.astype(np.float64) / len(rows)
    return np.log(np.maximum(means, FLOOR))


@cache
def _draws(rows: int) -> np.ndarray:
    """(draws, rows): how often each row is drawn."""
    random = np.random.default_rng(0)
    return random.multinomial(rows, np.full(rows, 1 / rows), ROW_DRAWS).astype(np.float64)


def middle(values: np.ndarray) -> list[float]:
    """The interval that holds the middle 95 % of some values."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]


def distribution(values: Sequence[float]) -> dict[str, float]:
    """Of many random draws: mean, standard deviation and quantiles.

    >>> distribution([1.0, 2.0, 3.0])["median"]
    2.0
    """
    row = np.asarray(values, dtype=np.float64)
    quantiles = np.quantile(row, [0, 0.05, 0.5, 0.95, 1])
    names = ("least", "5 %", "median", "95 %", "most")
    return {
        "draws": len(row), "mean": float(row.mean()),
        "std": float(row.std(ddof=1)) if len(row) > 1 else 0.0,
    } | dict(zip(names, map(float, quantiles), strict=True))  # fmt: skip
