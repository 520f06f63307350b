"""Merge radii of streams: exact where certified, bounded always, the same in any order."""

from __future__ import annotations

import itertools
import tracemalloc
import warnings
from contextlib import nullcontext
from unittest import mock

import numpy as np
import pytest
import torch
from conftest import with_random_weights
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from transformers import BertModel

import obce
from obce.homology import merge_radius
from obce.running import streaming
from obce.running.streaming import GapSummary

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
SMALL = st.integers(-40, 40).map(lambda i: i / 8)
BUCKETS = st.sampled_from([2, 4, 8, 64])


def clouds(values=FLOATS, most_points=30):
    """(points, units) float32"""
    shape = st.tuples(st.integers(1, most_points), st.integers(1, 3))
    return arrays(np.float32, shape, elements=values)


def summary_of(points, buckets=8, like_gpu=False):
    summary = GapSummary(points.shape[1], buckets)
    with as_on_a_gpu() if like_gpu else nullcontext():
        summary.update(points)
    return summary


def as_on_a_gpu():
    """Leave tensors tensors, as they are on a GPU, so that torch does what NumPy does here."""
    return mock.patch.object(streaming, "_native", lambda tensor: tensor)


def state(summary):
    """Every bit of it, so that 0.0 and -0.0 differ."""
    tensors = (summary.low, summary.high, summary.least, summary.most, summary.exponent)
    return [tensor.numpy().tobytes() for tensor in tensors]


def column(*values):
    return np.array(values, dtype=np.float32)[:, None]


def test_a_few_numbers_by_hand():
    """Range 0 to 7 in 4 buckets of width 2: [0, 1.5], [2], empty, [6.5, 7]."""
    summary = summary_of(column(7, 0, 2, 6.5, 1.5), buckets=4)
    assert summary.exponent.tolist() == [1]
    assert summary.low.tolist() == [[0, 2, np.inf, 6.5]]
    assert summary.high.tolist() == [[1.5, 2, -np.inf, 7]]
    assert summary.merge_radius().tolist() == [4.5]  # 2 to 6.5; no bucket spreads over more
    assert summary.certified().tolist() == [True]


def test_what_cannot_be_certified_is_bounded():
    """0 and 1.5 share a bucket, so that their gap of 1.5 cannot be told from smaller ones."""
    summary = summary_of(column(0, 1.5, 2, 3, 4, 5, 6, 7), buckets=4)
    assert [bound.tolist() for bound in summary.bounds()] == [[1], [1.5]]
    assert not summary.certified()[0]
    finer = summary_of(column(0, 1.5, 2, 3, 4, 5, 6, 7), buckets=8)
    assert finer.certified()[0] and finer.merge_radius()[0] == 1.5


def test_buckets_join_in_pairs_when_the_range_grows_up_and_down():
    summary = summary_of(column(1, 2, 3, 4), buckets=4)  # width 1
    assert summary.low.tolist() == [[4, 1, 2, 3]]  # bucket 4 lies in place 0
    summary.update(column(-2))  # -2 to 4 are 7 buckets of width 1, 4 of width 2
    assert summary.exponent.tolist() == [1]
    assert summary.low.tolist() == [[1, 2, 4, -2]]  # buckets 0, 1, 2 and -1
    assert summary.high.tolist() == [[1, 3, 4, -2]]
    summary.update(column(100))
    assert summary.exponent.tolist() == [6]
    assert summary.bounds()[0].tolist() == [96]


@given(clouds(), BUCKETS)
def test_certified_is_exact_and_bounds_hold(points, buckets):
    summary = summary_of(points, buckets)
    exact = merge_radius(points.T)
    least, most = summary.bounds()
    assert (least <= exact).all() and (exact <= most).all()
    certified = summary.certified()
    assert (summary.merge_radius()[certified] == exact[certified]).all()
    # The brief certificate: a gap as wide as a bucket is no gap inside one.
    assert certified[least >= 2.0 ** summary.exponent.numpy()].all()


@given(clouds(SMALL, 12), st.sampled_from([2, 8]))
def test_on_few_values_too(points, buckets):
    summary = summary_of(points, buckets)
    least, most = summary.bounds()
    exact = merge_radius(points.T)
    assert (least <= exact).all() and (exact <= most).all()


