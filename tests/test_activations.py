"""What units put out, against BERT's formulas in NumPy, and what collecting leaves behind."""

import gc
import json
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from scipy.special import erf, softmax
from transformers import BertForMaskedLM, BertForSequenceClassification, BertModel

import obce
from obce import collect, score
from obce.activations import CLOUDS, hooked
from obce.base.devices import evaluating
from obce.texts import batches, encode
from obce.units import KINDS, OUTPUTS

PAIRS = [
    ("A man is playing.", "Somebody plays."),
    ("No.", "Yes, the soup was cold and the bread was stale."),
    ("Three of the seven bridges were closed after the flood.", "Why?"),
]


def token_ids(tokenizer, text, max_length=64):
    """Token ids and segments of a text or a short pair, by the rules: [CLS] a [SEP] b [SEP]."""
    first, second = (text, None) if isinstance(text, str) else text
    parts = ["[CLS]", *tokenizer.tokenize(first)[: max_length - 2], "[SEP]"]
    segments = [0] * len(parts)
    if second is not None:
        parts += [*tokenizer.tokenize(second), "[SEP]"]
        segments += [1] * (len(parts) - len(segments))
    return tokenizer.convert_tokens_to_ids(parts), segments


def bert_by_formulas(bert, ids, segments):
    """BERT in a few matrix formulas: ``{(layer, kind): (tokens, units)}`` of one text."""
    weights = {name: p.detach().double().numpy() for name, p in bert.named_parameters()}
    heads = bert.config.num_attention_heads
    outputs = {}

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def layer_norm(x, name):
        x = x - x.mean(axis=1, keepdims=True)
        x /= np.sqrt((x**2).mean(axis=1, keepdims=True) + bert.config.layer_norm_eps)
        return x * weights[f"{name}.LayerNorm.weight"] + weights[f"{name}.LayerNorm.bias"]

    def split(x):  # (heads, tokens, head size)
        return x.reshape(len(x), heads, -1).transpose(1, 0, 2)

    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.token_type_embeddings.weight"][segments]
    x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
    x = layer_norm(x, "embeddings")
    for i in range(bert.config.num_hidden_layers):
        at = f"encoder.layer.{i}"
        q, k, v = (linear(x, f"{at}.attention.self.{name}") for name in ("query", "key", "value"))
        attention = softmax(
            split(q) @ split(k).transpose(0, 2, 1) / np.sqrt(q.shape[1] / heads), axis=2
        )
        context = (attention @ split(v)).transpose(1, 0, 2).reshape(x.shape)
        attended = linear(context, f"{at}.attention.output.dense")
        x = layer_norm(attended + x, f"{at}.attention.output")
        h = linear(x, f"{at}.intermediate.dense")
        h = h * (1 + erf(h / np.sqrt(2))) / 2  # GELU
        written = linear(h, f"{at}.output.dense")
        x = layer_norm(written + x, f"{at}.output")
        for kind, output in zip(KINDS, (q, k, v, attended, h, written), strict=True):
            outputs[i, kind] = output
    return outputs


