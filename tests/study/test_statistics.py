"""The statistics of a study, against numbers worked by hand and against SciPy's own tests."""

import math

import numpy as np
import pytest
from scipy import stats

from obce.study import statistics
from obce.study.measures import (
    agreement,
    divergences,
    interval,
    pack,
    pack_divergences,
    rank_correlation,
    unpack,
)
from obce.study.report import one_answer


def test_divergence_of_two_classes_by_hand():
    # p = (1/2, 1/2), q = (3/4, 1/4): 1/2 log(2/3) + 1/2 log 2 = log(2 / sqrt 3)
    dense, small = np.log([[0.5, 0.5], [0.2, 0.8]]), np.log([[0.75, 0.25], [0.2, 0.8]])
    assert divergences(dense, small) == pytest.approx([math.log(2 / math.sqrt(3)), 0.0], abs=1e-12)


def test_divergence_is_that_of_scipy_and_does_not_depend_on_a_constant_in_the_logits():
    random = np.random.default_rng(0)
    dense, small = random.normal(size=(2, 50, 3)).astype(np.float32) * 4
    p, q = (np.exp(x.astype(np.float64)) for x in (dense, small))
    expected = stats.entropy(p, q, axis=1)
    assert divergences(dense, small) == pytest.approx(expected, rel=1e-6)
    assert divergences(dense, small + 2) == pytest.approx(expected, rel=1e-5)


def test_divergence_of_a_regression_is_the_share_of_the_dense_variance():
    dense = np.array([[1.0], [2.0], [3.0]])  # variance 2/3
    found = divergences(dense, dense + [[0.0], [1.0], [-2.0]])
    assert found == pytest.approx([0.0, 1.5, 6.0])
    assert divergences(dense, np.full((3, 1), 2.0)).mean() == pytest.approx(1.0)
    assert agreement(dense, dense) is None
    with pytest.raises(ValueError, match="every row the same number"):
        divergences(np.ones((3, 1)), dense)


def test_the_interval_of_rows_is_near_the_one_of_the_normal_distribution():
    rows = np.random.default_rng(0).exponential(size=2000)
    low, high = interval(rows)
    half = 1.96 * rows.std() / math.sqrt(len(rows))
    assert low == pytest.approx(rows.mean() - half, rel=0.02)
    assert high == pytest.approx(rows.mean() + half, rel=0.02)


def test_packed_rows_come_back():
    rows = np.array([0.0, 0.043, 65504.0])
    assert unpack(pack(rows, "float16")) == pytest.approx(rows, rel=1e-3)
    assert unpack(pack(np.array([0, 2, 1]), "int8")).tolist() == [0, 2, 1]
    for rows in (np.array([1e-9, 3e-9, 0.0]), np.array([1e9, 2.0, 1e5]), np.zeros(3)):
        found = unpack(pack_divergences(rows))
        assert found == pytest.approx(rows, rel=1e-3, abs=1e-6 * rows.mean())


def test_rank_correlation_of_constants_is_none():
    assert rank_correlation(np.arange(4), np.arange(4) ** 2) == pytest.approx(1.0)
    assert rank_correlation(np.ones(4), np.arange(4)) is None


def test_a_paired_comparison_by_hand():
    # mean -2, standard deviation 1, three tasks: -2 -+ 4.3027 / sqrt 3
    found = statistics.compare([-1.0, -2.0, -3.0])
    assert found["difference"] == -2.0 and found["ratio"] == pytest.approx(math.exp(-2))
    half = 4.302653 / math.sqrt(3)
    assert found["interval"] == pytest.approx([-2 - half, -2 + half])
    assert found["claim"] == 0  # the interval reaches from -4.48 to 0.48
    assert found["p"] == pytest.approx(0.0742, abs=1e-4)


def test_a_correction_for_many_comparisons_widens_the_interval_and_takes_claims_back():
    differences = [-0.3, -0.5, -0.4, -0.6, -0.2]
    one, many = (statistics.compare(differences, count) for count in (1, 200))
    assert one["claim"] == -1 and many["claim"] == 0
    assert one["p"] == many["p"] and one["p"] * 200 > 0.05 > one["p"]
    assert many["interval"][0] < one["interval"][0] < one["interval"][1] < many["interval"][1]


def test_equal_scores_and_single_tasks_make_no_claim():
    assert statistics.compare([0.0, 0.0, 0.0])["claim"] == 0
    single = statistics.compare([-5.0], 3)
    assert single["claim"] == 0 and single["interval"] is None and single["p"] is None


def test_holm_by_hand():
    # sorted .001 .01 .02 .5 -> x4 x3 x2 x1
    assert statistics.holm([0.02, 0.001, 0.5, 0.01]) == pytest.approx([0.04, 0.004, 0.5, 0.03])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_rows_that_are_drawn_anew_pair_two_scores():
    random = np.random.default_rng(0)
    rows = random.exponential(size=500)
    one, other = statistics.resampled(rows), statistics.resampled(2 * rows)
    assert other - one == pytest.approx(np.full(len(one), math.log(2)))  # no noise is left
    low, high = statistics.middle(one)
    assert low < math.log(rows.mean()) < high
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(500), rel=0.15)


def test_distribution_of_draws():
    found = statistics.distribution([1.0, 2.0, 3.0, 6.0])
    assert (found["draws"], found["mean"], found["median"]) == (4, 3.0, 2.5)
    assert found["std"] == pytest.approx(math.sqrt(14 / 3))


def test_one_answer_for_all_rows_is_the_most_common_label_or_no_correlation():
    labels = {"labels": pack(np.array([1, 0, 1, 1]), "int8")}
    assert one_answer({"task": "mrpc"}, labels) == 0.75
    assert one_answer({"task": "cola"}, labels) == one_answer({"task": "stsb"}, labels) == 0.0