@given(clouds(most_points=32))
def test_enough_buckets_certify_everything(points):
    """The theorem: at least 2n - 1 buckets for n points."""
    buckets = max(2, 1 << (2 * len(points) - 2).bit_length())  # the next power of two
    summary = summary_of(points, buckets)
    assert summary.certified().all()
    assert (summary.merge_radius() == merge_radius(points.T)).all()


def test_as_many_buckets_as_points_are_not_enough():
    """Four points in four buckets, of which width 1 uses three: the widest gap, 0.75, is inside."""
    summary = summary_of(column(0, 0.75, 1.375, 2), buckets=4)
    assert [bound.tolist() for bound in summary.bounds()] == [[0.625], [0.75]]


@given(clouds(), BUCKETS, st.randoms(use_true_random=False))
def test_state_depends_on_the_set_of_points_alone(points, buckets, random):
    """Any order, any batches, repeats, merged in any tree, on the CPU's path or a GPU's."""
    want = state(summary_of(points, buckets))
    order = list(range(len(points))) + random.choices(range(len(points)), k=3)
    random.shuffle(order)
    parts = []
    while order:
        batch, order = order[: (k := random.randint(1, 9))], order[k:]
        if parts and random.random() < 0.5:
            with as_on_a_gpu() if random.random() < 0.5 else nullcontext():
                parts[-1].update(points[batch])
        else:
            parts.append(summary_of(points[batch], buckets, random.random() < 0.5))
    parts.append(GapSummary(points.shape[1], buckets))  # one that has seen nothing
    while len(parts) > 1:
        random.shuffle(parts)
        taken = parts.pop()
        before = state(taken)
        with as_on_a_gpu() if random.random() < 0.5 else nullcontext():
            parts[-1].merge(taken)
        assert state(taken) == before
    assert state(parts[0]) == want


@given(clouds(), clouds(), BUCKETS)
def test_tables_of_one_range_combine_by_min_and_max(one, two, buckets):
    """As all-reduce does it between processes."""
    units = min(one.shape[1], two.shape[1])
    one, two = one[:, :units], two[:, :units]
    want = summary_of(np.concatenate([one, two]), buckets)
    a, b = summary_of(one, buckets), summary_of(two, buckets)
    least, most = torch.minimum(a.least, b.least), torch.maximum(a.most, b.most)
    for part in (a, b):
        part.cover(least, most)
    a.low, a.high = torch.minimum(a.low, b.low), torch.maximum(a.high, b.high)
    assert state(a) == state(want)


@pytest.mark.parametrize(
    "values",
    [
        [3.25],
        [0.0],
        [-0.0, 0.0],
        [0.1] * 1000,
        [-1, -1 + 2.0**-24],
        [1 - 2.0**-24, 1 - 2.0**-23, 1],
        [1e-45, 2.8e-45, 0],
        [-1e-45, 1e30],
        [3.4028235e38, -3.4028235e38],
        [16777216, 16777218, 16777222],
        [0.1, 0.1 + 2.0**-27],
    ],
)
def test_extreme_magnitudes(values):
    points = np.array(values, dtype=np.float32)[:, None]
    summary = summary_of(points, 8)
    assert summary.certified().all()
    assert summary.merge_radius() == merge_radius(points.T)
    one_by_one = GapSummary(1, 8)
    for row in points[::-1]:
        one_by_one.update(row[None])
    assert state(one_by_one) == state(summary)


def test_many_points_in_blocks_and_threads():
    """More units and points than a block holds, so that threads and edges of blocks are met."""
    rng = np.random.default_rng(0)
    points = rng.standard_t(3, size=(700, 300)).astype(np.float32)
    summary = GapSummary(300, 512)
    for batch in np.array_split(points, 3):
        summary.update(batch)
    assert state(summary) == state(summary_of(points, 512, like_gpu=True))
    exact = merge_radius(points.T)
    certified = summary.certified()
    assert certified.mean() > 0.9 and (summary.merge_radius() == exact)[certified].all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_taken_exactly(dtype):
    points = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    summary = GapSummary(4, 128)
    summary.update(points)
    assert (summary.merge_radius() == merge_radius(points.float().numpy().T)).all()


