"""The plan: which units stay, how many parameters that leaves, and what is refused."""

import json
import os
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertForSequenceClassification, BertModel

import obce
from obce.base.settings import DEFAULT_KINDS
from obce.pruning import pair_score
from obce.scores import Scores
from obce.units import KINDS, Shape, count_parameters, shape_of

SHAPES = {
    "small": Shape(layers=2, hidden=8, heads=2, intermediate=8),
    "MiniLM": Shape(layers=6, hidden=384, heads=12, intermediate=1536),
    "BERT-base": Shape(layers=12, hidden=768, heads=12, intermediate=3072),
    "BERT-large": Shape(layers=24, hidden=1024, heads=16, intermediate=4096),
}


def bert_without_weights(shape, cls=BertModel):
    """A BERT on the meta device: it has parameters to count, and takes no memory."""
    config = BertConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.intermediate,
    )
    with torch.device("meta"):
        return cls(config)


FOUR = ("query", "key", "value", "intermediate")  # all kinds but the residual maps

MODELS = {name: bert_without_weights(shape) for name, shape in SHAPES.items()}


def for_all(shape, make):
    """{(layer, kind): make(number of units)} for all layers and kinds."""
    return {
        (layer, kind): make(shape.width(kind)) for layer in range(shape.layers) for kind in KINDS
    }


def random_scores(shape, seed=0):
    return for_all(shape, np.random.default_rng(seed).random)


def hand_made(changes, name="small"):
    """A plan that keeps everything but ``changes``: {(layer, kind): units kept}."""
    kept = for_all(SHAPES[name], np.arange) | changes
    return obce.Plan(SHAPES[name], kept, count_parameters(MODELS[name]))


# Percentiles and levels, by hand: heads of 4 units, 8 intermediate units.


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ({"percentile": 0}, (8, 8)),
        ({"percentile": 12}, (8, 7)),  # 12 % of 4 units round to none, of 8 units to one
        ({"level": "light"}, (6, 6)),
        ({"percentile": 25}, (6, 6)),
        ({"level": "medium"}, (4, 4)),
        ({"level": "severe"}, (2, 2)),
        ({"percentile": 75}, (2, 2)),
        ({"percentile": 100}, (0, 0)),
    ],
)
def test_a_percentile_cuts_that_share_of_every_group(target, kept):
    plan = obce.plan(MODELS["small"], random_scores(SHAPES["small"]), kinds=FOUR, **target)
    in_heads, intermediate = kept
    for layer in range(2):
        assert plan.counts(layer) == {
            "query": in_heads,
            "key": in_heads,
            "value": in_heads,
            "attention_output": 8,
            "intermediate": intermediate,
            "output": 8,
        }


def test_parameters_of_a_medium_cut_by_hand():
    scores = random_scores(SHAPES["small"])
    plan = obce.plan(MODELS["small"], scores, level="medium", kinds=FOUR)
    layer = (
        3 * 4 * (8 + 1)  # query, key, value: 4 rows each, with biases
        + (8 * 4 + 8)  # attention_output: 8 rows, a column per value unit, 8 biases
        + 4 * (8 + 1)  # intermediate: 4 rows with biases
        + (8 * 4 + 8)  # output: 8 rows, a column per intermediate unit, 8 biases
        + 2 * (8 + 8)  # two LayerNorms
    )
    dense = count_parameters(MODELS["small"])
    assert dense.encoder == 2 * (4 * (64 + 8) + 2 * (64 + 8) + 32)
    assert plan.parameters.encoder == 2 * layer == 2 * 256
    assert plan.parameters.total == dense.total - 2 * (464 - 256)
    assert plan.parameters[2:] == dense[2:]  # embeddings and head stay
    assert plan.keep_encoder == 256 / 464


def test_a_residual_unit_that_goes_takes_its_row_but_not_its_bias():
    plan = hand_made({(0, "attention_output"): [0, 1, 2], (1, "output"): [5]})
    dense = count_parameters(MODELS["small"])
    assert dense.encoder - plan.parameters.encoder == (8 - 3) * 8 + (8 - 1) * 8


# Budgets.


