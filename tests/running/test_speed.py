"""Multiply-adds, sizes and widths are counted exactly; what a clock says is not tested."""

import json
import os

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForSequenceClassification, BertModel
from typer.testing import CliRunner

import obce
from obce import cli
from obce.modeling import ObceBertConfig, ObceBertModel, ObceSelfAttention
from obce.running import records, speed
from obce.units import KINDS, Shape, count_multiply_adds, count_parameters, shape_of

TINY = Shape(layers=3, hidden=24, heads=4, intermediate=40)  # conftest's tiny_config

with torch.device("meta"):  # shapes without weights, all that a plan needs
    SMALL = BertModel(
        BertConfig(
            hidden_size=TINY.hidden,
            num_hidden_layers=TINY.layers,
            num_attention_heads=TINY.heads,
            intermediate_size=TINY.intermediate,
        )
    )
    MINILM = BertModel(BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536))


def random_scores(shape, seed=0):
    rng = np.random.default_rng(seed)
    return {(i, kind): rng.random(shape.width(kind)) for i in range(shape.layers) for kind in KINDS}


def cut(model, **options):
    return obce.compress(model, obce.plan(model, random_scores(shape_of(model)), **options))


def counted(bert, texts, tokens, **more):
    """What PyTorch counts while the model runs; eager, since its counter misses fused attention
    on a CPU. A multiply-add is two of its operations."""
    bert.set_attn_implementation("eager")
    ids = torch.ones(texts, tokens, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        bert(ids, **more)
    assert counter.get_total_flops() % 2 == 0
    return counter.get_total_flops() // 2


# Counts.


def test_one_layer_by_hand():
    """2 heads, hidden 4, intermediate 3; kept: 2 pairs, 3 values, 4 and 1 rows, 2 intermediate."""
    shape = Shape(layers=1, hidden=4, heads=2, intermediate=3)
    counts = {"query": 2, "key": 2, "value": 3, "attention_output": 4, "intermediate": 2}
    counts["output"] = 1
    # query, key and value 2 x 4, 2 x 4 and 3 x 4, then 4 x 3, 2 x 4 and 1 x 2: 50 weights.
    assert shape.layer_multiply_adds(counts, tokens=1) == 50 + 2 + 3
    assert shape.layer_multiply_adds(counts, tokens=10) == 10 * 50 + 100 * (2 + 3)


def test_bert_base_at_128_tokens():
    with torch.device("meta"):
        base = BertModel(BertConfig())
    weights = 12 * 768**2  # of a layer: 4 square maps and twice 4
    attention = 2 * 768  # for each pair of tokens
    by_hand = 12 * (128 * weights + 128**2 * attention) + 768**2
    assert count_multiply_adds(base, tokens=128) == by_hand == 11_174_215_680
    assert count_multiply_adds(base, 8, 128) == 8 * by_hand


def test_a_layer_that_is_read_at_some_tokens_by_hand():
    """As above, and 3 of 10 tokens ask: of the others, keys and values only, (2 + 3) x 4."""
    shape = Shape(layers=1, hidden=4, heads=2, intermediate=3)
    counts = {"query": 2, "key": 2, "value": 3, "attention_output": 4, "intermediate": 2}
    counts["output"] = 1
    found = shape.layer_multiply_adds(counts, tokens=10, asking=3)
    assert found == 3 * 50 + 7 * 20 + 3 * 10 * (2 + 3)
    assert shape.layer_multiply_adds(counts, 10, 10) == shape.layer_multiply_adds(counts, 10)


@pytest.mark.parametrize("pooler", [True, False])
@pytest.mark.parametrize("options", [None, {}, {"kinds": KINDS}])
@pytest.mark.parametrize(("texts", "tokens"), [(1, 5), (3, 16)])
def test_the_formula_is_what_torch_counts(options, pooler, texts, tokens):
    config = one_layer(hidden=32, intermediate=40, tokens=16).config
    bert = BertModel(config, add_pooling_layer=pooler).eval()
    if options is not None:
        # Heads as wide in pairs as in values, 8 places, are not padded.
        kinds = options.get("kinds", ("query", "key", "value", "intermediate"))
        bert = cut(bert, percentile=50, kinds=kinds)
    assert counted(bert, texts, tokens) == count_multiply_adds(bert, texts, tokens)
    if options is not None:
        found = count_multiply_adds(bert, texts, tokens, first_only=True)
        assert counted(bert, texts, tokens, first_only=True) == found


def test_unequal_heads_pay_for_their_padding_in_attention_only(tiny_bert):
    small = cut(tiny_bert, percentile=60, kinds=KINDS, heads="free")
    padded = 0
    for layer, widths in zip(small.encoder.layer, small.config.layer_widths, strict=True):
        live = sum(width > 0 for width in widths["value"])
        assert layer.attention.self.width >= max(widths["query_key"] + widths["value"])
        padded += (
            2 * live * layer.attention.self.width - sum(widths["query_key"]) - sum(widths["value"])
        )
    assert padded > 0
    assert counted(small, 2, 7) == count_multiply_adds(small, 2, 7) + 2 * 7**2 * padded


def test_a_task_s_head_is_not_counted(tiny_classifier, tiny_bert):
    assert count_multiply_adds(tiny_classifier, 2, 9) == count_multiply_adds(tiny_bert, 2, 9)


@pytest.mark.parametrize(("texts", "tokens"), [(0, 8), (1, 0)])
def test_nothing_to_count_is_refused(tiny_bert, texts, tokens):
    with pytest.raises(ValueError, match="at least one of each"):
        count_multiply_adds(tiny_bert, texts, tokens)


# Sizes.


@pytest.mark.parametrize("options", [{}, {"heads": "free"}, {"kinds": KINDS, "heads": "free"}])
def test_file_and_memory_are_the_parameters(tiny_classifier, tmp_path, options):
    small = cut(tiny_classifier, percentile=50, **options)
    small.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    with safe_open(file, "pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}
    rows = {name: tensor for name, tensor in tensors.items() if name.endswith(".rows")}
    held = sum(t.numel() * t.element_size() for t in tensors.values())
    header = int.from_bytes(file.read_bytes()[:8], "little")
    assert os.path.getsize(file) == 8 + header + held
    places = 8 * sum(len(tensor) for tensor in rows.values())  # int64 numbers
    assert held == 4 * count_parameters(small).total + places
    assert speed.benchmark(small, shapes=[(1, 4)], repeats=1)["bytes"] == held
    # Nothing of the size of the weights is kept beside them, after a pass either.
    others = [
        value.nbytes
        for module in small.modules()
        for value in vars(module).values()
        if isinstance(value, torch.Tensor)
    ]
    assert sum(others) <= 8 * 4 * TINY.layers * TINY.hidden


def test_old_files_load_whatever_the_code_holds_beside_them(tiny_bert):
    """What unequal heads need to find their places is in no state dict."""
    names = cut(tiny_bert, percentile=50, heads="free").state_dict()
    assert {name.split(".")[-1] for name in names} <= {
        "weight", "bias", "rows", "position_ids", "token_type_ids"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pairs", "values", "width"),
    [([20, 20], [9, 9], 24), ([3, 1], [0, 8], 8), ([9, 9], [24, 25], 32), ([30, 2], [1, 1], 30)],
)
def test_heads_are_padded_to_eights_but_never_beyond_the_dense_one(pairs, values, width):
    size = 30 if width == 30 else 64
    widths = {"query_key": pairs, "value": values, "attention_output": 4, "intermediate": 4}
    config = ObceBertConfig(
        hidden_size=2 * size,
        num_attention_heads=2,
        num_hidden_layers=1,
        layer_widths=[widths | {"output": 4}],
    )
    assert ObceSelfAttention(config, 0).width == width


def test_a_configuration_with_a_layer_too_few_is_refused():
    config = ObceBertConfig(num_hidden_layers=2, layer_widths=[{}])
    with pytest.raises(ValueError, match="layer_widths has 1 layers, not 2"):
        ObceBertModel(config)
    assert config.num_hidden_layers == 2


# Rounded widths.


def one_layer(hidden=8, heads=2, intermediate=12, tokens=8):
    config = BertConfig(
        vocab_size=10,
        hidden_size=hidden,
        num_hidden_layers=1,
        num_attention_heads=heads,
        intermediate_size=intermediate,
        max_position_embeddings=tokens,
    )
    return BertModel(config)


def test_widths_are_rounded_by_hand():
    """Heads of 4: the 30th percentile cuts quantile 1/8, which leaves 3. Of 12 intermediate units
    it cuts 1/24 to 7/24, which leaves 8."""
    model = one_layer()
    scores = {
        (0, "value"): np.array([4, 3, 2, 1, 10, 20, 30, 40.0]),
        (0, "intermediate"): np.arange(12.0),
    }
    for multiple, value, first in (
        (1, [0, 1, 2, 5, 6, 7], 4),
        (2, [0, 1, 2, 3, 4, 5, 6, 7], 4),  # 3 is as near to 4 as to 2: up
        (3, [0, 1, 2, 5, 6, 7], 3),  # 8 is nearest to 9
        (5, [0, 1, 2, 3, 4, 5, 6, 7], 2),  # never wider than the head; 8 is nearest to 10
    ):
        kept = obce.plan(model, scores, percentile=30, multiple_of=multiple).kept
        assert kept[0, "value"].tolist() == value
        assert kept[0, "intermediate"].tolist() == list(range(first, 12))
    # The 80th leaves 1 of each head: what lives goes on living.
    kept = obce.plan(model, scores, percentile=80, multiple_of=3).kept
    assert kept[0, "value"].tolist() == [0, 1, 2, 5, 6, 7]
    kept = obce.plan(model, scores, percentile=100, multiple_of=3).kept
    assert not len(kept[0, "value"]) and not len(kept[0, "intermediate"])


@settings(max_examples=40)
@given(
    seed=st.integers(0, 99),
    multiple=st.integers(1, 9),
    percentile=st.floats(0, 100),
    heads=st.sampled_from(["equal", "free"]),
)
def test_rounded_plans_by_property(seed, multiple, percentile, heads):
    scores = random_scores(TINY, seed)
    options = {"percentile": percentile, "kinds": KINDS, "heads": heads}
    exact = obce.plan(SMALL, scores, **options)
    plan = obce.plan(SMALL, scores, **options, multiple_of=multiple)
    for layer in range(TINY.layers):
        groups = {kind: [len(plan.kept[layer, kind])] for kind in ("intermediate", "output")}
        before = {kind: [len(exact.kept[layer, kind])] for kind in groups}
        groups["value"] = plan.head_widths(layer, "value")
        before["value"] = exact.head_widths(layer, "value")
        for kind, widths in groups.items():
            full = TINY.head_size if kind == "value" else TINY.width(kind)
            for width, unrounded in zip(widths, before[kind], strict=True):
                assert width % multiple == 0 or width == full
                assert abs(width - unrounded) <= multiple / 2 or width in (multiple, full)
                assert (width > 0) == (unrounded > 0)
        # The best are kept, and what is kept by one plan or the other is comparable.
        scored = scores[layer, "intermediate"]
        gone = np.setdiff1d(np.arange(TINY.intermediate), plan.kept[layer, "intermediate"])
        stays = scored[plan.kept[layer, "intermediate"]]
        assert not len(gone) or not len(stays) or scored[gone].max() < stays.min()


def test_a_budget_that_round_heads_cannot_meet_is_refused():
    """Eight value units of all of a layer's 12 heads are 0.7 points of MiniLM's encoder."""
    with pytest.raises(ValueError, match="cannot be met .* the nearest that can are 0.90"):
        scores = random_scores(shape_of(MINILM))
        obce.plan(MINILM, scores, keep_encoder=0.9, kinds=("value",), multiple_of=8)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 9),
    multiple=st.sampled_from([8, 16]),
    fraction=st.floats(0.35, 0.95),
    heads=st.sampled_from(["equal", "free"]),
)
def test_rounded_plans_meet_the_budget_or_say_why(seed, multiple, fraction, heads):
    """MiniLM's shape, where one more place in all heads is half a point of the encoder."""
    options = {"keep_encoder": fraction, "multiple_of": multiple, "heads": heads}
    try:
        plan = obce.plan(MINILM, random_scores(shape_of(MINILM), seed), **options)
    except ValueError as error:
        assert "cannot be met" in str(error)
        assume(False)
    assert abs(plan.keep_encoder - fraction) <= 0.001
    for layer in range(6):
        assert plan.counts(layer)["intermediate"] % multiple == 0
        assert all(width % multiple == 0 for width in plan.head_widths(layer, "value"))
    assert plan.info["multiple_of"] == multiple