def test_numpy_views_are_taken_as_they_are():
    points = np.arange(24, dtype=np.float32).reshape(6, 4) ** 2
    points.flags.writeable = False
    want = state(summary_of(points))
    assert state(summary_of(points[::-1])) == want
    assert state(summary_of(np.asfortranarray(points))) == want


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_change_nothing(bad):
    summary = summary_of(column(1, 2))
    before = state(summary)
    with pytest.raises(ValueError, match="not finite"):
        summary.update(column(5, bad, 0))
    assert state(summary) == before


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: GapSummary(0), "at least 1 unit"),
        (lambda: GapSummary(3, 500), "power of two, 2 to 1048576"),
        (lambda: GapSummary(3, 1), "power of two"),
        (lambda: GapSummary(3).update(np.zeros((4, 2), np.float32)), r"\(points, 3\)"),
        (lambda: GapSummary(3).update(np.zeros(3, np.float32)), r"\(points, 3\)"),
        (lambda: GapSummary(3).update(np.zeros((4, 3))), "float32 or half precision"),
        (lambda: GapSummary(3).merge(GapSummary(3, 64)), "cannot merge"),
        (lambda: GapSummary(3).merge_radius(), "no points yet"),
    ],
)
def test_bad_input_is_one_clear_line(work, message):
    with pytest.raises(ValueError, match=message) as error:
        work()
    assert "\n" not in str(error.value)


def test_no_points_change_nothing():
    summary = summary_of(column(1, 2))
    before = state(summary)
    summary.update(np.zeros((0, 1), np.float32))
    assert state(summary) == before


def test_memory_does_not_grow_with_the_points():
    rng = np.random.default_rng(1)

    def peak(rounds):
        summary = GapSummary(256, 512)
        tracemalloc.start()
        for _ in range(rounds):
            summary.update(rng.standard_normal((512, 256)).astype(np.float32))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return summary.nbytes, most

    (small, few), (large, many) = peak(2), peak(12)
    assert small == large == 256 * (512 * 8 + 16)
    assert many < 1.2 * few


# The whole way, from a model and texts.


def collected(model, tokenizer, texts, **options):
    with obce.collect(model, tokenizer, texts, clouds=("tokens",), **options) as found:
        return obce.score(found, "merge_radius", cloud="tokens")


def equal(scores, others):
    assert list(scores) == list(others)
    for key, value in scores.items():
        assert value.dtype == np.float32 and (value == others[key]).all(), key


def test_embedded_model_equals_collect(embedded, tokenizer, sentences, real_activations):
    """With 2,048 buckets for some 600 tokens, the theorem certifies every unit."""
    exact = obce.score(real_activations, "merge_radius", cloud="tokens")
    found = obce.stream(embedded, tokenizer, sentences, buckets=2048)
    equal(found, exact)
    assert found.info["texts"] == 40 and found.info["uncertified"] == {}
    assert found.info["tokens"] == real_activations.counted.sum()
    assert found.info["passes"] == [{"buckets": 2048, "units": 20736, "certified": 20736}]


def test_fallback_certifies_what_the_first_pass_cannot(embedded, tokenizer, sentences):
    options = {"layers": [2, 5], "kinds": ["value", "intermediate"]}
    exact = collected(embedded, tokenizer, sentences, **options)
    found = obce.stream(embedded, tokenizer, sentences, buckets=64, passes=6, **options)
    passes = found.info["passes"]
    units = 2 * (384 + 1536)
    assert passes[0]["certified"] < passes[0]["units"] == units
    for one, two in itertools.pairwise(passes):
        assert two["units"] == one["units"] - one["certified"] and two["buckets"] > one["buckets"]
        assert two["units"] * two["buckets"] <= 64 * units  # never more memory than at first
    assert passes[-1]["certified"] == passes[-1]["units"] and not found.info["uncertified"]
    equal(found, exact)


def test_what_stays_unproved_is_said(embedded, tokenizer, sentences, tmp_path):
    options = {"layers": [3], "kinds": ["output"]}
    exact = collected(embedded, tokenizer, sentences, **options)[3, "output"]
    with pytest.warns(UserWarning, match="are not certified"):
        found = obce.stream(embedded, tokenizer, sentences, buckets=16, passes=1, **options)
    bounds = found.info["uncertified"]["3.output"]
    assert len(bounds) == 384 - found.info["passes"][0]["certified"]
    for unit in range(384):
        least, most = bounds.get(str(unit), [exact[unit]] * 2)
        assert found[3, "output"][unit] == np.float32(least)
        assert np.float32(least) <= exact[unit] <= np.float32(most)
    found.save(tmp_path / "scores.safetensors")
    assert obce.Scores.load(tmp_path / "scores.safetensors").info == found.info


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(streaming, "CHUNK_TEXTS", 7)