# What OBCE reports for BERT-base and BERT-large, then its journal version; the parameters are
# (total, encoder).
BUDGETS = [
    ("BERT-base", FOUR, {"keep_total": 0.5847}, (64_014_421, 39_586_645), 0.5847, 0.465),
    ("BERT-large", FOUR, {"keep_total": 0.523}, (175_280_195, 142_447_683), 0.523, 0.471),
    ("BERT-base", FOUR, {"keep_total": 0.47}, (51_457_228, 27_029_452), 0.47, 0.318),
    ("BERT-large", FOUR, {"keep_total": 0.42}, (140_760_053, 107_927_541), 0.42, 0.357),
    ("MiniLM", FOUR, {"keep_encoder": 0.465}, (17_017_547, 4_951_115), 0.749, 0.465),
    ("BERT-base", KINDS, {"keep_total": 0.5847}, (64_014_672, 39_586_896), 0.5847, 0.465),
    ("BERT-large", KINDS, {"keep_total": 0.523}, (175_279_956, 142_447_444), 0.523, 0.471),
    ("BERT-base", FOUR[2:], {"keep_total": 0.5847}, (64_014_706, 39_586_930), 0.5847, 0.465),
]


@pytest.mark.parametrize(
    ("name", "kinds", "target", "parameters", "keep_total", "keep_encoder"), BUDGETS
)
def test_budgets_are_met_by_exactly_these_numbers(
    name, kinds, target, parameters, keep_total, keep_encoder
):
    """With heads="equal" the counts follow from the shape alone, whatever the scores."""
    for seed in range(2):
        plan = obce.plan(MODELS[name], random_scores(SHAPES[name], seed), kinds=kinds, **target)
        assert plan.parameters[:2] == parameters
    assert plan.keep_total == pytest.approx(keep_total, abs=0.001)
    assert plan.keep_encoder == pytest.approx(keep_encoder, abs=0.001)


@settings(max_examples=40, deadline=None)
@given(
    fraction=st.floats(0.35, 1),
    target=st.sampled_from(["keep_total", "keep_encoder"]),
    kinds=st.sampled_from([FOUR, KINDS, ("value", "intermediate"), ("query", "key")]),
    mode=st.sampled_from([("layer", "equal"), ("layer", "free"), ("network", "free")]),
    seed=st.integers(0, 9),
)
def test_a_budget_is_met_to_a_tenth_of_a_point_or_the_error_names_the_range(
    fraction, target, kinds, mode, seed
):
    model, scores = MODELS["MiniLM"], random_scores(SHAPES["MiniLM"], seed)
    options = {"kinds": kinds, "scope": mode[0], "heads": mode[1]}
    least = getattr(obce.plan(model, scores, percentile=100, **options), target)
    if fraction < least - 0.001:
        with pytest.raises(ValueError, match=f"from {least:.4f} to 1.0000 can"):
            obce.plan(model, scores, **{target: fraction}, **options)
    else:
        plan = obce.plan(model, scores, **{target: fraction}, **options)
        assert getattr(plan, target) == pytest.approx(fraction, abs=0.001)
        # A head that loses all its values loses its pairs, too.
        untouched = set(KINDS) - set(kinds) - (set(FOUR[:2]) if "value" in kinds else set())
        for layer in range(6):
            assert all(plan.counts(layer)[k] == SHAPES["MiniLM"].width(k) for k in untouched)


def test_the_whole_model_is_a_budget_too():
    plan = obce.plan(MODELS["MiniLM"], random_scores(SHAPES["MiniLM"]), keep_total=1)
    assert plan.parameters == plan.dense
    assert plan.info["percentile"] == 0


def test_a_model_too_small_for_a_tenth_of_a_point_says_what_is_nearest():
    nearest = r"keep_encoder=0.6 .* the nearest that can are 0\.6\d{3} and 0\.5\d{3}$"
    with pytest.raises(ValueError, match=nearest):
        obce.plan(MODELS["small"], random_scores(SHAPES["small"]), keep_encoder=0.6)


def test_where_maps_vanish_at_once_no_plan_may_be_near_and_the_error_says_what_is():
    """The last ``output`` unit of a layer takes all intermediate units with it."""
    scores = random_scores(SHAPES["MiniLM"])
    with pytest.raises(ValueError, match="keep_encoder=0.5 .* are 0.5014 and 0.4457$") as error:
        obce.plan(MODELS["MiniLM"], scores, keep_encoder=0.5, kinds=["output"])
    for reached in str(error.value).split(" can are ")[1].split(" and "):
        plan = obce.plan(MODELS["MiniLM"], scores, keep_encoder=float(reached), kinds=["output"])
        assert plan.keep_encoder == pytest.approx(float(reached), abs=1e-4)


