"""Corrections for many tests at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for how many there are, by Holm's method.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", 1979.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    found, reached = np.empty(len(order)), 0.0
    for rank, place in enumerate(order):
        reached = max(reached, (len(order) - rank) * p_values[place])
        found[place] = min(1.0, reached)
    return found.tolist()
