"""Homology between the units of a layer: who says what others say, and what a plan takes of whom.

Units are points, and as near to each other as they are correlated: 1 - abs(r). Single linkage is
the zero-dimensional homology of these points. Average linkage is what Dalvi et al. (2020) cut to
count neurons that a correlation clustering makes superfluous: of each cluster one unit would do.

Source: F. Dalvi et al., "Analyzing redundancy in pretrained Transformer models", EMNLP 2020,
arXiv 2004.04010; with average linkage and the threshold 0.3 of its published code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

THRESHOLD = 0.3
Linkage = Literal["average", "single"]


@dataclass
class Redundancy:
    """Groups of units that say nearly the same.

    Attributes:
        tree: ``(units - 1, 4)``, as SciPy's ``linkage`` and ``dendrogram`` have it.
        labels: ``(units,)``: the number of each unit's group, from 0.
        share: the part of the units that is left over if each group keeps one.
    """

    tree: np.ndarray
    labels: np.ndarray
    share: float

    def groups(self) -> list[np.ndarray]:
        """The units of each group, the largest group first."""
        found = [np.flatnonzero(self.labels == label) for label in np.unique(self.labels)]
        return sorted(found, key=lambda units: (-len(units), units[0]))

    def kept_by(self, kept: Sequence[int]) -> list[tuple[int, int]]:
        """Of each group, in the order of :meth:`groups`: how many units it has, and how many of
        them stay, where ``kept`` are the units that a plan keeps."""
        return [(len(units), int(np.isin(units, kept).sum())) for units in self.groups()]


def redundancy(
    outputs: np.ndarray, threshold: float = THRESHOLD, method: Linkage = "average"
) -> Redundancy:
    """Cluster units by the absolute correlation of their outputs.

    Args:
        outputs: ``(points, units)``: at least two of each.
        threshold: distance 1 - abs(r) up to which groups merge.
        method: ``average``, or ``single`` for the homology of the units.

    Raises:
        ValueError: fewer points or units, or a threshold outside of [0, 1].

    >>> x = np.random.default_rng(0).normal(size=(500, 3))
    >>> same = redundancy(np.column_stack([x, -2 * x[:, 0] + 1]))
    >>> bool(same.labels[0] == same.labels[3]), same.share
    (True, 0.25)
    """
    if outputs.ndim != 2 or min(outputs.shape) < 2:
        raise ValueError(f"at least two points and two units are needed, not {outputs.shape}")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold={threshold:g}: it must be from 0 to 1")
    distance = 1 - np.abs(correlations(outputs))
    tree = linkage(squareform(distance, checks=False), method)
    labels = fcluster(tree, threshold, "distance") - 1
    return Redundancy(tree, labels, 1 - int(labels.max() + 1) / len(labels))


def correlations(outputs: np.ndarray) -> np.ndarray:
    """``(units, units)``: Pearson's r; a constant unit is correlated with none but itself."""
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.nan_to_num(np.corrcoef(outputs, rowvar=False))
    r = np.clip((r + r.T) / 2, -1, 1)
    np.fill_diagonal(r, 1)
    return r
