"""The cut is exact, the counts are as promised, and repair makes good what it can."""

import copy
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import transformers
from conftest import with_random_weights
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, BertModel

import obce
from obce.base.settings import RIDGES
from obce.modeling import AUTO_CLASSES
from obce.repairs import HELD_OUT, Calibration
from obce.units import KINDS, OUTPUTS, Shape, count_parameters, find_bert

TINY = Shape(layers=3, hidden=24, heads=4, intermediate=40)  # conftest's tiny_config
HEADS = [range(6 * head, 6 * head + 6) for head in range(4)]
EVERYTHING = {(i, kind): [*range(TINY.width(kind))] for i in range(3) for kind in KINDS}
NOTHING = {key: [] for key in EVERYTHING}

# All that can happen to a layer, in three of them.
AWKWARD = EVERYTHING | {
    (0, "query"): [0, 7, 8, 9, 20, 23],  # heads of 1, 3, 0 and 2 pairs
    (0, "key"): [0, 7, 8, 9, 20, 23],
    (0, "value"): [3, 4, 6, 12, 13, 14, 15, 16, 17],  # of 2, 1, 6 and 0 values: head 3 vanishes
    (0, "attention_output"): [*range(1, 24, 2)],
    (0, "intermediate"): [],  # no feed-forward; its biases stay
    (1, "value"): [],  # no attention
    (1, "intermediate"): [39],
    (1, "output"): [0, 5, 23],
    (2, "attention_output"): [11],
    (2, "output"): [],
}


def plan_for(model, kept):
    return obce.Plan(TINY, kept, count_parameters(model))


def random_scores(shape, seed=0):
    draw = np.random.default_rng(seed).random
    return {(i, kind): draw(shape.width(kind)) for i in range(shape.layers) for kind in KINDS}