@pytest.mark.parametrize("multiple", [8, 16])
def test_the_usual_budget_can_be_met_in_round_widths(multiple):
    scores = random_scores(shape_of(MINILM))
    plan = obce.plan(MINILM, scores, keep_encoder=0.465, multiple_of=multiple)
    assert abs(plan.keep_encoder - 0.465) <= 0.001


def test_without_rounding_nothing_changes():
    scores = random_scores(shape_of(MINILM))
    plain = obce.plan(MINILM, scores, keep_encoder=0.465)
    same = obce.plan(MINILM, scores, keep_encoder=0.465, multiple_of=1)
    assert "multiple_of" not in plain.info
    assert all(np.array_equal(plain.kept[key], same.kept[key]) for key in plain.kept)


@pytest.mark.parametrize("kinds", [("value",), ("query", "key"), ("intermediate", "output")])
def test_rounding_with_some_kinds_only(kinds):
    options = {"kinds": kinds, "multiple_of": 8, "percentile": 40}
    plan = obce.plan(MINILM, random_scores(shape_of(MINILM)), **options)
    assert all(len(plan.kept[layer, kind]) % 8 == 0 for layer in range(6) for kind in kinds)


@pytest.mark.parametrize("multiple", [0, -8, 385, 8.0])
def test_a_multiple_out_of_range_is_refused(multiple):
    with pytest.raises(ValueError, match="a whole number from 1 to 384"):
        obce.plan(MINILM, random_scores(shape_of(MINILM)), percentile=50, multiple_of=multiple)


