"""What the figures of points and deaths compute before they draw."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import pdist


def in_the_plane(points: np.ndarray) -> np.ndarray:
    """``(n, 2)`` points; those of a line, ``(n,)``, get a second coordinate 0."""
    points = np.asarray(points, dtype=float)
    points = np.column_stack([points, 0 * points]) if points.ndim == 1 else points
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError(f"points are (n,) or (n, 2) here, not an array of shape {points.shape}")
    return points


def pairs_by_length(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of points, shortest first: indices, lengths, and whether they merge components."""
    pairs, lengths = np.transpose(np.triu_indices(len(points), 1)), pdist(points)
    order = np.argsort(lengths, kind="stable")
    component, merges = np.arange(len(points)), np.zeros(len(pairs), dtype=bool)
    for k, (i, j) in enumerate(pairs[order]):
        if component[i] != component[j]:
            component[component == component[j]] = component[i]
            merges[k] = True
    return pairs[order], lengths[order], merges


def components_text(count: int) -> str:
    """``1 component``, ``2 components``."""
    return f"{count} component" + ("" if count == 1 else "s")


def matched(first: np.ndarray, second: np.ndarray) -> tuple[float, int]:
    """Bottleneck distance of two lists of H0 deaths, and how many of the largest it pairs.

    Best is to pair the k largest of either in order and to send the rest to the diagonal, for
    some k; of equally good ones the largest k.
    """
    first, second = np.sort(first)[::-1], np.sort(second)[::-1]
    costs = []
    for k in range(min(len(first), len(second)) + 1):
        rest = np.concatenate([first[k:], second[k:]]) / 2
        costs.append(max(np.abs(first[:k] - second[:k]).max(initial=0), rest.max(initial=0)))
    best = len(costs) - 1 - int(np.argmin(costs[::-1]))
    return costs[best], best