def batch(model):
    """Three texts, two of them padded, as tensors that ``model`` takes."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 1000, (3, 9), generator=generator)
    lengths = torch.tensor([9, 5, 2])
    inputs = {
        "input_ids": ids,
        "token_type_ids": (torch.arange(9) > 3).long().expand(3, -1),
        "attention_mask": (torch.arange(9) < lengths[:, None]).long(),
    }
    if "MultipleChoice" in type(model).__name__:
        inputs = {name: torch.stack([t, t.flip(0)], dim=1) for name, t in inputs.items()}
    return inputs


def outputs(model):
    """All tensors that ``model`` puts out for the batch: logits, or hidden states and pooled."""
    with torch.no_grad():
        return model(**batch(model)).to_tuple()


def assert_close(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-5)


def assert_same_weights(loaded, small):
    weights = small.state_dict()
    assert loaded.state_dict().keys() == weights.keys()
    assert all(torch.equal(loaded.state_dict()[name], weights[name]) for name in weights)


@contextmanager
def masked(model, kept):
    """While the block runs, units that are not kept put out zero; nothing gets smaller."""
    handles = []
    for (layer, kind), units in kept.items():

        def mask(module, inputs, output, units=units):
            result = torch.zeros_like(output)
            result[..., units] = output[..., units]
            return result

        module = find_bert(model).encoder.layer[layer].get_submodule(OUTPUTS[kind])
        handles.append(module.register_forward_hook(mask))
    yield
    for handle in handles:
        handle.remove()


# Exactness: masked dense model = compressed model = compressed model, saved and loaded.


def subset(units):
    """None of the units, all of them, or any others."""
    units, most = list(units), 2 ** len(units) - 1
    bits = st.just(0) | st.just(most) | st.integers(0, most)
    return bits.map(lambda b: [unit for i, unit in enumerate(units) if b >> i & 1])


@st.composite
def cuts(draw):
    kept = {}
    for layer in range(TINY.layers):
        pairs, values = ([u for head in HEADS for u in draw(subset(head))] for _ in range(2))
        kept |= {(layer, "query"): pairs, (layer, "key"): pairs, (layer, "value"): values}
        for kind in ("attention_output", "intermediate", "output"):
            kept[layer, kind] = draw(subset(range(TINY.width(kind))))
    return kept


@pytest.mark.parametrize("dense", ["tiny_bert", "tiny_classifier"])
@settings(
    max_examples=25,
    deadline=None,
    # the fixtures are not changed by an example
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(kept=cuts(), attention=st.sampled_from(["eager", "sdpa"]))
@example(kept=EVERYTHING, attention="sdpa")
@example(kept=NOTHING, attention="sdpa")
@example(kept=NOTHING, attention="eager")
@example(kept=AWKWARD, attention="eager")
@example(kept=AWKWARD, attention="sdpa")
def test_any_cut_is_exact(request, tmp_path, dense, kept, attention):
    dense = request.getfixturevalue(dense)
    dense.set_attn_implementation(attention)
    plan = plan_for(dense, kept)
    small = obce.compress(dense, plan)
    with masked(dense, kept):
        expected = outputs(dense)
    assert small.config._attn_implementation == attention
    assert_close(outputs(small), expected)
    assert count_parameters(small) == plan.parameters

    small.save_pretrained(tmp_path)
    loaded = type(small).from_pretrained(tmp_path, attn_implementation=attention)
    assert_same_weights(loaded, small)
    assert_close(outputs(loaded), expected)


@pytest.mark.parametrize("auto", AUTO_CLASSES)
def test_every_class_is_cut_exactly(tiny_config, tmp_path, auto):
    name = AUTO_CLASSES[auto].__name__.removeprefix("Obce")
    dense = with_random_weights(getattr(transformers, name)(tiny_config))
    plan = plan_for(dense, AWKWARD)
    small = obce.compress(dense, plan)
    with masked(dense, AWKWARD):
        expected = outputs(dense)
    assert_close(outputs(small), expected)
    assert count_parameters(small) == plan.parameters  # tied matrices stay tied

    small.save_pretrained(tmp_path)
    loaded, report = getattr(transformers, auto).from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is AUTO_CLASSES[auto] and not any(report.values())
    assert_same_weights(loaded, small)
    assert_close(outputs(loaded), expected)
    assert count_parameters(loaded) == plan.parameters


def test_the_awkward_cut_is_no_trifle(tiny_bert):
    """Or else the tests above would show nothing."""
    before = outputs(tiny_bert)[0]
    with masked(tiny_bert, AWKWARD):
        assert (outputs(tiny_bert)[0] - before).abs().mean() > 0.1
    for key in [(0, "query"), (0, "value"), (0, "intermediate"), (1, "output"), (2, "output")]:
        with masked(tiny_bert, {key: AWKWARD[key]}):
            assert (outputs(tiny_bert)[0] - before).abs().mean() > 1e-3


def test_matrices_are_smaller_not_sparser(tiny_bert):
    layer = obce.compress(tiny_bert, plan_for(tiny_bert, AWKWARD)).encoder.layer[0]
    dense = tiny_bert.encoder.layer[0]
    assert layer.attention.self.query.weight.shape == (4, 24)  # head 3 has no values
    assert layer.attention.self.value.weight.shape == (9, 24)
    assert layer.attention.output.dense.weight.shape == (12, 9)
    assert layer.intermediate.dense.weight.shape == (0, 24)
    assert layer.output.dense.weight.shape == (24, 0)
    expected = dense.attention.output.dense.weight[AWKWARD[0, "attention_output"]]
    expected = expected[:, AWKWARD[0, "value"]]
    assert torch.equal(layer.attention.output.dense.weight, expected)


def test_nothing_gone_is_the_same_model(tiny_bert):
    small = obce.compress(tiny_bert, plan_for(tiny_bert, EVERYTHING))
    assert all(map(torch.equal, outputs(small), outputs(tiny_bert)))
    assert small.state_dict().keys() == tiny_bert.state_dict().keys()


def test_a_bert_without_a_pooler_stays_without(tiny_config):
    dense = with_random_weights(BertModel(tiny_config, add_pooling_layer=False))
    small = obce.compress(dense, plan_for(dense, AWKWARD))
    assert small.pooler is None
    with masked(dense, AWKWARD):
        assert_close(outputs(small), outputs(dense))


def test_the_dense_model_is_not_changed(tiny_classifier, tokenizer, sentences):
    tiny_classifier.train()
    before = copy.deepcopy(tiny_classifier.state_dict())
    config = tiny_classifier.config.to_dict()
    for repair in ("none", "constant", "least_squares"):
        small = obce.compress(
            tiny_classifier,
            plan_for(tiny_classifier, AWKWARD),
            repair=repair,
            texts=sentences[:5],
            tokenizer=tokenizer,
        )
        with torch.no_grad():
            for tensor in small.state_dict().values():
                tensor.zero_()  # nothing is shared
        assert not small.training and tiny_classifier.training
    after = tiny_classifier.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(m.training and not m._forward_hooks for m in tiny_classifier.modules())
    assert all(p.requires_grad and p.grad is None for p in tiny_classifier.parameters())
    assert tiny_classifier.config.to_dict() == config


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_dtype_is_kept(tiny_bert, tokenizer, sentences, dtype):
    dense = tiny_bert.to(dtype)
    for repair in ("none", "constant", "least_squares"):
        small = obce.compress(
            dense,
            plan_for(dense, AWKWARD),
            repair=repair,
            texts=sentences[:5],
            tokenizer=tokenizer,
        )
        assert {p.dtype for p in small.parameters()} == {dtype} == {small.dtype}
        assert small.encoder.layer[0].attention.output.dense.rows.dtype == torch.int64
        assert outputs(small)[0].dtype == dtype


# Parameter counts.


ALL_BUT_RESIDUAL = ("query", "key", "value", "intermediate")


def test_bert_base_at_58_percent():
    """Random weights; 58.47 % of all parameters are 46.5 % of the encoder's."""
    dense = BertModel(BertConfig())
    scores = random_scores(Shape(12, 768, 12, 3072))
    for kinds, total, encoder in (
        (ALL_BUT_RESIDUAL, 64_014_421, 39_586_645),
        (KINDS, 64_014_672, 39_586_896),
    ):
        plan = obce.plan(dense, scores, keep_total=0.5847, kinds=kinds)
        found = count_parameters(obce.compress(dense, plan))
        assert found == plan.parameters == (total, encoder, 23_837_184, 590_592)