# The result.


def test_a_benchmark_is_a_record_and_a_table(tiny_bert, tmp_path):
    small = cut(tiny_bert, percentile=50)
    before = torch.get_num_threads()
    found = obce.benchmark(
        small, against=tiny_bert, shapes=[(1, 4), (2, 6)], threads=(1, 2), repeats=3
    )
    assert torch.get_num_threads() == before
    records.save_record(found, tmp_path / "record.json")
    assert json.loads((tmp_path / "record.json").read_text()) == found
    places = [(row["threads"], row["texts"], row["tokens"]) for row in found["rows"]]
    assert places == [(1, 1, 4), (1, 2, 6), (2, 1, 4), (2, 2, 6)]
    for row in found["rows"]:
        shape = row["texts"], row["tokens"]
        assert row["multiply_adds"] == count_multiply_adds(small, *shape)
        dense = count_multiply_adds(tiny_bert, *shape)
        assert row["multiply_add_ratio"] == dense / row["multiply_adds"] > 1
        for name in ("seconds", "against_seconds", "speed_up"):
            assert 0 < row[name]["min"] <= row[name]["median"] <= row[name]["max"]
        rate = row["multiply_adds"] / row["seconds"]["median"]
        assert row["multiply_adds_per_second"] == rate
    assert found["parameters"] == count_parameters(small)._asdict()
    assert found["against"]["parameters"] == count_parameters(tiny_bert)._asdict()
    head, *rows = str(found).splitlines()
    assert len({len(line) for line in (head, *rows[:4])}) == 1 and rows[0].startswith("1x4")
    for column in head.split("  "):  # each is explained under the table
        assert not column or column.strip(" ,ms") in "texts x tokens threads" + " ".join(rows[4:])
    assert "against, ms" in head


