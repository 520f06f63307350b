"""Rivals: swaps lower the error of the best refit and end where no single swap would; graphs."""

import itertools

import numpy as np
import pytest

from obce.layer_scores import second_order
from obce.pruning import Plan
from obce.readings import Readings
from obce.study import rivals
from obce.units import KINDS, Parameters, Shape

SHAPE = Shape(layers=1, hidden=4, heads=2, intermediate=7)
GROUP = (0, "intermediate")


def example(seed, group=GROUP):
    rng = np.random.default_rng(seed)
    units = SHAPE.width(group[1])
    points = (rng.normal(size=(300, units)) @ rng.normal(size=(units, units))).astype(np.float32)
    points -= points.mean(axis=0)
    weights = rng.normal(size=(4, units)).astype(np.float32)
    return Readings(SHAPE, {group: points}, {group: weights})


def plan(kept, group=GROUP):
    encoder = SHAPE.layer_parameters(SHAPE.full)
    everything = {(0, kind): [*range(SHAPE.width(kind))] for kind in KINDS}
    return Plan(SHAPE, everything | {group: kept}, Parameters(encoder, encoder, 0, 0))


def error(readings, kept, group=GROUP):
    """What least squares leaves of what the map writes, from the kept units alone."""
    points = readings.points[group].astype(np.float64)
    wanted = points @ readings.weights[group].T.astype(np.float64)
    fit, *_ = np.linalg.lstsq(points[:, kept], wanted, rcond=None)
    return ((wanted - points[:, kept] @ fit) ** 2).sum(axis=1).mean()


@pytest.mark.parametrize("seed", range(4))
def test_no_single_swap_of_the_best_gain_is_left(seed, monkeypatch):
    monkeypatch.setattr(rivals, "RIDGE", 1e-9)
    found = example(seed)
    start = [0, 1, 2]
    after = rivals.swapped(plan(start), found).kept[GROUP].tolist()
    assert len(after) == 3 and error(found, after) <= error(found, start)
    assert rivals.swapped(plan(after), found).kept[GROUP].tolist() == after
    best = min(error(found, list(kept)) for kept in itertools.combinations(range(7), 3))
    assert error(found, after) <= 3 * best


def test_what_second_order_leaves_is_not_made_worse():
    for seed in range(5):
        found = example(seed)
        start = sorted(np.argsort(second_order(found, GROUP, metric="norm"))[-4:].tolist())
        after = rivals.swapped(plan(start), found).kept[GROUP].tolist()
        assert error(found, after) <= error(found, start) * (1 + 1e-3)


def test_a_value_unit_is_swapped_within_its_head():
    group = (0, "value")
    found = example(1, group)
    after = rivals.swapped(plan([0, 2], group), found).kept[group]
    assert len(after) == 2 and (after // 2).tolist() == [0, 1]
    assert error(found, after.tolist(), group) <= error(found, [0, 2], group)


def test_a_hub_covaries_with_many_and_a_leverage_is_at_most_one():
    rng = np.random.default_rng(0)
    common, noise = rng.normal(size=500), rng.normal(size=(500, 7))
    points = np.column_stack([common[:, None] + 0.1 * noise[:, :5], noise[:, 5:]])
    weights = np.eye(7, dtype=np.float32)
    found = Readings(SHAPE, {GROUP: points.astype(np.float32)}, {GROUP: weights})
    degree = rivals.hub_degree(found, GROUP)
    assert degree[:5].min() > 2 * degree[5:].max()
    np.testing.assert_allclose(degree[0], np.abs(np.cov(points.T, bias=True))[0].sum(), rtol=1e-4)
    leverage = rivals.spectral(found, GROUP)
    assert 0 < leverage.min() and leverage.max() < 1
    assert leverage[5:].min() > leverage[:5].max()  # five say one thing, two stand alone
    scores = rivals.score(found, "spectral", metric="plain")
    assert scores.info["score"] == "spectral"
    np.testing.assert_allclose(scores[GROUP], rivals.spectral(found, GROUP, metric="plain"))