@pytest.mark.parametrize("heads", ["equal", "free"])
def test_small_budgets_are_met_although_heads_go_as_a_whole(heads):
    """A head's last value unit takes its pairs along: 2.8 points of the encoder for equal heads."""
    model, scores = MODELS["MiniLM"], random_scores(SHAPES["MiniLM"])
    options = {"kinds": DEFAULT_KINDS, "heads": heads}
    least, notes = obce.plan(model, scores, percentile=100, **options).keep_encoder, set()
    for fraction in np.arange(np.ceil(least * 1000) / 1000, 0.2, 0.007):
        plan = obce.plan(model, scores, keep_encoder=float(fraction), **options)
        notes |= set(plan.info)
        assert plan.keep_encoder == pytest.approx(fraction, abs=0.001)
        for layer in range(6 if heads == "equal" else 0):
            assert len(set(plan.head_widths(layer, "value"))) == 1
            assert len(set(plan.head_widths(layer, "query"))) == 1
    assert "percentile_in_heads" in notes


def test_the_budget_counts_the_task_head():
    shape = SHAPES["MiniLM"]
    model = bert_without_weights(shape, BertForSequenceClassification)
    plan = obce.plan(model, random_scores(shape), keep_total=0.75)
    assert plan.dense.total == count_parameters(MODELS["MiniLM"]).total + 2 * 384 + 2
    assert plan.parameters.head == 384 * 385 + 2 * 385


# Which units go: those with the lowest scores of their group, ties by number.


def kept_by_hand(values, percentile):
    """The units of one group that stay; halves of a unit are rounded up."""
    gone = int(len(values) * percentile / 100 + 0.5)
    return sorted(sorted(range(len(values)), key=lambda unit: (values[unit], unit))[gone:])


@pytest.fixture
def tied_scores():
    """Whole numbers from 0 to 5: full of ties."""
    draw = np.random.default_rng(3).integers
    return for_all(SHAPES["MiniLM"], lambda units: draw(0, 6, units))


@pytest.mark.parametrize("percentile", [10, 37.5, 80])
@pytest.mark.parametrize("kind", ["value", "intermediate", "attention_output", "output"])
def test_per_layer_the_lowest_of_each_layer_go(tied_scores, kind, percentile):
    plan = obce.plan(
        MODELS["MiniLM"], tied_scores, percentile=percentile, kinds=[kind], heads="free"
    )
    for layer in range(6):
        expected = kept_by_hand(tied_scores[layer, kind], percentile)
        assert plan.kept[layer, kind].tolist() == expected


@pytest.mark.parametrize("percentile", [10, 37.5, 80])
def test_per_head_the_lowest_of_each_head_go(tied_scores, percentile):
    plan = obce.plan(MODELS["MiniLM"], tied_scores, percentile=percentile, kinds=["value"])
    for layer in range(6):
        heads = tied_scores[layer, "value"].reshape(12, 32)
        expected = [32 * h + u for h in range(12) for u in kept_by_hand(heads[h], percentile)]
        assert plan.kept[layer, "value"].tolist() == expected
        assert len(set(plan.head_widths(layer, "value"))) == 1


@pytest.mark.parametrize("kind", ["value", "intermediate"])
def test_over_the_network_the_lowest_of_all_layers_go(tied_scores, kind):
    plan = obce.plan(MODELS["MiniLM"], tied_scores, percentile=37.5, kinds=[kind], scope="network")
    width = SHAPES["MiniLM"].width(kind)
    expected = kept_by_hand(np.concatenate([tied_scores[i, kind] for i in range(6)]), 37.5)
    found = np.concatenate([plan.kept[i, kind] + i * width for i in range(6)])
    assert found.tolist() == expected


def test_over_the_network_a_whole_layer_can_go():
    scores = random_scores(SHAPES["small"])
    scores[1, "intermediate"] += 1
    plan = obce.plan(
        MODELS["small"], scores, percentile=50, kinds=["intermediate"], scope="network"
    )
    assert [plan.counts(layer)["intermediate"] for layer in (0, 1)] == [0, 8]


# All kinds and layers at once, by hand: of "small" (hidden size 8) a value or an intermediate unit
# has 9 + 8 parameters, a pair 2 x 9, a row of a residual map 8.


def at_once(scores, **options):
    return obce.plan(MODELS["small"], scores, scope="global", **{"heads": "free"} | options)