def test_one_model_alone(tiny_classifier):
    found = obce.benchmark(tiny_classifier.train(), shapes=[(1, 4)], repeats=1)
    assert tiny_classifier.training and "against" not in found
    assert "speed_up" not in found["rows"][0] and "against, ms" not in str(found)


def test_for_the_first_token_a_dense_model_is_timed_in_the_same_form(tiny_classifier):
    small = cut(tiny_classifier, percentile=50)
    found = obce.benchmark(
        small, against=tiny_classifier, shapes=[(2, 6)], repeats=1, first_only=True
    )
    (row,) = found["rows"]
    assert row["multiply_adds"] == count_multiply_adds(small, 2, 6, first_only=True)
    dense = count_multiply_adds(tiny_classifier, 2, 6, first_only=True)
    assert row["multiply_add_ratio"] == dense / row["multiply_adds"]
    assert dense < count_multiply_adds(tiny_classifier, 2, 6)
    alike = speed.alike(tiny_classifier)
    assert speed.alike(small) is small
    ids = torch.tensor([[101, 2023, 102]])
    with torch.no_grad():
        torch.testing.assert_close(alike(ids).logits, tiny_classifier(ids).logits)


def test_runs_take_turns():
    calls = []
    runs = {name: lambda name=name: calls.append(name) or len(calls) for name in "ab"}
    assert speed.in_turns(runs, 3) == {"a": [1, 3, 5], "b": [2, 4, 6]}
    assert calls == list("ababab")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shapes": [(0, 4)]}, "texts=0"),
        ({"shapes": [(1, 65)]}, "at most 64"),
        ({"threads": 0}, "threads=0"),
        ({"threads": (1, -1)}, "threads=-1"),
        ({"repeats": 0}, "repeats=0"),
        ({"device": "abacus"}, "unknown device"),
        ({"against": torch.nn.Linear(1, 1)}, "is no BERT"),
    ],
)
def test_bad_requests_are_refused(tiny_bert, options, message):
    with pytest.raises(ValueError, match=message):
        obce.benchmark(tiny_bert, **options)


