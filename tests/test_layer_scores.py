"""Scores of a layer: the theorem of persistence shares, and each score against its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist

import obce
from obce import homology, layer_scores
from obce.layer_scores import (
    LAYER_FUNCTIONS,
    persistence_share,
    rms,
    second_order,
    std,
    unit_homology,
)
from obce.readings import Readings, read
from obce.units import Shape

GROUP = (0, "intermediate")


def readings(points, weights=None):
    points = np.asarray(points, dtype=np.float32)
    units = points.shape[1]
    weights = np.eye(units) if weights is None else weights
    shape = Shape(layers=1, hidden=len(weights), heads=1, intermediate=units)
    weights = np.asarray(weights, dtype=np.float32)
    mean, square = points.mean(axis=0, dtype=float), (points**2).mean(axis=0, dtype=float)
    return Readings(
        shape, {GROUP: points}, {GROUP: weights}, mean={GROUP: mean}, square={GROUP: square}
    )


def cloud(seed, points=40, units=6):
    return np.random.default_rng(seed).normal(size=(points, units))


clouds = arrays(
    np.float64,
    st.tuples(st.integers(2, 12), st.integers(1, 5)),
    elements=st.integers(-50, 50).map(lambda n: n / 4),
)

# The theorem


def test_by_hand():
    """A right angle: the tree is its legs, 3 along one unit and 4 along the other."""
    found = readings([[0, 0], [0, 3], [4, 0]])
    assert persistence_share(found, GROUP, "plain").tolist() == [16, 9]
    assert persistence_share(found, GROUP, "plain", degree=1).tolist() == [4, 3]
    assert persistence_share(found, GROUP, "plain", degree=np.inf).tolist() == [4, 0]


@given(clouds, st.sampled_from([1, 1.5, 2, 3]))
def test_shares_add_up_to_the_total_persistence(points, degree):
    deaths = homology.h0_deaths(points)
    shares = homology.persistence_shares(points, degree)
    assert (shares >= 0).all()
    assert shares.sum() == pytest.approx((deaths**degree).sum(), rel=1e-9, abs=1e-9)


@given(clouds)
def test_the_last_merge_is_degree_infinity(points):
    shares = homology.persistence_shares(points, np.inf)
    assert shares.sum() == pytest.approx(homology.h0_deaths(points)[-1], rel=1e-9, abs=1e-12)


@given(st.integers(0, 10**6), st.integers(0, 5))
def test_a_share_is_the_slope_of_the_total_persistence(seed, unit):
    """By the square of a factor of the unit's outputs, where the tree is unique."""
    points, step = cloud(seed), 1e-6

    def total(square):
        scaled = points.copy()
        scaled[:, unit] *= np.sqrt(square)
        return (homology.h0_deaths(scaled) ** 2).sum()

    slope = (total(1 + step) - total(1 - step)) / (2 * step)
    assert homology.persistence_shares(points)[unit] == pytest.approx(slope, rel=1e-4)


@given(clouds, st.data())
def test_silencing_units_takes_at_least_their_shares(points, data):
    units = points.shape[1]
    silent = data.draw(st.lists(st.integers(0, units - 1), unique=True))
    left = points.copy()
    left[:, silent] = 0
    before, after = ((homology.h0_deaths(each) ** 2).sum() for each in (points, left))
    assert after <= before - homology.persistence_shares(points)[silent].sum() + 1e-6


@given(clouds, st.data())
def test_the_share_of_a_copy_never_grows_in_company(points, data):
    unit = data.draw(st.integers(0, points.shape[1] - 1))
    of_each = []
    for copies in range(1, 5):
        columns = np.repeat(points[:, [unit]], copies - 1, axis=1)
        of_each.append(homology.persistence_shares(np.hstack([points, columns]))[unit])
    assert (np.diff(of_each) <= 1e-6).all()


@given(clouds)
def test_the_tree_is_minimal(points):
    edges = homology.spanning_tree(points)
    lengths = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    expected = linkage(pdist(points), "single")[:, 2]
    np.testing.assert_allclose(np.sort(lengths), expected, atol=1e-9)
    joined = {0}
    for a, b in edges.tolist():
        assert a in joined and b not in joined
        joined.add(b)


def test_reading_weights_scale_the_units():
    points, weights = cloud(1), np.diag([1.0, 2, 3, 4, 5, 6])
    scaled = readings(points * np.diag(weights))
    np.testing.assert_allclose(
        persistence_share(readings(points, weights), GROUP, "norm"),
        persistence_share(scaled, GROUP, "plain"),
        rtol=1e-4,
    )


def test_degree_is_at_least_one():
    with pytest.raises(ValueError, match="degree=0.5: it must be at least 1"):
        homology.persistence_shares(cloud(0), 0.5)


# Covariances, second order