def test_globally_the_least_score_per_parameter_goes_whatever_the_kind():
    """In turn go 0.5 (intermediate, layer 1), 1 (value, layer 0), 1.5, 2, ... 5.5, 6; the two best
    of eight stay; then it is layer 0's intermediate units' turn."""
    eight = np.arange(1.0, 9)
    scores = for_all(SHAPES["small"], np.ones) | {
        (0, "value"): eight,
        (0, "intermediate"): 10 * eight,
        (1, "value"): 100 * eight,
        (1, "intermediate"): eight - 0.5,
    }
    for percentile, gone in ((25, (4, 0, 0, 4)), (37.5, (6, 0, 0, 6)), (50, (6, 4, 0, 6))):
        plan = at_once(scores, percentile=percentile, floor=0.25)
        found = [(i, kind) for i in range(2) for kind in DEFAULT_KINDS]
        assert [plan.kept[group].tolist() for group in found] == [[*range(n, 8)] for n in gone]
    assert plan.info["floor"] == 0.25 and plan.info["heads"] == "free"
    whole = at_once(scores, percentile=100, floor=0.25)
    assert {whole.counts(i)[kind] for i in range(2) for kind in DEFAULT_KINDS} == {2}
    with pytest.raises(ValueError, match=r"with floor=0.75: from 0\.\d+ to 1.0000 can"):
        at_once(scores, keep_encoder=0.5, floor=0.75)


def test_globally_a_unit_of_fewer_parameters_needs_a_lower_score():
    """A pair's 18 parameters with score 9 go first, then 17 with score 17, then 8 with score 9."""
    scores = for_all(SHAPES["small"], lambda n: np.linspace(900, 999, n))
    scores |= {(0, "value"): np.array([17.0] + 7 * [900])}
    scores |= {(0, "output"): np.array([9.0] + 7 * [900])}
    scores |= {(1, "query"): np.array(7 * [900] + [27.0]), (1, "key"): np.array(7 * [900] + [3.0])}
    order = [(1, "key"), (0, "value"), (0, "output")]
    for number in range(1, 4):  # of 80: a pair counts once
        plan = at_once(scores, percentile=100 * number / 80, kinds=KINDS)
        cut = {group for group, kept in plan.kept.items() if len(kept) < 8}
        assert cut - {(1, "query")} == set(order[:number])


def test_globally_equal_heads_lose_their_nth_units_together():
    """Heads of layer 0: 1, 2, 3, 4 and 50, 60, 70, 80, so steps of 25.5, 31, 36.5 and 42."""
    scores = for_all(SHAPES["small"], lambda n: np.linspace(500, 600, n))
    scores[0, "value"] = np.array([4.0, 3, 2, 1, 50, 60, 70, 80])
    scores[0, "intermediate"] = np.array([26.0, 32, 900, 901, 902, 903, 904, 905])
    order = [([0, 1, 2, 5, 6, 7], 8), ([0, 1, 2, 5, 6, 7], 7), ([0, 1, 6, 7], 7), ([0, 1, 6, 7], 6)]
    for units, (values, inner) in zip((2, 3, 5, 6), order, strict=True):
        plan = at_once(scores, percentile=100 * units / 32, heads="equal", floor=0)
        assert plan.kept[0, "value"].tolist() == values
        assert plan.counts(0)["intermediate"] == inner
        assert len(set(plan.head_widths(0, "value"))) == 1
    free = at_once(scores, percentile=100 * 4 / 32, floor=0)
    assert free.head_widths(0, "value") == [0, 4]


@settings(max_examples=15, deadline=None)
@given(
    fraction=st.floats(0.35, 0.95),
    floor=st.sampled_from([0.05, 0.1, 0.3]),
    kinds=st.sampled_from([FOUR, KINDS, ("value", "intermediate")]),
    heads=st.sampled_from(["equal", "free"]),
    seed=st.integers(0, 9),
)
def test_globally_a_budget_is_met_above_the_floor_and_nothing_better_went(
    fraction, floor, kinds, heads, seed
):
    model, shape = MODELS["MiniLM"], SHAPES["MiniLM"]
    draw = np.random.default_rng(seed)
    scores = for_all(shape, lambda n: draw.lognormal(draw.normal(), 1, n))
    options = {"kinds": kinds, "scope": "global", "floor": floor, "heads": heads}
    try:
        plan = obce.plan(model, scores, keep_encoder=fraction, **options)
    except ValueError as error:
        least = obce.plan(model, scores, percentile=100, **options).keep_encoder
        assert "can" in str(error) and fraction < least + 0.02
        return
    assert plan.keep_encoder == pytest.approx(fraction, abs=0.001)
    for layer in range(shape.layers):
        for kind in {*kinds} - {"query", "key"}:
            assert len(plan.kept[layer, kind]) >= floor * shape.width(kind)
        if heads == "equal":
            assert len(set(plan.head_widths(layer, "value"))) == 1
    if kinds == DEFAULT_KINDS and heads == "free" and "percentile_in_heads" not in plan.info:
        groups = [group for group in scores if group[1] in kinds]  # units of one size
        gone = np.concatenate([np.delete(scores[group], plan.kept[group]) for group in groups])
        for group in groups:
            stayed = np.sort(scores[group][plan.kept[group]])
            above_floor = stayed[: len(stayed) - int(np.ceil(floor * len(scores[group])))]
            assert above_floor.min(initial=np.inf) > gone.max()


