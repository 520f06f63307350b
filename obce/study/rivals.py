"""Rivals of the topological scores that are no part of the package: they are here to be beaten.

``hub_degree`` and ``spectral`` are scores of :class:`obce.readings.Readings`; :func:`swapped`
betters a plan.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from obce.base.settings import DEFAULT_COVARIANCE, DEFAULT_METRIC
from obce.layer_scores import RIDGE
from obce.pruning import Plan
from obce.readings import Readings
from obce.scores import Scores
from obce.units import READS, Group

SWAPS = 50  # per group and head at most; a search ends when no swap helps


def written_covariance(
    readings: Readings,
    group: Group,
    covariance: str = DEFAULT_COVARIANCE,
    metric: str = DEFAULT_METRIC,
) -> np.ndarray:
    """``(units, units)``: of the units' outputs, each times the norm of what reads it."""
    scale = np.sqrt(readings.squared_norms(group, metric))
    return readings.covariance(group, covariance, metric) * np.outer(scale, scale)


def hub_degree(readings: Readings, group: Group, **options: str) -> np.ndarray:
    """How much a unit's neighbours in the graph of covariances weigh: its weighted degree."""
    return np.abs(written_covariance(readings, group, **options)).sum(axis=1)


def spectral(readings: Readings, group: Group, **options: str) -> np.ndarray:
    """The ridge leverage of a unit: how much of it lies in the directions that carry variance.

    Source: A. Alaoui and M. Mahoney, "Fast randomized kernel ridge regression with statistical
    guarantees", 2015.
    """
    cov = written_covariance(readings, group, **options)
    ridge = cov.diagonal().mean() + 1e-12
    values, vectors = np.linalg.eigh(cov)
    values = np.clip(values, 0, None)
    return vectors**2 @ (values / (values + ridge))


FUNCTIONS = {"hub_degree": hub_degree, "spectral": spectral}


def score(readings: Readings, name: str, **options: str) -> Scores:
    """The scores of all groups."""
    function = FUNCTIONS[name]
    found = {group: function(readings, group, **options) for group in readings.points}
    about = {"score": name, **options, **readings.info}
    return Scores({group: row.astype(np.float32) for group, row in found.items()}, about)


def swapped(
    plan: Plan,
    readings: Readings,
    covariance: str = DEFAULT_COVARIANCE,
    metric: str = DEFAULT_METRIC,
) -> Plan:
    """A plan of as many units in every head and layer, bettered by swaps.

    As long as it lowers the error that is left after the best refit, the unit that would help most
    comes back and the unit that is missed least goes.

    Source: X. Meng et al., "OSSCAR: one-shot structured pruning in vision and language models with
    combinatorial optimization", 2024.
    """
    kept = dict(plan.kept)
    size = plan.shape.head_size
    for layer, kind in readings.points:
        if kind not in READS.values() or len(kept[layer, kind]) == plan.shape.width(kind):
            continue
        group = (layer, kind)
        cov = readings.covariance(group, covariance, metric)
        cov[np.diag_indices(len(cov))] += RIDGE * cov.diagonal().mean() + 1e-12
        root = readings.root(group, metric)  # (k, units)
        heads = np.arange(len(cov)) // (size if kind == "value" else len(cov))
        kept[group] = _search(cov, root @ cov, kept[group], heads)
    return replace(plan, kept=kept)


def _search(cov: np.ndarray, wanted: np.ndarray, kept: np.ndarray, heads: np.ndarray) -> np.ndarray:
    """The kept units after all swaps that help.

    Args:
        cov: ``(units, units)``, regular.
        wanted: ``(k, units)``: A cov, where A reads the units. With the units S, the best refit
            leaves |A|^2 - |A cov[:, S] cov[S, S]^-1/2|^2 in the metric of cov.
        heads: ``(units,)``: a unit is swapped for one of its own head.
    """
    stays = np.zeros(len(cov), dtype=bool)
    stays[kept] = True
    for head in np.unique(heads):
        for _ in range(SWAPS):
            s = np.flatnonzero(stays)
            out = np.flatnonzero(~stays & (heads == head))
            if not len(out):
                break
            inverse = np.linalg.inv(cov[np.ix_(s, s)])
            fit = wanted[:, s] @ inverse  # (k, kept): what the refitted weights are
            # The gain of each unit outside: its residual against what is still missing.
            across = cov[np.ix_(s, out)]
            left = cov[out, out] - np.einsum("so,so->o", across, inverse @ across)
            missing = wanted[:, out] - fit @ across
            gains = np.einsum("ko,ko->o", missing, missing) / np.maximum(left, 1e-12)
            best = int(gains.argmax())
            stays[out[best]] = True
            s = np.flatnonzero(stays)
            inverse = np.linalg.inv(cov[np.ix_(s, s)])
            fit = wanted[:, s] @ inverse
            losses = np.einsum("ks,ks->s", fit, fit) / inverse.diagonal()
            losses[heads[s] != head] = np.inf
            worst = int(losses.argmin())
            stays[s[worst]] = False
            if s[worst] == out[best] or losses[worst] >= gains[best] * (1 - 1e-6):
                if s[worst] != out[best]:  # a swap that does not help is taken back
                    stays[s[worst]], stays[out[best]] = True, False
                break
    return np.flatnonzero(stays)