def test_an_infinite_degree_can_be_saved_and_planned(
    tiny_classifier, tokenizer, sentences, tmp_path
):
    """JSON knows no infinity: what is said of the scores is the word."""
    readings = obce.read(tiny_classifier, tokenizer, sentences)
    scores = obce.score(readings, "persistence_share", degree=np.inf)
    scores.save(tmp_path / "scores.safetensors")
    loaded = obce.Scores.load(tmp_path / "scores.safetensors")
    assert loaded.info["degree"] == "inf"
    plan = obce.plan(tiny_classifier, loaded, percentile=50)
    plan.save(tmp_path / "plan.json")
    assert obce.Plan.load(tmp_path / "plan.json").info["degree"] == "inf"


def test_covariance_of_points_is_numpys():
    points = cloud(2)
    found = readings(points).covariance(GROUP)
    np.testing.assert_allclose(found, np.cov(points, rowvar=False, bias=True), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="unknown covariance 'air'; there are points, tree"):
        readings(points).covariance(GROUP, "air")


def test_the_trees_trace_is_its_squared_deaths():
    points = cloud(3)
    found = readings(points).covariance(GROUP, "tree", "plain")
    deaths = homology.h0_deaths(points)
    assert found.trace() == pytest.approx((deaths**2).mean(), rel=1e-4)
    np.testing.assert_allclose(
        found.diagonal() * len(deaths), homology.persistence_shares(points), rtol=1e-4
    )


@pytest.mark.parametrize("seed", range(3))
def test_one_of_three_dependent_units_goes_almost_for_free(seed):
    """Unit 2 is the sum of units 0 and 1, unit 3 stands alone; no unit is quiet."""
    points = cloud(seed, points=400, units=3)
    points = np.column_stack([points[:, :2], points[:, :2].sum(axis=1), points[:, 2]])
    score = second_order(readings(points), GROUP, metric="norm")
    assert score.argmin() != 3 and points.std(axis=0).min() > 0.9
    first, second = np.sort(score)[:2]
    assert first < 0.05 * score[3] and second > 0.8 * score[3]


@pytest.mark.parametrize("seed", range(3))
def test_second_order_is_the_error_of_the_best_refit(seed, monkeypatch):
    """The first unit's score is what least squares without it leaves of what the map wrote."""
    monkeypatch.setattr(layer_scores, "RIDGE", 1e-9)
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(500, 5)) @ rng.normal(size=(5, 5))
    points -= points.mean(axis=0)
    weights = rng.normal(size=(4, 5))
    score = second_order(readings(points, weights), GROUP, metric="norm")
    first = int(score.argmin())
    rest = np.delete(np.arange(5), first)
    wanted = points @ weights.T
    fit, *_ = np.linalg.lstsq(points[:, rest], wanted, rcond=None)
    error = ((wanted - points[:, rest] @ fit) ** 2).sum(axis=1).mean()
    assert score[first] == pytest.approx(error, rel=1e-3)


def test_second_order_in_each_metric_is_the_error_in_that_metric():
    """Diagonal covariance and weights: a unit's score is its variance times its squared length."""
    variances, lengths = np.array([1.0, 2.0, 3.0]), np.array([3.0, 1.0, 0.5])
    signs = np.array([[1, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]])  # uncorrelated
    found = readings(signs * np.sqrt(variances), np.diag(lengths))
    found.felt[GROUP] = np.diag([4.0, 1.0, 1.0])
    for metric, squares in (
        ("plain", variances),
        ("norm", variances * lengths**2),
        ("loss", variances * lengths**2 * [4, 1, 1]),
    ):
        score = second_order(found, GROUP, metric=metric)
        assert np.argsort(score).tolist() == np.argsort(squares).tolist()
        np.testing.assert_allclose(np.sort(score), np.sort(squares), rtol=0.05)
        np.testing.assert_allclose(std(found, GROUP, metric) ** 2, squares, rtol=1e-6)
        np.testing.assert_allclose(rms(found, GROUP, metric) ** 2, squares, rtol=1e-6)


# Homology between units


def test_a_twin_dies_at_once_and_the_stronger_one_stays():
    rng = np.random.default_rng(5)
    one, other = rng.normal(size=(2, 300))
    points = np.column_stack([one, -2 * one, other])
    score = unit_homology(readings(points), GROUP, "plain")
    deviation = points.std(axis=0)
    assert score[0] == pytest.approx(0, abs=1e-3)
    assert score[1] == pytest.approx(deviation[1], rel=1e-3)
    correlation = np.corrcoef(one, other)[0, 1]
    unexplained = np.sqrt(1 - correlation**2)  # by way of the weaker twin, which is nearer
    by_twin = max(deviation[[0, 2]]) * unexplained
    assert score[2] == pytest.approx(min(by_twin, deviation[2]), rel=1e-3)


