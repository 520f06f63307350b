"""Checks of arguments that many functions share."""

from __future__ import annotations

import math
from collections.abc import Iterable


def check_positive(**values: float) -> None:
    """ValueError for the first argument that is not a finite number above 0.

    >>> check_positive(epochs=0)
    Traceback (most recent call last):
    ValueError: epochs=0: it must be above 0
    """
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name}={value}: it must be above 0")


def check_choice(what: str, value: str, known: Iterable[str]) -> None:
    """ValueError that lists what there is, if ``value`` is not among it.

    >>> check_choice("cloud", "fog", ["mean", "cls"])
    Traceback (most recent call last):
    ValueError: unknown cloud 'fog'; there are mean, cls
    """
    known = tuple(known)
    if value not in known:
        raise ValueError(f"unknown {what} {value!r}; there are {', '.join(known)}")


def check_ridge(ridge: float | str) -> None:
    """ValueError for what is neither ``auto`` nor a number from 0 on.

    >>> check_ridge(-1.0)
    Traceback (most recent call last):
    ValueError: ridge=-1.0: it must be auto, or a number that is not negative
    """
    if ridge != "auto" and not (isinstance(ridge, (float, int)) and 0 <= ridge < math.inf):
        raise ValueError(f"ridge={ridge}: it must be auto, or a number that is not negative")