def test_bert_large_at_52_percent():
    """Weights that nobody set, since only their number is asked for."""
    config = BertConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
    )
    with torch.device("meta"):
        dense = BertModel(config)
    dense.to_empty(device="cpu")
    scores = random_scores(Shape(24, 1024, 16, 4096))
    plan = obce.plan(dense, scores, keep_total=0.523, kinds=ALL_BUT_RESIDUAL)
    found = count_parameters(obce.compress(dense, plan))
    assert found == plan.parameters == (175_280_195, 142_447_683, 31_782_912, 1_049_600)


def test_the_file_holds_what_the_plan_promises(tiny_classifier, tmp_path):
    plan = plan_for(tiny_classifier, AWKWARD)
    obce.compress(tiny_classifier, plan).save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "numpy") as file:
        sizes = {name: file.get_tensor(name).size for name in file.keys()}
    rows = sum(size for name, size in sizes.items() if name.endswith(".rows"))
    assert sum(sizes.values()) - rows == plan.parameters.total
    # one number for each residual unit kept, unless all are and the map has inputs
    assert rows == (12 + 24) + (24 + 3) + (1 + 0)


# Repair: what least squares minimises.


def sums(model, encodings):
    """{(layer, kind): (tokens, hidden)}: what goes into the LayerNorms after residual maps."""
    found = {(i, kind): [] for i in range(TINY.layers) for kind in ("attention_output", "output")}
    handles = []
    for (i, kind), store in found.items():
        layer = find_bert(model).encoder.layer[i]
        norm = layer.attention.output.LayerNorm if kind == "attention_output" else None
        norm = norm or layer.output.LayerNorm
        handles.append(
            norm.register_forward_hook(lambda m, args, out, s=store: s.append(args[0][0]))
        )
    with torch.no_grad():
        for encoding in encodings:
            find_bert(model)(**encoding)  # a classifier would leave tokens out of its last layer
    for handle in handles:
        handle.remove()
    return {key: torch.cat(store).double() for key, store in found.items()}


def mean_square(difference, weights=None):
    squares = difference.double().square().mean(dim=1) if difference.ndim == 2 else difference
    if weights is None:
        return difference.double().square().mean().item()
    return ((weights * squares).sum() / weights.sum()).item()