def test_the_command(tiny_classifier, tokenizer, tmp_path):
    for name, model in (("dense", tiny_classifier), ("small", cut(tiny_classifier, level="light"))):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    arguments = ["benchmark", str(tmp_path / "small"), "--against", str(tmp_path / "dense")]
    arguments += [
        "--shapes",
        "1x4,2x8",
        "--threads",
        "1",
        "--repeats",
        "2",
        "--quiet",
        "--first-only",
    ]
    arguments += ["--out", str(tmp_path / "record.json")]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    assert "expected: how many times fewer multiply-adds" in done.output
    record = records.load_record(tmp_path / "record.json")
    assert [row["tokens"] for row in record["rows"]] == [4, 8]


@pytest.mark.parametrize("option", [["--shapes", "8"], ["--threads", "a"], ["--shapes", "8x-1"]])
def test_the_command_refuses_what_is_no_number(option):
    done = CliRunner().invoke(cli.app, ["benchmark", "embedded", *option])
    assert isinstance(done.exception, ValueError) and "give" in str(done.exception)


def test_a_classifier_is_compressed_as_its_encoder(tiny_config):
    """Loading, cutting and timing work on the same widths."""
    model = BertForSequenceClassification(tiny_config).eval()
    small = cut(model, percentile=50)
    assert count_multiply_adds(small) < count_multiply_adds(model)