def test_per_layer_free_heads_become_unequal():
    scores = random_scores(SHAPES["small"])
    scores[0, "value"] = np.array([0, 0, 0, 9, 9, 9, 9, 9])
    plan = obce.plan(MODELS["small"], scores, percentile=25, kinds=["value"], heads="free")
    assert plan.head_widths(0, "value") == [2, 4]
    assert plan.kept[0, "value"].tolist() == [2, 3, 4, 5, 6, 7]


def test_the_default_kinds_are_cut_and_no_others():
    plan = obce.plan(MODELS["small"], random_scores(SHAPES["small"]), percentile=50)
    assert {kind for kind in KINDS if plan.counts(0)[kind] < 8} == set(DEFAULT_KINDS)
    assert plan.info["kinds"] == list(DEFAULT_KINDS)


def test_query_and_key_go_in_pairs_by_the_geometric_mean():
    query, key = np.array([9.0, 1, 4, 0]), np.array([1.0, 4, 4, 100])
    assert pair_score(query, key).tolist() == [3, 2, 4, 0]
    scores = random_scores(SHAPES["small"])
    scores[0, "query"], scores[0, "key"] = np.tile(query, 2), np.tile(key, 2)
    plan = obce.plan(MODELS["small"], scores, percentile=50, kinds=["query", "key"])
    assert plan.kept[0, "query"].tolist() == plan.kept[0, "key"].tolist() == [0, 2, 4, 6]


@settings(max_examples=20, deadline=None)
@given(percentiles=st.tuples(st.floats(0, 100), st.floats(0, 100)).map(sorted), seed=st.integers(0))
def test_a_higher_percentile_only_cuts_more(percentiles, seed):
    scores = random_scores(SHAPES["small"], seed)
    less, more = (
        obce.plan(MODELS["small"], scores, percentile=p, kinds=KINDS, heads="free")
        for p in percentiles
    )
    for key in less.kept:
        assert set(more.kept[key]) <= set(less.kept[key])


# Units that nothing reads are dropped with the unit that read them.


def test_a_head_without_values_loses_its_pairs():
    plan = hand_made({(0, "value"): [5, 7]})
    assert plan.kept[0, "query"].tolist() == plan.kept[0, "key"].tolist() == [4, 5, 6, 7]
    assert plan.head_widths(0, "query") == [0, 4] and plan.head_widths(0, "value") == [0, 2]


def test_a_head_without_pairs_keeps_its_values():
    """Its attention is uniform, and its value units still say something."""
    plan = hand_made({(0, "query"): [4, 6], (0, "key"): [4, 6]})
    assert plan.head_widths(0, "query") == [0, 2] and plan.head_widths(0, "value") == [4, 4]


def test_a_map_that_writes_nothing_needs_no_inputs():
    plan = hand_made({(0, "attention_output"): [], (1, "output"): []})
    nothing = {"query": 0, "key": 0, "value": 0, "attention_output": 0}
    assert plan.counts(0) == nothing | {"intermediate": 8, "output": 8}
    assert plan.counts(1)["intermediate"] == 0 and plan.counts(1)["value"] == 8


# On disk and on screen.


def test_json_round_trip(tmp_path):
    scores = obce.Scores(random_scores(SHAPES["MiniLM"]), {"score": "random", "seed": 0})
    plan = obce.plan(MODELS["MiniLM"], scores, keep_encoder=0.465, scope="network", kinds=KINDS)
    plan.save(tmp_path / "plan.json")
    again = obce.Plan.load(tmp_path / "plan.json")
    assert again.kept.keys() == plan.kept.keys()
    assert all(np.array_equal(again.kept[key], plan.kept[key]) for key in plan.kept)
    assert (again.shape, again.dense, again.info) == (plan.shape, plan.dense, plan.info)
    assert again.parameters == plan.parameters and str(again) == str(plan)
    assert again.info["score"] == "random" and again.info["keep_encoder"] == 0.465
    assert os.listdir(tmp_path) == ["plan.json"]