def naive_cloud(texts, cloud):
    """The definition of a cloud, from one (counted tokens, units) array per text."""
    if cloud == "mean":
        return np.stack([text.mean(axis=0) for text in texts], axis=1)
    tokens = np.concatenate(texts)
    if cloud == "tokens":
        return np.sort(tokens.T, axis=1)
    lower_median = np.sort(tokens, axis=0)[(len(tokens) - 1) // 2]
    result = np.zeros((tokens.shape[1], len(texts), max(map(len, texts))))
    for i, text in enumerate(texts):
        result[:, i, : len(text)] = (text - lower_median).T
    return result


def assert_clouds_by_formulas(bert, tokenizer, texts, activations, max_length=64):
    encoded = [token_ids(tokenizer, text, max_length) for text in texts]
    outputs = [bert_by_formulas(bert, *text) for text in encoded]
    ids = [np.array(text[0]) for text in encoded]
    counted = [np.ones(len(i), dtype=bool) for i in ids]
    if not activations.special_tokens:
        counted = [~np.isin(i, tokenizer.all_special_ids) for i in ids]
    assert activations.counted.tolist() == [mask.sum() for mask in counted]
    for key in outputs[0]:
        tokens = [text[key][mask] for text, mask in zip(outputs, counted, strict=True)]
        for cloud in CLOUDS:
            if cloud == "cls":  # always there, whether it counts or not
                expected = np.stack([text[key][0] for text in outputs], axis=1)
            else:
                expected = naive_cloud(tokens, cloud)
            found = activations.cloud(*key, cloud)
            assert found.dtype == np.float32
            found = np.sort(found, axis=1) if cloud == "tokens" else found
            np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.fixture
def collected():
    """``collect``, closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(collect(*args, **options))


# The outputs and the clouds


@pytest.mark.parametrize("special_tokens", [True, False])
def test_every_unit_by_the_formulas(special_tokens, collected, tiny_bert, tokenizer, sentences):
    """Texts of many lengths in one corpus: no padding, no neighbour shows in the outputs."""
    found = collected(tiny_bert, tokenizer, sentences, special_tokens=special_tokens)
    assert_clouds_by_formulas(tiny_bert, tokenizer, sentences, found)
    assert len(found) == len(sentences)


def test_pairs_of_texts(collected, tiny_bert, tokenizer):
    found = collected(tiny_bert, tokenizer, PAIRS, special_tokens=False)
    assert_clouds_by_formulas(tiny_bert, tokenizer, PAIRS, found)


def test_texts_and_pairs_in_one_corpus(tokenizer):
    mixed = ["It rained.", PAIRS[0], "Stop!"]
    alone = [encode(tokenizer, [text], 64)[0] for text in mixed]
    assert encode(tokenizer, mixed, 64) == alone


def test_long_texts_are_cut(collected, tiny_bert, tokenizer, sentences):
    found = collected(tiny_bert, tokenizer, sentences, max_length=7)
    assert found.max_length == found.counted.max() == 7
    assert_clouds_by_formulas(tiny_bert, tokenizer, sentences, found, max_length=7)


def test_default_length(collected, tiny_bert, tiny_config, tokenizer):
    long = ["again " * 200, "once"]
    assert collected(tiny_bert, tokenizer, long).counted.tolist() == [64, 3]
    tiny_config.max_position_embeddings = 16
    assert collected(BertModel(tiny_config), tokenizer, long).counted.tolist() == [16, 3]


@pytest.mark.parametrize("clouds", [["tokens"], ["texts"]])
def test_medians(clouds, collected, tiny_activations, tiny_bert, tokenizer, sentences):
    """They need the outputs of all tokens, which either cloud keeps."""
    tokens = np.sort(tiny_activations.cloud(2, "output", "tokens"), axis=1)
    count = tokens.shape[1]
    assert count % 2 == 0 and count == tiny_activations.counted.sum()
    lower = tokens[:, count // 2 - 1]
    found = collected(tiny_bert, tokenizer, sentences, clouds=clouds)
    assert (found.medians(2, "output") == lower).all()


@pytest.mark.parametrize("batch_size", [1, 3])
def test_batches_do_not_show(
    batch_size, collected, tiny_activations, tiny_bert, tokenizer, sentences
):
    parts = collected(tiny_bert, tokenizer, sentences, batch_size=batch_size)
    for cloud in ("mean", "cls", "texts"):
        expected = tiny_activations.cloud(2, "intermediate", cloud)
        np.testing.assert_allclose(parts.cloud(2, "intermediate", cloud), expected, atol=2e-5)


def test_batches_hold_equally_long_texts(tokenizer, sentences):
    encodings = encode(tokenizer, sentences, 64)
    found = batches(encodings, 4)
    assert sorted(i for batch in found for i in batch) == list(range(len(sentences)))
    lengths = [{len(encodings[i]["input_ids"]) for i in batch} for batch in found]
    assert all(len(each) == 1 for each in lengths) and max(map(len, found)) == 4
    assert lengths[0] == {36}  # the largest first: what does not fit fails early


@pytest.mark.parametrize("model_class", [BertForSequenceClassification, BertForMaskedLM])
def test_a_model_around_the_bert_changes_nothing(
    model_class, collected, tiny_config, tokenizer, sentences
):
    model = model_class(tiny_config)
    outer, inner = (collected(m, tokenizer, sentences[:9]) for m in (model, model.bert))
    for layer, kind in outer.groups:
        for cloud in CLOUDS:
            assert (outer.cloud(layer, kind, cloud) == inner.cloud(layer, kind, cloud)).all()


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_constant_unit_has_merge_radius_zero(cloud, collected, tiny_bert, tokenizer, sentences):
    with torch.no_grad():
        for kind, path in OUTPUTS.items():
            path = "intermediate.dense" if kind == "intermediate" else path
            tiny_bert.encoder.layer[1].get_submodule(path).weight[3] = 0
    found = collected(tiny_bert, tokenizer, sentences)
    for (layer, kind), values in score(found, "merge_radius", cloud=cloud).items():
        constant = [3] if layer == 1 else []
        if cloud == "cls" and layer == 0 and kind in ("query", "key", "value"):
            constant = list(range(24))  # before any attention, [CLS] is the same in every text
        assert np.flatnonzero(values == 0).tolist() == constant, (layer, kind)


def test_half_precision_is_read_as_float32(collected, tiny_bert, tokenizer, sentences):
    found = collected(tiny_bert.to(torch.bfloat16), tokenizer, sentences[:3])
    assert found.cloud(0, "query", "mean").dtype == np.float32


# Parts: some layers, kinds, units, tokens


def test_some_layers_and_kinds(collected, tiny_activations, tiny_bert, tokenizer, sentences):
    some = collected(
        tiny_bert, tokenizer, sentences, layers=[2, 0], kinds=["value"], clouds=["texts"]
    )
    assert some.groups == [(2, "value"), (0, "value")]
    for key in some.groups:
        assert (some.cloud(*key, "texts") == tiny_activations.cloud(*key, "texts")).all()
    with pytest.raises(ValueError, match="layer 1, 'value' was not collected"):
        some.cloud(1, "value", "texts")
    with pytest.raises(ValueError, match="layer 0, 'key' was not collected"):
        some.cloud(0, "key", "texts")
    with pytest.raises(ValueError, match="cloud 'mean' was not collected"):
        some.cloud(0, "value", "mean")


def test_what_is_named_twice_counts_once(
    collected, tiny_activations, tiny_bert, tokenizer, sentences
):
    twice = collected(tiny_bert, tokenizer, sentences, layers=[1, 1], kinds=["key", "key"])
    assert twice.groups == [(1, "key")]
    for cloud in CLOUDS:
        assert (twice.cloud(1, "key", cloud) == tiny_activations.cloud(1, "key", cloud)).all()


@pytest.mark.parametrize("cloud", CLOUDS)
def test_some_units(cloud, tiny_activations):
    whole = tiny_activations.cloud(0, "intermediate", cloud)
    for part in (slice(5, 9), slice(-3, None), slice(7, 7)):
        assert (tiny_activations.cloud(0, "intermediate", cloud, part) == whole[part]).all()


@pytest.mark.parametrize("length", [1, 5, 36, 1000])
def test_first_tokens_of_the_texts(length, tiny_activations, sentences):
    whole = tiny_activations.cloud(0, "key", "texts")
    assert whole.shape == (24, len(sentences), 36)
    first = tiny_activations.cloud(0, "key", "texts", length=length)
    assert np.array_equal(first, whole[:, :, :length])


@pytest.mark.parametrize("cloud", CLOUDS)
def test_memory_bounds_the_chunks(cloud, collected, tiny_bert, tokenizer, sentences):
    found = collected(tiny_bert, tokenizer, sentences, memory=20_000)
    chunks = found.chunks(1, "intermediate", cloud)
    units = [unit for part in chunks for unit in range(part.start, part.stop)]
    assert units == list(range(40))
    assert all(found.cloud(1, "intermediate", cloud, part).nbytes <= 20_000 for part in chunks)
    assert (len(chunks) > 1) == (cloud in ("texts", "tokens"))


@pytest.mark.parametrize("cloud", CLOUDS)
def test_chunks_do_not_show(cloud, collected, tiny_bert, tokenizer, sentences):
    found = collected(tiny_bert, tokenizer, sentences, layers=[1], kinds=["key"])
    whole = score(found, "total_persistence", cloud=cloud)[1, "key"]
    found.memory = 1
    assert len(found.chunks(1, "key", cloud)) == 24
    parts = score(found, "total_persistence", cloud=cloud)[1, "key"]
    np.testing.assert_allclose(parts, whole, rtol=1e-6)


# What collecting leaves behind: nothing


class Broken(Exception):
    pass


@pytest.fixture(params=[Broken, KeyboardInterrupt])
def failure(request, tiny_bert, monkeypatch):
    """The exception that ``tiny_bert`` will raise in the midst of its second layer."""

    def fail(*args, **kwargs):
        raise request.param

    monkeypatch.setattr(tiny_bert.encoder.layer[1].output.dense, "forward", fail)
    return request.param


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder that takes all temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def hooks(model):
    return [hook for module in model.modules() for hook in module._forward_hooks.values()]


def test_hooks_come_off(collected, tiny_bert, tokenizer, sentences):
    seen = []
    with hooked(tiny_bert, [(0, "query"), (2, "output")], lambda key, output: seen.append(key)):
        assert len(hooks(tiny_bert)) == 3  # and one that counts
        tiny_bert(**tokenizer("Stop!", return_tensors="pt"))
    assert seen == [(0, "query"), (2, "output")]
    collected(tiny_bert, tokenizer, sentences)
    assert not hooks(tiny_bert)


def test_hooks_of_others_stay(collected, tiny_bert, tokenizer, sentences):
    calls = []
    tiny_bert.pooler.register_forward_hook(lambda *args: calls.append(args))
    collected(tiny_bert, tokenizer, sentences)
    assert len(hooks(tiny_bert)) == 1 and calls


def mixed_modes(model):
    """Training mode for every other module."""
    for i, module in enumerate(model.modules()):
        module.training = i % 2 == 0
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("size", [1, 2])
def test_chunked_feed_forward_changes_nothing(
    size, collected, tiny_activations, tiny_config, tiny_bert, tokenizer, sentences
):
    tiny_config.chunk_size_feed_forward = size
    chunked = BertModel(tiny_config).eval()
    chunked.load_state_dict(tiny_bert.state_dict())
    even = [text for text in sentences if len(tokenizer(text)["input_ids"]) % size == 0]
    inputs = tokenizer(even[0], return_tensors="pt")
    with torch.no_grad():
        expected = tiny_bert(**inputs)[0]
        torch.testing.assert_close(chunked(**inputs)[0], expected)
        found = collected(chunked, tokenizer, sentences)
        for layer, kind in found.groups:
            for cloud in CLOUDS:
                expected = tiny_activations.cloud(layer, kind, cloud)
                np.testing.assert_array_equal(found.cloud(layer, kind, cloud), expected)
        assert {layer.chunk_size_feed_forward for layer in chunked.encoder.layer} == {size}


def test_units_that_put_out_twice_or_never_are_refused(tiny_bert, tokenizer, sentences, temporary):
    first, second, _ = tiny_bert.encoder.layer
    tiny_bert.encoder.layer[1] = first
    with pytest.raises(ValueError, match="layer 0, query: these units put out 2 times in one pass"):
        obce.collect(tiny_bert, tokenizer, sentences)
    tiny_bert.encoder.layer[1] = second
    second.forward = lambda hidden, *others, **options: hidden
    for watch in (obce.collect, obce.stream):
        with pytest.raises(ValueError, match="layer 1, query: these units put out 0 times"):
            watch(tiny_bert, tokenizer, sentences)
    assert not list(temporary.iterdir()) and not hooks(tiny_bert)


def test_no_room_on_the_disk(tiny_bert, tokenizer, sentences, temporary, monkeypatch):
    """24 units of 5 kinds and 40 of one, in 3 layers, 4 bytes for each text: said beforehand."""
    free = SimpleNamespace(free=4 * 3 * 160 * len(sentences))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    obce.collect(tiny_bert, tokenizer, sentences, clouds=["mean"]).close()
    free.free -= 1
    tiny_bert.forward = None  # is not called
    message = f"the outputs over 40 texts take 0.0 GB in {re.escape(str(temporary))}, where 0.0 GB"
    with pytest.raises(ValueError, match=message):
        obce.collect(tiny_bert, tokenizer, sentences, clouds=["mean"])
    assert not list(temporary.iterdir())


def test_training_state_is_restored(collected, tiny_classifier, tokenizer, sentences):
    before = mixed_modes(tiny_classifier)
    with evaluating(tiny_classifier):
        assert not any(module.training for module in tiny_classifier.modules())
    collected(tiny_classifier, tokenizer, sentences)
    assert [module.training for module in tiny_classifier.modules()] == before


def test_dropout_is_off_and_no_gradient_is_taken(
    collected, tiny_activations, tiny_bert, tokenizer, sentences
):
    found = collected(tiny_bert.train(), tokenizer, sentences).cloud(2, "output", "mean")
    assert (found == tiny_activations.cloud(2, "output", "mean")).all()
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert all(p.requires_grad and p.grad is None for p in tiny_bert.parameters())


def test_after_an_error(failure, temporary, tiny_bert, tokenizer, sentences):
    before = mixed_modes(tiny_bert)
    with pytest.raises(failure) as raised:
        collect(tiny_bert, tokenizer, sentences)
    assert raised.traceback  # which keeps all objects alive: no file goes by chance
    assert not hooks(tiny_bert)
    assert [module.training for module in tiny_bert.modules()] == before
    assert not list(temporary.iterdir())


def test_temporary_files_go_at_close(temporary, tiny_bert, tokenizer, sentences):
    found = collect(tiny_bert, tokenizer, sentences, clouds=["mean"])
    files = list(temporary.rglob("*.float32"))
    assert len(files) == len(found.groups)
    # 4 bytes per unit and text, whatever the texts' length
    assert sum(file.stat().st_size for file in files) == 4 * len(sentences) * found.shape.units
    found.close()
    found.close()
    assert not list(temporary.iterdir())


def test_temporary_files_go_with_the_block(temporary, tiny_bert, tokenizer, sentences):
    with collect(tiny_bert, tokenizer, sentences) as found:
        assert list(temporary.iterdir())
    assert not list(temporary.iterdir())
    with pytest.raises(ValueError, match="closed"):
        found.cloud(0, "query", "mean")


def test_temporary_files_go_with_the_object(temporary, tiny_bert, tokenizer, sentences):
    """Without a warning: ``activations = obce.collect(...)`` is the common use."""
    found = collect(tiny_bert, tokenizer, sentences)
    assert list(temporary.iterdir())
    del found
    gc.collect()
    assert not list(temporary.iterdir())


MEMORY = """
import json, resource, tempfile, psutil, torch
from transformers import AutoTokenizer, BertConfig, BertModel
import obce

torch.manual_seed(0)
tokenizer = AutoTokenizer.from_pretrained({path!r})
model = BertModel(BertConfig(num_hidden_layers={layers})).eval()
texts = [f"{{i}} " + "again and " * 40 for i in range(150)]
before = psutil.Process().memory_info().rss
with obce.collect(model, tokenizer, texts, max_length=64) as activations:
    tokens = int(activations.counted.sum())
    obce.score(activations, "merge_radius", cloud="texts")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({{"tokens": tokens, "bytes": peak - before}}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
@pytest.mark.long
def test_memory_of_bert_base(model_path):
    """150 texts of 64 tokens: under 2 GB over the model's own, in a process of its own.

    All that grows with the layers is on disk: two of them took 0.37 GB, all twelve 0.45 GB.
    """
    script = MEMORY.format(path=model_path, layers=2)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    used = json.loads(done.stdout)
    assert used["tokens"] == 150 * 64
    assert used["bytes"] < 2e9


# Bad input


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "the corpus is empty"),
        (iter([]), "the corpus is empty"),
        (["alone"], "at least two texts"),
        ("It rained.", "a list of texts, not one string"),
        (["fine", None], "text 1 is neither a string nor a pair of strings: None"),
        (["fine", 7], "text 1 is neither .* 7"),
        ([("a", "b"), ("a", "b", "c")], "text 1 is neither"),
        ([("a", "b"), ("a",)], "text 1 is neither"),
        (["fine", ("a", 1)], "text 1 is neither"),
        (["fine", b"bytes"], "text 1 is neither"),
    ],
)
def test_what_is_no_corpus(texts, message, tiny_bert, tokenizer):
    with pytest.raises(ValueError, match=message):
        collect(tiny_bert, tokenizer, texts)