def test_a_faint_unit_joins_nobody():
    """Three units that have nothing in common, one of them faint: each dies at its own strength,
    or a little before, and the faint one is no bridge between the others."""
    points = np.random.default_rng(8).normal(size=(2000, 3)) * [1, 2, 0.01]
    score = unit_homology(readings(points), GROUP, "plain")
    np.testing.assert_allclose(score, points.std(axis=0), rtol=0.02)


def test_a_silent_unit_dies_at_zero():
    points = np.column_stack([cloud(6), np.full(40, 3.0)])
    assert unit_homology(readings(points), GROUP, "plain")[-1] == pytest.approx(0, abs=1e-9)


# One interface


@pytest.mark.parametrize("name", LAYER_FUNCTIONS)
@pytest.mark.parametrize("metric", ["plain", "norm", "loss"])
def test_a_plan_comes_of_every_score(name, metric, tiny_classifier, tokenizer, sentences):
    options = {"model": tiny_classifier, "texts": sentences, "tokenizer": tokenizer}
    scores = obce.score(None, name, metric=metric, points=100, **options)
    pairs = name == "fisher" or (name, metric) == ("second_order", "loss")
    more = {"query", "key"} if pairs else set()
    assert {kind for _, kind in scores} == {"value", "intermediate"} | more
    assert (scores.info["score"], scores.info["points"]) == (name, 100)
    assert scores.info.get("metric") == (None if name == "fisher" else metric)
    for group, row in scores.items():
        assert row.shape == (40 if group[1] == "intermediate" else 24,)
        assert np.isfinite(row).all() and (row >= 0).all() and row.max() > 0
    plan = obce.plan(tiny_classifier, scores, percentile=40)
    assert plan.info["score"] == name
    with pytest.raises(ValueError, match="there are no scores for layer 0, output"):
        obce.plan(tiny_classifier, scores, level="light", kinds=["output"])


def test_pairs_are_worth_what_the_value_units_beside_them_are(
    tiny_classifier, tokenizer, sentences
):
    """By the mean square both are the same thing: what the predictions feel of them."""
    found = read(tiny_classifier, tokenizer, sentences, loss=True)
    for covariance in ("points", "tree"):
        scores = obce.score(found, "second_order", metric="loss", covariance=covariance)
        felt = found.square[1, "value"] * found.squared_norms((1, "value"), "loss")
        np.testing.assert_array_equal(scores[1, "query"], scores[1, "key"])
        part = scores[1, "key"].sum() / scores[1, "value"].sum()
        assert part == pytest.approx(found.pairs[1].sum() / felt.sum(), rel=1e-5)


def test_what_a_layers_score_needs(tiny_classifier, tiny_activations, tokenizer, sentences):
    with pytest.raises(ValueError, match="needs readings, or model=, texts= and tokenizer="):
        obce.score(None, "persistence_share", model=tiny_classifier)
    with pytest.raises(ValueError, match="no activations"):
        obce.score(tiny_activations, "unit_homology", model=tiny_classifier)
    with pytest.raises(ValueError, match="unknown metric 'far'; there are plain, norm, loss"):
        obce.score(
            None, "persistence_share", model=tiny_classifier, texts=sentences,
            tokenizer=tokenizer, metric="far",
        )  # fmt: skip


def test_shares_of_the_real_model_add_up(embedded, tokenizer, sentences):
    """On the pretrained model, group by group: the theorem to float32 rounding."""
    found = read(embedded, tokenizer, sentences)
    for group in [(0, "value"), (3, "intermediate"), (5, "value")]:
        scale = np.sqrt(found.squared_norms(group)).astype(np.float32)
        deaths = homology.h0_deaths(found.points[group] * scale)
        assert persistence_share(found, group).sum() == pytest.approx((deaths**2).sum(), rel=1e-6)


def test_readings_serve_many_scores(tiny_classifier, tokenizer, sentences):
    found = read(tiny_classifier, tokenizer, sentences, points=100, loss=True)
    once = obce.score(found, "persistence_share", metric="loss", degree=1)
    again = obce.score(
        None, "persistence_share", model=tiny_classifier, texts=sentences, tokenizer=tokenizer,
        metric="loss", degree=1, points=100,
    )  # fmt: skip
    assert once.info == again.info and once.info["degree"] == 1
    for group, row in once.items():
        np.testing.assert_array_equal(row, again[group])
    tree = obce.score(found, "second_order", covariance="tree")
    assert (tree.info["covariance"], tree.info["metric"]) == ("tree", "loss")
    with pytest.raises(ValueError, match="'merge_radius' is none of a layer"):
        obce.score(found, "merge_radius")
    with pytest.raises(ValueError, match="unknown covariance 'air'"):
        obce.score(found, "second_order", covariance="air")