def test_a_failed_save_leaves_the_old_plan(tmp_path, monkeypatch):
    path = tmp_path / "plan.json"
    hand_made({}).save(path)
    before = path.read_bytes()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        hand_made({(0, "value"): [1]}).save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["plan.json"]


def test_the_table_states_the_numbers():
    scores = random_scores(SHAPES["BERT-base"])
    plan = obce.plan(MODELS["BERT-base"], scores, keep_total=0.5847, kinds=FOUR)
    lines = str(plan).splitlines()
    assert lines[0].split() == ["layer", *KINDS, "parameters"]
    for layer in range(12):
        counts = plan.counts(layer)
        cells = [f"{counts[kind]:,} of {plan.shape.width(kind):,}" for kind in KINDS]
        assert " ".join(lines[1 + layer].split()).startswith(" ".join([str(layer), *cells]))
    assert lines[13] == "encoder: 39,586,645 of 85,054,464 parameters (46.54%)"
    assert lines[14] == "total: 64,014,421 of 109,482,240 parameters (58.47%)"


def test_the_summary_states_what_a_record_needs():
    plan = obce.plan(MODELS["MiniLM"], random_scores(SHAPES["MiniLM"]), level="medium")
    summary = json.loads(json.dumps(plan.summary()))
    assert summary["level"] == "medium" and summary["scope"] == "layer"
    assert summary["heads"] == "equal" and summary["kinds"] == list(DEFAULT_KINDS)
    assert summary["keep_total"] == pytest.approx(plan.keep_total, abs=1e-6)
    assert summary["keep_encoder"] == pytest.approx(plan.keep_encoder, abs=1e-6)
    assert summary["units_kept"]["value"] == 6 * 192
    assert summary["units"]["intermediate"] == 6 * 1536


# Bad input.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of percentile, level, keep_total, keep_encoder, not 0"),
        ({"percentile": 50, "keep_total": 0.5}, "exactly one of .* not 2"),
        ({"percentile": 101}, "percentile=101: it must be from 0 to 100"),
        ({"percentile": float("nan")}, "percentile=nan"),
        ({"level": "mild"}, "unknown level 'mild'; there are light, medium, severe"),
        ({"keep_total": 0}, "keep_total=0: it must be above 0 and at most 1"),
        ({"keep_encoder": 1.1}, "keep_encoder=1.1: it must be above 0 and at most 1"),
        ({"keep_encoder": float("nan")}, "keep_encoder=nan"),
        (
            {"keep_total": 0.5, "kinds": FOUR},
            r"keep_total=0.5 cannot be reached .*: from 0.5319 to 1.0000 can",
        ),
        ({"percentile": 50, "kinds": ["values"]}, "unknown kind 'values'; there are query, key"),
        ({"percentile": 50, "kinds": []}, "kinds is empty"),
        ({"percentile": 50, "kinds": ["query", "value"]}, "query and key units go in pairs"),
        ({"percentile": 50, "kinds": ["key"]}, "query and key units go in pairs"),
        ({"percentile": 50, "scope": "model"}, "unknown scope 'model'; there are layer, network"),
        ({"percentile": 50, "heads": "same"}, "unknown heads 'same'; there are equal, free"),
        ({"percentile": 50, "scope": "network", "heads": "equal"}, "heads='equal' needs"),
        ({"percentile": 50, "floor": 0.1}, "floor=0.1 is for scope='global', not for 'layer'"),
        ({"percentile": 50, "scope": "global", "floor": 2}, "floor=2: it must be from 0 to 1"),
    ],
)
def test_bad_requests_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        obce.plan(MODELS["MiniLM"], random_scores(SHAPES["MiniLM"]), **options)


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ((3, "value"), np.full(384, np.nan), "layer 3, value: scores are not finite"),
        ((3, "value"), np.full(384, np.inf), "layer 3, value: scores are not finite"),
        ((5, "key"), np.ones(383), r"layer 5, key: scores have shape \(383,\), the model has 384"),
        ((5, "key"), np.ones((384, 1)), "were they made for another model"),
        ((0, "key"), -np.ones(384), "query and key units must not be negative"),
        ((2, "intermediate"), None, "no scores for layer 2, intermediate"),
        ((2, "intermediate"), "constant", "all 9216 scores of intermediate units are 7"),
    ],
)
def test_bad_scores_are_refused(key, values, message):
    scores = random_scores(SHAPES["MiniLM"]) | {key: values}
    if values is None:
        del scores[key]
    elif isinstance(values, str):
        scores |= {(layer, key[1]): np.full(1536, 7.0) for layer in range(6)}
    with pytest.raises(ValueError, match=message):
        obce.plan(MODELS["MiniLM"], scores, percentile=50, kinds=FOUR)