ROWS = Dataset.from_dict({"sentence": ["Good.", "A bad film."], "label": [1, 0]})


@pytest.mark.parametrize(
    ("texts", "columns"),
    [
        (lambda tokenizer: ROWS, "sentence, label"),
        (lambda tokenizer: ROWS[:2], "sentence, label"),
        (lambda tokenizer: DatasetDict(train=ROWS, test=ROWS), "train, test"),
        (lambda tokenizer: ROWS.to_iterable_dataset(), "sentence, label"),
        (lambda tokenizer: ROWS.to_pandas(), "sentence, label"),
        (lambda tokenizer: ROWS.data.table, "sentence, label"),
        (lambda tokenizer: tokenizer(ROWS["sentence"][:]), "input_ids, token_type_ids"),
    ],
    ids=["data set", "rows", "splits", "stream", "data frame", "table", "encoding"],
)
def test_rows_and_columns_are_no_texts(texts, columns, tiny_bert, tiny_classifier, tokenizer):
    """Iterating over them would give the names of their columns, or whole rows."""
    texts, half = texts(tokenizer), obce.plan(tiny_bert, score_of(tiny_bert), percentile=50)
    for use in (
        lambda: collect(tiny_bert, tokenizer, texts),
        lambda: obce.stream(tiny_bert, tokenizer, texts),
        lambda: obce.compress(
            tiny_bert, half, repair="least_squares", texts=texts, tokenizer=tokenizer
        ),
        lambda: score(
            None, "taylor", model=tiny_classifier, labels=[1, 0], texts=texts, tokenizer=tokenizer
        ),
    ):
        with pytest.raises(ValueError, match=f"a list of texts, not a .*columns .{columns}"):
            use()