def encoded(tokenizer, texts):
    return [tokenizer(text, return_tensors="pt") for text in texts]


@pytest.mark.parametrize("weighting", ["none", "layer_norm"])
def test_fits_state_the_calibration_error_before_and_after(
    tiny_classifier, tokenizer, sentences, weighting
):
    """``layer_norm`` divides a token's squared error by the variance that its LayerNorm will."""
    dense, plan = tiny_classifier, plan_for(tiny_classifier, AWKWARD)
    texts = encoded(tokenizer, sentences)
    wanted = sums(dense, texts)
    cut, small = obce.cut(dense, plan), obce.cut(dense, plan)
    fits = obce.repair(
        dense, small, plan, texts=sentences, tokenizer=tokenizer, weighting=weighting
    )
    order = [(i, kind) for i in range(3) for kind in ("attention_output", "output")]
    assert [(fit.layer, fit.kind) for fit in fits] == order
    after = sums(small, texts)
    for fit in fits:
        # The maps before it are repaired by now, this one is not.
        partly = copy.deepcopy(small)
        name = f"bert.encoder.layer.{fit.layer}.{OUTPUTS[fit.kind]}"
        partly.get_submodule(name).load_state_dict(cut.get_submodule(name).state_dict())
        key = (fit.layer, fit.kind)
        weights = None if weighting == "none" else 1 / wanted[key].var(dim=1, correction=0)
        before = mean_square(sums(partly, texts)[key] - wanted[key], weights)
        assert fit.before == pytest.approx(before, rel=1e-3)
        assert fit.after == pytest.approx(mean_square(after[key] - wanted[key], weights), rel=1e-3)


def test_a_calibration_serves_many_cuts(tiny_bert, tokenizer, sentences):
    shared = Calibration(tiny_bert, tokenizer, sentences)
    for seed in range(2):
        plan = obce.plan(tiny_bert, random_scores(TINY, seed), percentile=50)
        one, other = obce.cut(tiny_bert, plan), obce.cut(tiny_bert, plan)
        found = obce.repair(tiny_bert, one, plan, calibration=shared)
        assert found == obce.repair(tiny_bert, other, plan, texts=sentences, tokenizer=tokenizer)
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name])


def test_the_ridge_chosen_leaves_least_error_on_texts_held_out(embedded, tokenizer, sentences):
    """The ridge of the first map, whose input no repair has changed yet, by hand."""
    embedded = copy.deepcopy(embedded)
    del embedded.encoder.layer[2:]
    embedded.config.num_hidden_layers = 2
    scores = obce.score(None, "magnitude", model=embedded)
    plan = obce.plan(embedded, scores, keep_encoder=0.5)
    options = {"tokenizer": tokenizer, "batch_size": 1, "weighting": "none"}
    small = obce.cut(embedded, plan)
    fits = obce.repair(embedded, small, plan, texts=sentences, ridge="auto", **options)
    assert {fit.ridge for fit in fits} <= {*RIDGES} and all(fit.after < fit.before for fit in fits)
    # Batches run in order of length, of which every fourth is held out.
    order = sorted(range(len(sentences)), key=lambda i: -len(tokenizer(sentences[i])["input_ids"]))
    held = [sentences[i] for i in order[::HELD_OUT]]
    others = [text for text in sentences if text not in held]

    def first_sum(model, texts):
        seen = []
        norm = find_bert(model).encoder.layer[0].attention.output.LayerNorm
        handle = norm.register_forward_hook(lambda m, args, out: seen.append(args[0][0]))
        with torch.no_grad():
            for text in encoded(tokenizer, texts):
                model(**text)
        handle.remove()
        return torch.cat(seen)

    wanted, errors = first_sum(embedded, held), {}
    for ridge in RIDGES:
        tried = obce.cut(embedded, plan)
        obce.repair(embedded, tried, plan, texts=others, ridge=ridge, **options)
        errors[ridge] = mean_square(first_sum(tried, held) - wanted)
    assert errors[fits[0].ridge] == pytest.approx(min(errors.values()), rel=1e-3)


