"""Splits: the test has its level on every smooth cloud with one mode, and power on planted ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from obce.explain.splits import FLANK, groups, on_a_line, splits, tree
from obce.homology import h0_deaths

RUNS = 150
ONE_MODE = {
    "normal": stats.norm(),
    "uniform": stats.uniform(),
    "exponential": stats.expon(),
    "skewed": stats.lognorm(1.5),
    "heavy tails": stats.t(2),
    "no mean": stats.cauchy(),
    "a pole": stats.gamma(0.3),
    "a kink": stats.laplace_asymmetric(4),
}


@pytest.mark.parametrize("name", ONE_MODE)
@pytest.mark.parametrize("n", [100, 2000])
def test_a_cloud_with_one_mode_is_split_no_more_often_than_the_level(name, n):
    random = np.random.default_rng(n)
    level = 0.2  # the proof holds for each; with a larger one fewer runs can tell
    hits = sum(bool(splits(ONE_MODE[name].rvs(n, random_state=random), level)) for _ in range(RUNS))
    assert stats.binomtest(hits, RUNS, level, alternative="greater").pvalue > 0.01, hits


def test_one_gap_has_the_distribution_that_is_claimed():
    """Beside one flank alone, uniform gaps give F(2, 2k) exactly: no approximation is made."""
    random = np.random.default_rng(0)
    gaps = np.diff(np.sort(random.random((4000, 200))), axis=1)
    ratio = gaps[:, 50] / gaps[:, 51 : 51 + FLANK].mean(axis=1)
    assert stats.kstest(ratio, stats.f(2, 2 * FLANK).cdf).pvalue > 0.01
    wide = gaps[:, 40:44].sum(axis=1) / gaps[:, 44 : 44 + 4 * FLANK].sum(axis=1) * FLANK
    assert stats.kstest(wide, stats.f(8, 8 * FLANK).cdf).pvalue > 0.01


# points, distance of the second mode in standard deviations, its share, least power
@pytest.mark.parametrize(
    ("n", "distance", "share", "power"),
    [(500, 6, 0.5, 0.9), (2000, 4, 0.5, 0.8), (5000, 8, 0.02, 0.9), (500, 10, 0.1, 0.9)],
)
def test_planted_groups_are_found_where_they_are(n, distance, share, power):
    random, runs, found = np.random.default_rng(1), 60, 0
    for _ in range(runs):
        few = round(share * n)
        values = np.r_[random.normal(size=n - few), random.normal(distance, 1, size=few)]
        one = splits(values)
        right = np.r_[np.zeros(n - few), np.ones(few)] == groups(values, one)
        found += len(one) == 1 and right.mean() > 0.94
    assert found / runs >= power


def test_outliers_are_no_group_and_too_few_points_are_not_judged():
    random = np.random.default_rng(2)
    body = random.normal(size=400)
    for outliers in ([50.0], [50.0, 51.0, -80.0], 40 + random.random(FLANK)):
        assert splits(np.r_[body, outliers]) == []
    assert splits(np.r_[body, 40 + random.random(3 * FLANK)])
    assert splits(np.array([0.0] * FLANK + [1.0] * FLANK)) == []
    assert len(splits(np.array([0.0] * 40 + [1.0] * 40))) == 1  # atoms are groups
    assert splits(np.zeros(1000)) == []


def test_three_groups_make_a_tree_with_the_longest_bar_on_top():
    random = np.random.default_rng(3)
    values = np.r_[random.normal(0, 1, 200), random.normal(12, 1, 200), random.normal(40, 1, 200)]
    found = splits(values)
    assert [round(split.at / 10) for split in found] == [1, 3]
    top = tree(found)
    assert (top["at"], top["right"]) == (found[1].at, 2)
    assert (top["left"]["left"], top["left"]["right"]) == (0, 1)
    assert np.bincount(groups(values, found)).tolist() == [200, 200, 200]
    # empty gaps are bars of the cloud's barcode: its two longest
    assert [split.points for split in found] == [1, 1]
    assert h0_deaths(values)[-2:] == pytest.approx(sorted(split.length for split in found))


@given(st.integers(0, 10_000), st.floats(-50, 50), st.floats(0.01, 100))
def test_only_the_shape_counts(seed, shift, scale):
    random = np.random.default_rng(seed)
    values = np.r_[random.normal(size=60), random.normal(12, 1, size=50)]
    one, other = splits(values), splits(random.permutation(values) * scale + shift)
    assert [s.at * scale + shift for s in one] == pytest.approx([s.at for s in other], abs=1e-6)
    mirrored = splits(-values)
    assert [-s.at for s in mirrored] == pytest.approx([s.at for s in one])


def test_in_many_dimensions_the_direction_is_chosen_on_one_half_and_tested_on_the_other():
    random = np.random.default_rng(4)
    hits = 0
    for seed in range(60):
        cloud = random.normal(size=(200, 8)) * random.gamma(2, size=(200, 1))  # heavy tails
        values, held_out = on_a_line(cloud, seed)
        hits += bool(splits(values[held_out], 0.2))
    assert stats.binomtest(hits, 60, 0.2, alternative="greater").pvalue > 0.01
    cloud = random.normal(size=(300, 8))
    cloud[:100] += 5
    values, held_out = on_a_line(cloud)
    (found,) = splits(values[held_out])
    parts = groups(values, [found])
    assert {(parts[:100].mean().round(1)), (parts[100:].mean().round(1))} == {0, 1}
    assert on_a_line(np.zeros((1, 3)))[0].tolist() == [0]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="finite"):
        splits(np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="level=2"):
        splits(np.zeros(3), level=2)
