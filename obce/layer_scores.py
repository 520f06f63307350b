"""Scores of a layer as a whole: each unit is judged beside all others that its map reads.

All read :class:`obce.readings.Readings` and give, for one group, a number per unit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from obce import homology
from obce.readings import Readings
from obce.units import Group

RIDGE = 0.01  # of the mean variance of a reading, on the diagonal of covariances
STEPS = 64  # in which the second-order score removes the units of a group


def persistence_share(
    readings: Readings, group: Group, metric: str = "norm", degree: float = 2.0
) -> np.ndarray:
    """Each unit's share of the total persistence of its layer's cloud.

    The cloud has a point for each token t: its coordinate u is ``|w_u| x_u(t)``, the output of
    unit u times the norm of the weights that read it. The edges of the cloud's minimum spanning
    tree are its H0 deaths. An edge between the tokens a and b, of length l, gives unit u the amount
    ``l^(degree - 2) |w_u|^2 (x_u(a) - x_u(b))^2``, so the shares of all units add up to the sum of
    ``l^degree``. With an infinite ``degree`` the last merge alone counts.
    """
    points = readings.points[group]
    scale = np.sqrt(readings.squared_norms(group, metric))
    cloud = points * scale.astype(np.float32)
    return homology.persistence_shares(cloud, degree)


def covariance(
    readings: Readings, group: Group, of: str = "points", metric: str = "norm"
) -> np.ndarray:
    """``(units, units)`` float64: how the outputs of a group vary together.

    Over all points about their mean (``points``), or over the edges of the minimum spanning tree of
    the layer's cloud (``tree``): the mean of d d^T, d = x(a) - x(b).
    """
    points = readings.points[group].astype(np.float64)
    if of == "points":
        differences = points - points.mean(axis=0)
    elif of == "tree":
        scale = np.sqrt(readings.squared_norms(group, metric))
        a, b = homology.spanning_tree(points * scale).T
        differences = points[a] - points[b]
    else:
        raise ValueError(f"unknown covariance {of!r}; there are points, tree")
    return differences.T @ differences / len(differences)


def second_order(
    readings: Readings, group: Group, covariance_of: str = "points", metric: str = "norm"
) -> np.ndarray:
    """The error that is left when a unit goes and the others' weights are refitted to make it good.

    Units are removed in ``STEPS`` blocks, those of least error first; after each, the weights of
    the others take over what they can. A unit's score is the error at which it went, so that the
    order of the scores is the order of removal.

    Source: B. Hassibi and D. Stork, "Second order derivatives for network pruning: Optimal Brain
    Surgeon", 1992; for columns of a matrix E. Kurtic et al., "ZipLM", 2023.
    """
    cov = covariance(readings, group, covariance_of, metric)
    units = len(cov)
    cov[np.diag_indices(units)] += RIDGE * cov.diagonal().mean() + 1e-12
    inverse = np.linalg.inv(cov)
    weights = readings.weights[group].astype(np.float64).T.copy()  # (units, hidden)
    if metric == "loss":
        weights = weights @ np.linalg.cholesky(readings.felt[group])
    elif metric == "plain":
        weights = np.eye(units)
    score = np.zeros(units)
    left = np.arange(units)
    reached = 0.0
    for block in np.array_split(np.arange(units), min(STEPS, units)):
        errors = np.einsum("uh,uh->u", weights, weights) / inverse.diagonal()
        go = np.argsort(errors, kind="stable")[: len(block)]
        for one in go:  # scores ascend in the order of removal
            reached = max(reached * (1 + 1e-9), float(errors[one]))
            score[left[one]] = reached
        stay = np.setdiff1d(np.arange(len(left)), go)
        if not len(stay):
            break
        solved = np.linalg.solve(inverse[np.ix_(go, go)], inverse[np.ix_(go, stay)])
        weights = weights[stay] - solved.T @ weights[go]
        inverse = inverse[np.ix_(stay, stay)] - inverse[np.ix_(stay, go)] @ solved
        left = left[stay]
    return score


def unit_homology(readings: Readings, group: Group, metric: str = "norm") -> np.ndarray:
    """Persistence of each unit among the units of its group, under the elder rule.

    A unit's strength is the standard deviation of what it writes. Two units are as far apart as
    what the stronger leaves unexplained of the weaker, s sqrt(1 - r^2), s the weaker one's
    strength and r their correlation. Units merge as the scale grows, and of two components that
    merge the one with the weaker elder dies: the scale at which a unit dies is its score. The
    output that is always zero lies at the distance of a unit's own strength: there it dies at the
    latest.
    """
    points = readings.points[group].astype(np.float64)
    cov = np.cov(points, rowvar=False)
    strength = np.sqrt(cov.diagonal() * readings.squared_norms(group, metric))
    deviation = np.sqrt(cov.diagonal())
    deviation[deviation == 0] = 1.0
    unexplained = np.clip(1 - (cov / np.outer(deviation, deviation)) ** 2, 0, None)
    distance = np.minimum(strength[:, None], strength) * np.sqrt(unexplained)
    return np.minimum(_elder_rule(distance, strength), strength)


def _elder_rule(distance: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """``(n,)``: the scale at which each point's component meets one with a stronger elder;
    infinity for the strongest."""
    edges = homology.tree_of_distances(distance)
    lengths = distance[edges[:, 0], edges[:, 1]]
    elder = np.arange(len(strength))
    death = np.full(len(strength), np.inf)

    def find(point: int) -> int:
        while elder[point] != point:
            elder[point] = elder[elder[point]]
            point = elder[point]
        return point

    for index in np.argsort(lengths, kind="stable"):
        a, b = (find(point) for point in edges[index])
        young, old = (a, b) if strength[a] < strength[b] else (b, a)
        death[young], elder[young] = lengths[index], old
    return death


LAYER_FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "persistence_share": persistence_share,
    "second_order": second_order,
    "unit_homology": unit_homology,
}