@pytest.mark.parametrize("ridge", [0, 1e-6, 1e-3, 1, 1e6])
@pytest.mark.parametrize("texts", [1, 2, 40])
def test_least_squares_never_raises_the_calibration_error(
    tiny_bert, tokenizer, sentences, ridge, texts
):
    for seed, kinds in enumerate([KINDS, ("intermediate", "value"), ("query", "key", "output")]):
        scores = random_scores(TINY, seed)
        plan = obce.plan(tiny_bert, scores, percentile=60, kinds=kinds, heads="free")
        small = obce.cut(tiny_bert, plan)
        fits = obce.repair(
            tiny_bert, small, plan, texts=sentences[:texts], tokenizer=tokenizer, ridge=ridge
        )
        assert all(0 <= fit.after <= fit.before for fit in fits)
        assert sum(fit.after < fit.before for fit in fits) >= 4


def test_repair_brings_a_real_model_nearer_to_itself(embedded, tokenizer, sentences):
    """The embedded model at 46.5 % of its encoder, where a cut alone ruins it."""
    with obce.collect(embedded, tokenizer, sentences, clouds=("mean",)) as found:
        plan = obce.plan(embedded, obce.score(found, cloud="mean"), keep_encoder=0.465)
    texts = encoded(tokenizer, sentences)

    def last(model):
        with torch.no_grad():
            return torch.cat([model(**text).last_hidden_state[0] for text in texts])

    wanted = last(embedded)
    error = {
        repair: mean_square(
            last(obce.compress(embedded, plan, repair=repair, texts=sentences, tokenizer=tokenizer))
            - wanted
        )
        for repair in ("none", "constant", "least_squares")
    }
    assert error["least_squares"] < 0.5 * error["constant"] < 0.5 * error["none"]


# Repair: cases in which nothing may be lost.


def test_removed_duplicates_leave_no_trace(tiny_classifier, tokenizer, sentences):
    """A twin goes, and least squares gives its column's work to the one that stays."""
    layer = tiny_classifier.bert.encoder.layer[1]
    with torch.no_grad():
        for linear, twins in ((layer.intermediate.dense, 8), (layer.attention.self.value, 3)):
            linear.weight[twins : 2 * twins] = linear.weight[:twins]  # values: in the same head
            linear.bias[twins : 2 * twins] = linear.bias[:twins]
    kept = EVERYTHING | {(1, "intermediate"): [*range(8), *range(16, 40)]}
    kept |= {(1, "value"): [0, 1, 2, *range(6, 24)]}
    before = outputs(tiny_classifier)[0]
    plan = plan_for(tiny_classifier, kept)
    assert relative(outputs(obce.compress(tiny_classifier, plan))[0], before) > 0.01
    small = obce.compress(
        tiny_classifier,
        plan,
        repair="least_squares",
        texts=sentences,
        tokenizer=tokenizer,
        ridge=1e-8,
    )
    assert relative(outputs(small)[0], before) < 1e-4


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("repair", ["constant", "least_squares"])
@pytest.mark.parametrize("kind", ["value", "attention_output", "intermediate", "output"])
def test_removed_constant_units_leave_no_trace(tiny_classifier, tokenizer, sentences, kind, repair):
    layer = tiny_classifier.bert.encoder.layer[1]
    linear = layer.get_submodule("intermediate.dense" if kind == "intermediate" else OUTPUTS[kind])
    with torch.no_grad():
        linear.weight[:7] = 0  # they say their bias, whatever they read
    before = outputs(tiny_classifier)[0]
    plan = plan_for(tiny_classifier, EVERYTHING | {(1, kind): EVERYTHING[1, kind][7:]})
    assert relative(outputs(obce.compress(tiny_classifier, plan))[0], before) > 0.01
    small = obce.compress(
        tiny_classifier, plan, repair=repair, texts=sentences, tokenizer=tokenizer
    )
    assert relative(outputs(small)[0], before) < 1e-5