def score_of(model):
    return score(None, "magnitude", model=model)


@pytest.mark.parametrize(
    "texts", [ROWS["sentence"], ROWS.to_pandas()["sentence"], np.array(ROWS["sentence"][:])]
)
def test_a_column_of_any_make_is_a_list_of_texts(texts, collected, tiny_bert, tokenizer):
    expected = collected(tiny_bert, tokenizer, ["Good.", "A bad film."])
    assert collected(tiny_bert, tokenizer, texts).encodings == expected.encodings


def test_a_set_has_no_order(tiny_bert, tokenizer):
    with pytest.raises(ValueError, match="not a set, which has no order"):
        collect(tiny_bert, tokenizer, {"Good.", "A bad film."})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kinds": ["query", "dense"]}, "unknown kind 'dense'; there are query, key, value"),
        ({"clouds": ["sum"]}, "unknown cloud 'sum'; there are mean, texts, tokens, cls"),
        ({"layers": [0, 3]}, "no layer 3: this model has layers 0 to 2"),
        ({"layers": [-1]}, "no layer -1"),
        ({"max_length": 65}, "max_length=65: this model takes 3 to 64 tokens"),
        ({"max_length": 2}, "max_length=2"),
        ({"max_length": 0}, "max_length=0"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_bad_arguments(arguments, message, tiny_bert, tokenizer, sentences):
    with pytest.raises(ValueError, match=message):
        collect(tiny_bert, tokenizer, sentences, **arguments)


def test_a_model_that_is_no_bert_or_compressed_already(tiny_bert, tokenizer, sentences):
    with pytest.raises(ValueError, match="Linear is no BERT"):
        collect(torch.nn.Linear(2, 2), tokenizer, sentences)
    tiny_bert.config.model_type = "obce_bert"
    with pytest.raises(ValueError, match="compressed already"):
        collect(tiny_bert, tokenizer, sentences)


def test_a_text_of_special_tokens_only(collected, tiny_bert, tokenizer):
    assert collected(tiny_bert, tokenizer, ["fine", ""]).counted.tolist() == [3, 2]
    with pytest.raises(ValueError, match="text 1 has no tokens but special ones"):
        collect(tiny_bert, tokenizer, ["fine", ""], special_tokens=False)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_not_finite(value, temporary, tiny_bert, tokenizer, sentences):
    with torch.no_grad():
        tiny_bert.encoder.layer[1].attention.self.value.bias[0] = value
    with pytest.raises(ValueError, match="layer 1, value: the model puts out values that are not"):
        collect(tiny_bert, tokenizer, sentences)
    assert not list(temporary.iterdir()) and not hooks(tiny_bert)