def test_scores_of_kinds_that_are_not_cut_are_not_needed():
    scores = {key: v for key, v in random_scores(SHAPES["small"]).items() if key[1] == "value"}
    plan = obce.plan(MODELS["small"], scores, percentile=50, kinds=["value"])
    assert plan.counts(0)["value"] == 4


@pytest.mark.parametrize("model", [torch.nn.Linear(2, 2), "bert-base-uncased", None])
def test_a_plan_needs_a_bert(model):
    with pytest.raises(ValueError, match="is no BERT"):
        obce.plan(model, random_scores(SHAPES["small"]), percentile=50)


def test_a_plan_for_another_model_is_refused():
    assert hand_made({}).check(MODELS["small"]) is None
    with pytest.raises(ValueError, match="plan is for a BERT with 2 layers.* has 6 layers"):
        hand_made({}).check(MODELS["MiniLM"])
    assert shape_of(MODELS["MiniLM"]) == SHAPES["MiniLM"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({(0, "query"): [0, 1]}, "layer 0: query and key units must go in pairs"),
        ({(1, "value"): [3, 2]}, "layer 1, value: kept units must ascend"),
        ({(1, "value"): [2, 2]}, "layer 1, value: kept units must ascend"),
        ({(1, "value"): [-1, 2]}, "layer 1, value: kept units must ascend from 0"),
        ({(1, "output"): [8]}, "layer 1, output: there is no unit 8 of 8"),
        ({(2, "output"): [0]}, "must list all 12 layers x kinds"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        hand_made(changes)


def changed(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


UNSOUND = {
    "empty": lambda plan: plan.clear(),
    "no dense parameters": lambda plan: plan.pop("dense"),
    "other units, as many": lambda plan: plan["kept"][0].update(output=[0, 1, 2, 3, 4, 5, 6, 8]),
    "another note": lambda plan: plan["info"].update(score="std"),
    "no checksum": lambda plan: plan.pop("checksum"),
    "a name more": lambda plan: plan.update(more=1),
    "an unknown format": lambda plan: plan.update(format="obce plan 99"),
    "no heads": lambda plan: plan["shape"].update(heads=0),
    "layers in words": lambda plan: plan["shape"].update(layers="2"),
    "parameters in words": lambda plan: plan["dense"].update(total="many"),
    "other parameters than follow": lambda plan: plan["parameters"].update(total=1),
    "a layer missing": lambda plan: plan["kept"].pop(),
    "a kind missing": lambda plan: plan["kept"][0].pop("value"),
    "a query without its key": lambda plan: plan["kept"][0].update(query=[0]),
    "null for units": lambda plan: plan["kept"][0].update(value=None),
    "a number for units": lambda plan: plan["kept"][0].update(value=5),
    "a word for units": lambda plan: plan["kept"][0].update(value="all"),
    "fractions of units": lambda plan: plan["kept"][0].update(value=[0.5, 1.5]),
    "lists of units": lambda plan: plan["kept"][0].update(value=[[0], [1, 2]]),
    "a huge unit": lambda plan: plan["kept"][0].update(value=[10**30]),
}


@pytest.mark.parametrize("change", UNSOUND.values(), ids=UNSOUND)
def test_a_file_that_is_no_sound_plan_is_refused(tmp_path, change):
    path = tmp_path / "plan.json"
    hand_made({}).save(path)
    changed(path, change)
    with pytest.raises(ValueError):
        obce.Plan.load(path)


BY_HAND = {
    "heads that do not share the width": lambda plan: plan["shape"].update(heads=5),
    "half a unit": lambda plan: plan["shape"].update(intermediate=64.5),
    "true for a number": lambda plan: plan["shape"].update(layers=True),
    "another shape": lambda plan: plan["shape"].update(intermediate=16),
    "dense parameters that do not add up": lambda plan: plan["dense"].update(total=10**6),
    "negative parameters": lambda plan: plan["dense"].update(head=-1),
    "a corpus in words": lambda plan: plan["info"].update(corpus="my texts"),
    "a number for a score": lambda plan: plan["info"].update(score=7),
    "null for kinds": lambda plan: plan["info"].update(kinds=None),
    "unknown kinds": lambda plan: plan["info"].update(kinds=["value", "dense"]),
    "a list of notes": lambda plan: plan.update(info=["score", "std"]),
    "true for a percentile": lambda plan: plan["info"].update(percentile=True),
}


CHECKED = {"other units, as many", "another note", "no checksum"}  # by the checksum alone
BY_HAND |= {name: change for name, change in UNSOUND.items() if name not in CHECKED}


@pytest.mark.parametrize("change", BY_HAND.values(), ids=BY_HAND)
def test_a_plan_written_by_hand_is_checked_too(tmp_path, change):
    """The earlier format has no checksum, and is still read."""
    path = tmp_path / "plan.json"
    hand_made({}).save(path)

    def earlier(plan):
        plan.update(format="obce plan 1")
        del plan["checksum"]

    changed(path, earlier)
    assert obce.Plan.load(path).parameters == hand_made({}).parameters
    changed(path, change)
    with pytest.raises(ValueError):
        obce.Plan.load(path)


def test_a_billion_layers_cost_no_time(tmp_path):
    path = tmp_path / "plan.json"
    hand_made({}).save(path)
    for size in ("layers", "hidden", "heads", "intermediate"):
        changed(path, lambda plan, size=size: plan["shape"].update({size: 10**9}))
        start = time.perf_counter()
        for version in ("obce plan 1", "obce plan 2"):
            changed(path, lambda plan, version=version: plan.update(format=version))
            with pytest.raises(ValueError):
                obce.Plan.load(path)
        assert time.perf_counter() - start < 1


def test_notes_that_are_no_json_are_refused():
    plan = hand_made({})
    for info, message in (
        ({"score": np.float32(1)}, "info's score must be str"),
        ({"mine": np.float32(1)}, "must be plain JSON"),
        ({"mine": float("nan")}, "must be plain JSON"),
        ({1: 2}, "a dict of named notes"),
    ):
        with pytest.raises(ValueError, match=message):
            obce.Plan(plan.shape, plan.kept, plan.dense, info)


def test_of_many_mutated_files_none_is_taken_for_another_plan(mutations, tmp_path):
    path = tmp_path / "plan.json"
    scores = obce.Scores(random_scores(SHAPES["small"]), {"score": "random", "corpus": {"n": 1}})
    plan = obce.plan(MODELS["small"], scores, percentile=50)
    plan.save(path)
    refused = 0
    for mutated in mutations(path.read_bytes(), 500):
        path.write_bytes(mutated)
        try:
            found = obce.Plan.load(path)
        except ValueError as error:
            refused += 1
            assert len(str(error)) < 1000
        else:  # what changed were spaces alone
            assert (found.shape, found.dense, found.info) == (plan.shape, plan.dense, plan.info)
            assert all(np.array_equal(found.kept[group], plan.kept[group]) for group in plan.kept)
    assert refused > 400


def test_torn_and_missing_files_are_refused(tmp_path):
    path = tmp_path / "plan.json"
    with pytest.raises(ValueError, match="no plan at .*plan.json"):
        obce.Plan.load(path)
    hand_made({}).save(path)
    for broken in (path.read_bytes()[:200], b"", b"[1, 2]", b"\xff\x00"):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="plan.json is not an obce plan"):
            obce.Plan.load(path)


def test_scores_in_one_unit_share_one_budget_and_judge_pairs():
    """Unless the caller says otherwise."""
    scores = Scores(for_all(SHAPES["small"], lambda n: np.linspace(1, 2, n)))
    for info, scope, kinds in (
        ({}, "layer", ("value", "intermediate")),
        ({"score": "merge_radius", "cloud": "mean"}, "layer", ("value", "intermediate")),
        ({"score": "std", "metric": "norm"}, "layer", ("value", "intermediate")),
        ({"score": "std", "metric": "loss"}, "global", ("value", "intermediate")),
        ({"score": "fisher"}, "global", ("query", "key", "value", "intermediate")),
        ({"score": "second_order", "metric": "loss"}, "global", KINDS[:3] + ("intermediate",)),
    ):
        scores.info = info
        plan = obce.plan(MODELS["small"], scores, percentile=25)
        assert (plan.info["scope"], plan.info["kinds"]) == (scope, list(kinds))
        floor = {"layer": None, "global": 0.0 if info.get("score") == "second_order" else 0.1}
        assert plan.info.get("floor") == floor[scope]
        plan = obce.plan(MODELS["small"], scores, percentile=25, scope="layer", kinds=["output"])
        assert (plan.info["scope"], plan.info["kinds"]) == ("layer", ["output"])