def test_constant_folds_the_median(tiny_bert, tokenizer, sentences):
    """Of what the map read: for a value unit, of what attention made of it."""
    plan = plan_for(tiny_bert, AWKWARD)
    small = obce.compress(tiny_bert, plan, repair="constant", texts=sentences, tokenizer=tokenizer)
    layer, dense = small.encoder.layer[0], tiny_bert.encoder.layer[0]
    attention_output, output = dense.attention.output.dense, dense.output.dense

    seen = {attention_output: [], output: []}
    for linear, store in seen.items():
        linear.register_forward_hook(lambda m, args, out, s=store: s.append((args[0][0], out[0])))
    with torch.no_grad():
        for text in encoded(tokenizer, sentences):
            tiny_bert(**text)

    def median(linear, which):
        return torch.cat([pair[which] for pair in seen[linear]]).median(dim=0).values

    with torch.no_grad():
        # All intermediate units are gone; every coordinate is still written.
        expected = output.bias + output.weight @ median(output, 0)
        torch.testing.assert_close(layer.output.dense.bias, expected)
        # Of attention_output, even coordinates are gone, and get their own median.
        values = median(attention_output, 0)
        values[AWKWARD[0, "value"]] = 0
        expected = attention_output.bias + attention_output.weight @ values
        expected[::2] = median(attention_output, 1)[::2]
        torch.testing.assert_close(layer.attention.output.dense.bias, expected)


@pytest.mark.parametrize("weighting", ["none", "layer_norm"])
@pytest.mark.parametrize("repair", ["constant", "least_squares"])
def test_batches_do_not_matter(tiny_bert, tokenizer, sentences, repair, weighting):
    plan = plan_for(tiny_bert, AWKWARD)
    first, second = (
        obce.compress(
            tiny_bert,
            plan,
            repair=repair,
            texts=sentences,
            tokenizer=tokenizer,
            batch_size=size,
        )
        for size in (1, 64)
    )
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_training_mode_does_not_matter(tiny_bert, tokenizer, sentences):
    """Dropout is off while texts are run, whatever the dense model was last used for."""
    options = {"repair": "least_squares", "texts": sentences[:9], "tokenizer": tokenizer}
    plan = plan_for(tiny_bert, AWKWARD)
    first = obce.compress(tiny_bert.eval(), plan, **options)
    second = obce.compress(tiny_bert.train(), plan, **options)
    assert all(map(torch.equal, first.parameters(), second.parameters()))


def test_pairs_of_texts_calibrate_too(tiny_bert, tokenizer, sentences):
    plan = plan_for(tiny_bert, AWKWARD)
    pairs = list(zip(sentences[:6], sentences[6:12], strict=True))
    for repair in ("constant", "least_squares"):
        small = obce.compress(tiny_bert, plan, repair=repair, texts=pairs, tokenizer=tokenizer)
        assert count_parameters(small) == plan.parameters


@pytest.mark.parametrize("ridge", [0, 1e-3])
def test_huge_constant_units_do_not_stop_least_squares(tiny_bert, tokenizer, sentences, ridge):
    """Their variance is nothing but rounding, and may come out negative."""
    layer = tiny_bert.encoder.layer[1]
    with torch.no_grad():
        for linear in (layer.attention.self.value, layer.intermediate.dense):
            linear.weight.zero_()
            linear.bias.mul_(100_000)
    kept = {(1, "value"): [*range(0, 24, 3)], (1, "intermediate"): [*range(0, 40, 2)]}
    small = obce.compress(
        tiny_bert,
        plan_for(tiny_bert, EVERYTHING | kept),
        repair="least_squares",
        texts=sentences[:9],
        tokenizer=tokenizer,
        ridge=ridge,
    )
    assert relative(outputs(small)[0], outputs(tiny_bert)[0]) < 0.01


# Bad input.

CALIBRATION = {"repair": "least_squares", "texts": ["a"], "tokenizer": object()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repair": "magic"}, "unknown repair 'magic'; there are none, constant, least_squares"),
        ({"repair": "constant"}, "repair='constant' needs texts= and tokenizer="),
        ({"repair": "least_squares"}, "repair='least_squares' needs texts= and tokenizer="),
        (
            {"ridge": -1} | CALIBRATION,
            "ridge=-1: it must be auto, or a number",
        ),
        ({"ridge": float("nan")} | CALIBRATION, "ridge=nan"),
    ],
)
def test_bad_requests_are_refused(tiny_bert, options, message):
    with pytest.raises(ValueError, match=message):
        obce.compress(tiny_bert, plan_for(tiny_bert, AWKWARD), **options)