def test_chunks_batches_and_special_tokens(tiny_bert, tokenizer, sentences, small_chunks):
    pairs = [*sentences, ("Two parts.", "One text.")]
    for options in ({"special_tokens": False}, {"max_length": 9}):
        exact = collected(tiny_bert, tokenizer, pairs, batch_size=1, **options)
        found = obce.stream(tiny_bert, tokenizer, pairs, buckets=2048, batch_size=1, **options)
        equal(found, exact)


def test_texts_may_come_from_a_generator(tiny_bert, tokenizer, sentences, small_chunks):
    listed = obce.stream(tiny_bert, tokenizer, sentences, buckets=2048)
    equal(obce.stream(tiny_bert, tokenizer, (text for text in sentences), buckets=2048), listed)
    with warnings.catch_warnings(record=True) as caught:  # it cannot be begun again
        warnings.simplefilter("always")
        once = obce.stream(tiny_bert, tokenizer, iter(sentences), buckets=8)
    assert len(once.info["passes"]) == 1 and len(caught) == 1 and once.info["uncertified"]


def test_hooks_come_off_and_modes_come_back(tiny_bert, tokenizer, sentences):
    tiny_bert.train()
    with torch.no_grad():
        tiny_bert.encoder.layer[1].output.dense.bias[3] = torch.nan
    with pytest.raises(ValueError, match="layer 1, output: the model puts out values"):
        obce.stream(tiny_bert, tokenizer, sentences)
    assert tiny_bert.training and not any(m._forward_hooks for m in tiny_bert.modules())


class Fickle:
    """Texts that are others when they are asked for again."""

    def __init__(self, texts):
        self.texts = texts

    def __iter__(self):
        self.texts = self.texts[:-1]
        return iter([*self.texts])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"texts": []}, "at least two texts"),
        ({"texts": ["one"]}, "at least two texts"),
        ({"texts": "one string"}, "not one string"),
        ({"texts": ["a", "b"] * 5 + [7]}, "text 10 is neither"),
        ({"texts": ["", ""], "special_tokens": False}, "no tokens but special"),
        ({"kinds": ["keys"]}, "unknown kind 'keys'"),
        ({"layers": [3]}, "no layer 3"),
        ({"buckets": 100}, "power of two"),
        ({"passes": 0}, "at least 1 pass"),
        ({"batch_size": 0}, "at least 1 text is run"),
        ({"max_length": 65}, "3 to 64 tokens"),
    ],
)
def test_bad_arguments(tiny_bert, tokenizer, sentences, small_chunks, change, message):
    arguments = {"texts": sentences} | change
    with pytest.raises(ValueError, match=message):
        obce.stream(tiny_bert, tokenizer, **arguments)


def test_other_texts_in_a_later_pass_are_refused(tiny_bert, tokenizer, sentences):
    with pytest.raises(ValueError, match="other texts in pass 2"):
        obce.stream(tiny_bert, tokenizer, Fickle(sentences), buckets=64)


def test_memory_does_not_grow_with_the_texts(tiny_config, tokenizer, sentences, small_chunks):
    bert = with_random_weights(BertModel(tiny_config))
    peaks = []
    for times in (3, 9):  # often enough that batches are full
        texts = itertools.chain.from_iterable(itertools.repeat(sentences, times))
        tracemalloc.start()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            obce.stream(bert, tokenizer, texts, buckets=64)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tables_on_a_gpu_are_those_of_the_cpu():
    points = np.random.default_rng(0).standard_normal((300, 50)).astype(np.float32)
    there = GapSummary(50, 64, device="cuda")
    there.update(points)
    here = summary_of(points, 64)
    assert torch.equal(there.low.cpu(), here.low) and torch.equal(there.high.cpu(), here.high)
    assert (there.merge_radius() == here.merge_radius()).all()
