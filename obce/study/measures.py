"""What a cell is judged by, row by row; and how rows are packed into records."""

from __future__ import annotations

import base64

import numpy as np
from scipy import special, stats

RESAMPLES = 1000
DTYPES = {"float16": "<f2", "float32": "<f4", "int8": "i1"}


def divergences(dense: np.ndarray, small: np.ndarray) -> np.ndarray:
    """How far a compressed model's predictions are from the dense one's, row by row.

    The Kullback-Leibler divergence of the dense prediction to the compressed one's, in nats; for a
    regression the squared difference over the variance of the dense predictions.

    Args:
        dense, small: logits, (rows, classes); (rows, 1) for a regression.

    Returns:
        float64, (rows,).

    >>> half, sure = np.log([[0.5, 0.5]]), np.log([[0.75, 0.25]])
    >>> divergences(half, sure).round(4)
    array([0.1438])
    >>> divergences(np.array([[1.0], [3.0]]), np.array([[1.0], [2.0]]))
    array([0., 1.])
    """
    dense, small = dense.astype(np.float64), small.astype(np.float64)
    if dense.shape[1] == 1:
        variance = dense.var()
        if not variance > 0:
            raise ValueError("the dense model gives every row the same number")
        return ((dense - small) ** 2).ravel() / variance
    old, new = (special.log_softmax(logits, axis=1) for logits in (dense, small))
    return np.maximum((np.exp(old) * (old - new)).sum(axis=1), 0.0)


def agreement(dense: np.ndarray, small: np.ndarray) -> float | None:
    """The share of rows with equal answers; None for a regression.

    >>> agreement(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.0, 2.0], [0.0, 1.0]]))
    0.5
    """
    if dense.shape[1] == 1:
        return None
    return float((dense.argmax(axis=1) == small.argmax(axis=1)).mean())


def interval(rows: np.ndarray) -> list[float]:
    """The 95 % bootstrap interval of the rows' mean."""
    found = stats.bootstrap(
        (rows,), np.mean, n_resamples=RESAMPLES, method="percentile", random_state=0
    ).confidence_interval
    return [float(found.low), float(found.high)]


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """Spearman's; None where one of them is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(stats.spearmanr(one, other).statistic)


def pack(rows: np.ndarray, dtype: str, unit: float = 1.0) -> str:
    """A row of numbers as a short text; a ``unit`` near them keeps small ones precise.

    >>> pack(np.array([0, 1, 1]), "int8"), unpack("int8:AAEB")
    ('int8:AAEB', array([0, 1, 1], dtype=int8))
    """
    head = dtype if unit == 1 else f"{dtype}*{unit!r}"
    scaled = rows if unit == 1 else rows / unit
    return f"{head}:{base64.b64encode(scaled.astype(DTYPES[dtype]).tobytes()).decode()}"


def unpack(text: str) -> np.ndarray:
    """What :func:`pack` packed; float64 where there is a unit."""
    head, _, data = text.partition(":")
    dtype, _, unit = head.partition("*")
    rows = np.frombuffer(base64.b64decode(data), DTYPES[dtype])
    return rows.astype(np.float64) * float(unit) if unit else rows


def pack_divergences(rows: np.ndarray) -> str:
    """In half precision, as multiples of their mean."""
    return pack(rows, "float16", float(rows.mean()) or 1.0)


def pack_predictions(logits: np.ndarray) -> str:
    """Classes as bytes, a regression's numbers in half precision."""
    if logits.shape[1] == 1:
        return pack(logits[:, 0], "float16")
    return pack(logits.argmax(axis=1), "int8")