@pytest.mark.parametrize("repair", ["constant", "least_squares"])
@pytest.mark.parametrize(
    ("texts", "max_length", "message"),
    [
        ([], None, "the corpus is empty"),
        ("one string", None, "must be a list of texts"),
        (["fine", 5], None, "text 1 is neither a string nor a pair"),
        (["fine", "too"], 65, "max_length=65: this model takes 3 to 64 tokens"),
    ],
)
def test_bad_texts_are_refused(tiny_bert, tokenizer, texts, max_length, message, repair):
    with pytest.raises(ValueError, match=message):
        obce.compress(
            tiny_bert,
            plan_for(tiny_bert, AWKWARD),
            repair=repair,
            texts=texts,
            tokenizer=tokenizer,
            max_length=max_length,
        )


@pytest.mark.parametrize("repair", ["constant", "least_squares"])
def test_a_model_that_puts_out_nan_is_refused(tiny_bert, tokenizer, sentences, repair):
    with torch.no_grad():
        tiny_bert.encoder.layer[1].attention.self.value.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="layer 1, .* not finite"):
        obce.compress(
            tiny_bert,
            plan_for(tiny_bert, AWKWARD),
            repair=repair,
            texts=sentences,
            tokenizer=tokenizer,
        )


def test_a_plan_for_another_model_is_refused(tiny_bert, tiny_config):
    tiny_config.intermediate_size = 41
    with pytest.raises(ValueError, match="plan is for .* size 40; this one has .* size 41"):
        obce.compress(BertModel(tiny_config), plan_for(tiny_bert, AWKWARD))


def test_a_compressed_model_is_refused(tiny_bert):
    plan = plan_for(tiny_bert, AWKWARD)
    with pytest.raises(ValueError, match="compressed already"):
        obce.compress(obce.compress(tiny_bert, plan), plan)


def test_what_is_no_bert_is_refused(tiny_bert):
    plan = plan_for(tiny_bert, AWKWARD)
    roberta = transformers.RobertaModel(
        transformers.RobertaConfig(
            vocab_size=9,
            hidden_size=24,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=40,
        )
    )
    for model in (roberta, nn.Linear(24, 24), "bert-base-uncased"):
        with pytest.raises(ValueError, match="is no BERT"):
            obce.compress(model, plan)


class Adapted(nn.Module):
    """What an adapter library puts in the place of a map."""

    def __init__(self, base_layer):
        super().__init__()
        self.base_layer = base_layer
        self.more = nn.Linear(base_layer.in_features, base_layer.out_features)

    def forward(self, x):
        return self.base_layer(x) + self.more(x)


def test_an_adapter_is_refused_before_anything_is_done(tiny_classifier, tokenizer, sentences):
    plan = plan_for(tiny_classifier, AWKWARD)
    attention = tiny_classifier.bert.encoder.layer[1].attention.self
    attention.value = Adapted(attention.value)
    for use in (
        lambda: obce.cut(tiny_classifier, plan),
        lambda: obce.plan(tiny_classifier, random_scores(TINY), percentile=50),
        lambda: obce.collect(tiny_classifier, tokenizer, sentences),
    ):
        with pytest.raises(ValueError, match="layer 1, value: this map is a Adapted.* merge"):
            use()
    attention.value = attention.value.base_layer
    tiny_classifier.classifier = Adapted(tiny_classifier.classifier)
    with pytest.raises(ValueError, match="2 are missing, 4 are others, such as classifier.weight"):
        obce.cut(tiny_classifier, plan)


def test_maps_of_other_widths_than_the_configuration_s_are_refused(tiny_bert):
    """Checkpoints whose heads transformers 4 has pruned."""
    tiny_bert.encoder.layer[2].attention.self.query = nn.Linear(24, 18)
    with pytest.raises(ValueError, match="layer 2, query: this map has 18 units, not 24"):
        obce.plan(tiny_bert, random_scores(TINY), percentile=50)


def test_a_class_without_a_compressed_twin_is_refused(tiny_config, tiny_bert):
    class Mine(BertForSequenceClassification):
        pass

    with pytest.raises(ValueError, match="cannot compress a Mine; .* BertForMaskedLM"):
        obce.compress(Mine(tiny_config), plan_for(tiny_bert, AWKWARD))
