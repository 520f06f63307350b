"""Query-key pairs: the moments, the score and the repair, each against an independent way."""

import numpy as np
import pytest
import torch

import obce
from obce.pairs import Moments, mixing, pair_moments, pair_strengths, repair_pairs
from obce.pruning import pair_score
from obce.repairs import Calibration
from obce.units import KINDS, count_parameters, shape_of

TEXTS = ["A good film.", "It rained all day in the north.", "Why not?"]


def queries_and_keys(bert, tokenizer, text, layer):
    """What the two maps of one layer give, (tokens, pairs) each."""
    seen = {}
    attention = bert.encoder.layer[layer].attention.self
    handles = [
        attention.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name: seen.update({name: out[0]})
        )
        for name in ("query", "key")
    ]
    with torch.no_grad():
        bert(**tokenizer(text, return_tensors="pt"))
    for handle in handles:
        handle.remove()
    return seen["query"].double(), seen["key"].double()


def test_moments_and_strengths_by_hand(tiny_bert, tokenizer):
    """Text by text with NumPy: heads of 6 units, three layers."""
    moments = pair_moments(tiny_bert, tokenizer, TEXTS)
    strengths = pair_strengths(moments)
    for layer in range(3):
        parts = [queries_and_keys(tiny_bert, tokenizer, text, layer) for text in TEXTS]
        queries = np.concatenate([q.numpy() for q, _ in parts])
        keys = np.concatenate([(k - k.mean(0)).numpy() for _, k in parts])
        for head in range(4):
            units = slice(6 * head, 6 * head + 6)
            for found, each in zip(moments[layer], (queries, keys), strict=True):
                expected = each[:, units].T @ each[:, units] / len(each)
                np.testing.assert_allclose(found[head], expected, rtol=1e-4, atol=1e-6)
        rms, spread = (np.sqrt((each**2).mean(0)) for each in (queries, keys))
        pair = pair_score(*(strengths[layer, kind].numpy() for kind in ("query", "key")))
        np.testing.assert_allclose(pair, rms * spread, rtol=1e-4)


@pytest.mark.parametrize("kept", [[0], [1, 4], [0, 2, 3, 5], [0, 1, 2, 3, 4, 5]])
def test_mixing_is_the_least_squares_optimum(kept):
    """All pairs of 40 queries and 30 keys, vec(M) by numpy's lstsq on the products."""
    draw = np.random.default_rng(3)
    queries = draw.normal(size=(40, 6)) @ draw.normal(size=(6, 6))
    keys = draw.normal(size=(30, 6)) @ draw.normal(size=(6, 6))
    keys -= keys.mean(0)
    products = np.einsum("ai,bj->abij", queries[:, kept], keys[:, kept]).reshape(40 * 30, -1)
    best, *_ = np.linalg.lstsq(products, (queries @ keys.T).ravel(), rcond=None)
    moments = (torch.from_numpy(each.T @ each / len(each)) for each in (queries, keys))
    np.testing.assert_allclose(mixing(*moments, kept).flatten(), best, rtol=1e-6, atol=1e-8)


def test_mixing_takes_keys_that_are_constant_or_twins():
    queries, keys = torch.eye(4), torch.eye(4)
    keys[0, 0] = 0  # a constant key is void, whatever its bias
    keys[1:3, 1:3] = 1  # two keys are one
    found = mixing(queries, keys, [0, 1, 3])
    assert found.isfinite().all() and torch.equal(found[:, 0], torch.zeros(3))
    torch.testing.assert_close(found[1], torch.tensor([0.0, 1, 0]).double())


def test_a_keys_bias_is_void(tiny_bert, tokenizer):
    inputs = tokenizer(TEXTS[1], return_tensors="pt")
    with torch.no_grad():
        before = tiny_bert(**inputs)[0]
        for layer in tiny_bert.encoder.layer:
            layer.attention.self.key.bias += torch.randn(24)
        torch.testing.assert_close(tiny_bert(**inputs)[0], before, rtol=1e-4, atol=1e-4)


def test_the_repair_brings_the_logits_nearer(embedded, tokenizer, sentences):
    """The first layer, whose inputs are the dense model's: half of all pairs go."""
    moments = pair_moments(embedded, tokenizer, sentences)
    scores = {group: each.numpy() for group, each in pair_strengths(moments).items()}
    plan = obce.plan(embedded, scores, percentile=50, kinds=("query", "key"))
    cut, small = obce.cut(embedded, plan), obce.cut(embedded, plan)
    repair_pairs(small, plan, moments)
    errors = []
    for model in (cut, small):
        wrong = size = 0.0
        for text in sentences[:10]:
            queries, keys = queries_and_keys(embedded, tokenizer, text, 0)
            ours = queries_and_keys(model, tokenizer, text, 0)
            for head in range(12):
                units, left = slice(32 * head, 32 * head + 32), slice(16 * head, 16 * head + 16)
                logits = queries[:, units] @ keys[:, units].T
                found = ours[0][:, left] @ ours[1][:, left].T
                logits, found = (each - each.mean(1, keepdim=True) for each in (logits, found))
                wrong += (logits - found).square().sum().item()
                size += logits.square().sum().item()
        errors.append((wrong / size) ** 0.5)
    assert errors[1] < 0.75 * errors[0]


def test_least_squares_mixes_the_keys_first(embedded, tokenizer, sentences):
    moments = pair_moments(embedded, tokenizer, sentences)
    plan = obce.plan(
        embedded, obce.score(None, "magnitude", model=embedded), percentile=50, kinds=KINDS[:2]
    )
    wanted = obce.cut(embedded, plan)
    repair_pairs(wanted, plan, moments)
    calibration = Calibration(embedded, tokenizer, sentences)
    for source in ({"texts": sentences, "tokenizer": tokenizer}, {"calibration": calibration}):
        small = obce.cut(embedded, plan)
        fits = obce.repair(embedded, small, plan, **source)
        keys, found = (
            model.encoder.layer[3].attention.self.key.weight for model in (wanted, small)
        )
        torch.testing.assert_close(found, keys)
        assert all(fit.after < fit.before for fit in fits)


def test_whole_and_empty_heads_stay_as_they_are(tiny_bert, tokenizer):
    moments = pair_moments(tiny_bert, tokenizer, TEXTS)
    shape = shape_of(tiny_bert)
    kept = {(i, kind): np.arange(shape.width(kind)) for i in range(3) for kind in KINDS}
    kept[0, "query"] = kept[0, "key"] = np.array([*range(6), 12, 14, *range(18, 24)])  # 6, 0, 2, 6
    plan = obce.Plan(shape, kept, count_parameters(tiny_bert))
    small = obce.cut(tiny_bert, plan)
    before = small.encoder.layer[0].attention.self.key.weight.detach().clone()
    repair_pairs(small, plan, moments)
    changed = (small.encoder.layer[0].attention.self.key.weight != before).any(1)
    assert changed.nonzero().flatten().tolist() == [6, 7]
    with pytest.raises(ValueError, match="moments are not those of a BERT"):
        repair_pairs(small, plan, moments[:2])
    with pytest.raises(ValueError, match="moments are not those of a BERT"):
        repair_pairs(small, plan, [Moments(each.queries, each.keys[:2]) for each in moments])
