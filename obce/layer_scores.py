"""Scores of a layer as a whole: each unit is judged beside all others that its map reads.

All read :class:`obce.readings.Readings` and give, for one group, a number per unit.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from obce import homology
from obce.base.settings import DEFAULT_COVARIANCE, DEFAULT_METRIC, DEFAULT_METRICS, DEGREE
from obce.readings import Readings
from obce.units import Group

RIDGE = 0.01  # of the mean variance of a reading, on the diagonal of covariances
STEPS = 64  # in which the second-order score removes the units of a group


def std(readings: Readings, group: Group, metric: str = DEFAULT_METRIC) -> np.ndarray:
    """Standard deviation of what a unit writes, over all tokens.

    With the ``norm`` of the weights that read it, the score of the pruning methods that work best
    without training; alone (``plain``), that of Variance Pruning.

    Source: Y. An et al., "Fluctuation-based adaptive structured pruning for large language models",
    2023 (FLAP); E. Weinstein and Y. Belinkov, "Variance Pruning", 2021.
    """
    variance = readings.square[group] - readings.mean[group] ** 2
    return np.sqrt(np.clip(variance, 0, None) * readings.squared_norms(group, metric))


def rms(readings: Readings, group: Group, metric: str = DEFAULT_METRIC) -> np.ndarray:
    """Root mean square of what a unit writes, over all tokens.

    Source: M. Sun et al., "A simple and effective pruning approach for large language models", 2023
    (Wanda), by columns.
    """
    return np.sqrt(readings.square[group] * readings.squared_norms(group, metric))


def fisher(readings: Readings, group: Group) -> np.ndarray:
    """How much the model's own predictions feel a small change of a unit's strength.

    The mean over texts of the squared slope of the log-likelihood, by a factor of the unit's
    outputs, of classes drawn from the model's own predictions: no labels are used.

    Source: W. Kwon et al., "A fast post-training pruning framework for transformers", 2022, with
    the labels replaced as in S. Park et al., "Knowledge-preserving pruning" (K-prune), 2024.
    """
    if group not in readings.fisher:
        raise ValueError("score 'fisher' needs read(..., loss=True)")
    return readings.fisher[group]


def persistence_share(
    readings: Readings,
    group: Group,
    metric: str = DEFAULT_METRIC,
    degree: float = DEGREE,
) -> np.ndarray:
    """Each unit's share of the total persistence of its layer's cloud.

    The cloud has a point for each token t: its coordinate u is ``|w_u| x_u(t)``, the output of
    unit u times the norm of the weights that read it. The edges of the cloud's minimum spanning
    tree are its H0 deaths. An edge between the tokens a and b, of length l, gives unit u the amount
    ``l^(degree - 2) |w_u|^2 (x_u(a) - x_u(b))^2``, so the shares of all units add up to the sum of
    ``l^degree``. With an infinite ``degree`` the last merge alone counts.
    """
    tree = readings.tree(group, metric)
    return homology.persistence_shares(readings.cloud(group, metric), degree, tree)


def second_order(
    readings: Readings,
    group: Group,
    covariance: str = DEFAULT_COVARIANCE,
    metric: str = DEFAULT_METRICS["second_order"],
) -> np.ndarray:
    """The error that is left when a unit goes and the others' weights are refitted to make it good.

    Units are removed in ``STEPS`` blocks, those of least error first; after each, the weights of
    the others take over what they can. A unit's score is the error at which it went, so that the
    order of the scores is the order of removal. What varies together is read off all points, or off
    the tree's edges (``covariance``).

    Source: B. Hassibi and D. Stork, "Second order derivatives for network pruning: Optimal Brain
    Surgeon", 1992; for columns of a matrix E. Kurtic et al., "ZipLM", 2023.
    """
    cov = readings.covariance(group, covariance, metric)
    units = len(cov)
    cov[np.diag_indices(units)] += RIDGE * cov.diagonal().mean() + 1e-12
    inverse = np.linalg.inv(cov)
    weights = readings.root(group, metric).T  # (units, hidden)
    score, left, reached = np.zeros(units), np.arange(units), 0.0
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


def unit_homology(readings: Readings, group: Group, metric: str = DEFAULT_METRIC) -> np.ndarray:
    """Persistence of each unit among the units of its group, under the elder rule.

    A unit's strength is the standard deviation of what it writes. Two units are as far apart as
    the more that one of them leaves unexplained of the other: s sqrt(1 - r^2), s the stronger one's
    strength and r their correlation. (With the weaker one's strength, a faint unit would be near
    all others and join them.) Units merge as the scale grows, and of two components that merge the
    one with the weaker elder dies: the scale at which a unit dies is its score. The output that is
    always zero lies at the distance of a unit's own strength: there it dies at the latest.
    """
    cov = readings.covariance(group)
    strength = np.sqrt(cov.diagonal() * readings.squared_norms(group, metric))
    deviation = np.sqrt(cov.diagonal())
    deviation[deviation == 0] = 1.0
    unexplained = np.clip(1 - (cov / np.outer(deviation, deviation)) ** 2, 0, None)
    distance = np.maximum(strength[:, None], strength) * np.sqrt(unexplained)
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


def of_pairs(readings: Readings, layer: int, values: np.ndarray) -> np.ndarray:
    """What query-key pairs of a layer are worth, beside the second-order score of its value units.

    The loss's metric knows what the predictions feel of a pair, and what they feel of the mean
    square of a value unit. The score gives the layer's value units so and so much of the latter in
    all, and pairs as much of theirs. (Scores that do not know of the refit are no yardstick: it
    makes good most of what a value unit says, and little of a pair. In trials, budgets that they
    share with pairs cut too many pairs.)

    Args:
        values: ``(units,)``, the score of the layer's value units, in the loss's metric.

    Returns:
        ``(hidden,)``, for each pair.
    """
    group = (layer, "value")
    felt = readings.square[group] * readings.squared_norms(group, "loss")
    return readings.pairs[layer] * values.sum() / max(felt.sum(), 1e-300)


LAYER_FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "std": std,
    "rms": rms,
    "fisher": fisher,
    "persistence_share": persistence_share,
    "second_order": second_order,
    "unit_homology": unit_homology,
}


def options_of(name: str, **options: Any) -> dict[str, Any]:
    """Those of the options that a layer's score takes.

    >>> options_of("std", metric="loss", degree=1.0)
    {'metric': 'loss'}
    """
    taken = inspect.signature(LAYER_FUNCTIONS[name]).parameters
    return {option: value for option, value in options.items() if option in taken}
