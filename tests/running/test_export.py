"""Out of the framework: the ONNX file gives the model's logits, and int8 nearly so."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from conftest import make_config, with_random_weights
from transformers import BertForMultipleChoice, BertForSequenceClassification

import obce
from obce import tasks
from obce.base.devices import evaluating
from obce.running import export, speed
from obce.running.encoders import embed
from obce.running.evaluation import predict
from obce.running.export import INPUTS, OnnxClassifier, quantize, to_onnx
from obce.running.heads import HEADS
from obce.running.loading import Classifier, Loaded
from obce.running.speed import time_per_1000
from obce.units import KINDS, Shape, count_parameters, shape_of

TASK = "mini-entailment"
TINY = Shape(layers=3, hidden=24, heads=4, intermediate=40)  # conftest's tiny_config
ALL = {(i, kind): [*range(TINY.width(kind))] for i in range(3) for kind in KINDS}
PLANS = {
    "dense": None,
    # Heads alike, as by default; layer 1's attention writes a constant.
    "equal": ALL
    | {(i, "value"): [6 * h + j for h in range(4) for j in (0, 2, 5)] for i in range(3)}
    | {(i, "intermediate"): [*range(17)] for i in range(3)}
    | {(1, kind): [] for kind in ("query", "key", "attention_output")},
    "uneven": ALL
    | {
        (0, "query"): [0, 7, 8, 20],  # heads of 1, 2, 0 and 1 pairs
        (0, "key"): [0, 7, 8, 20],
        (0, "value"): [*range(4, 20)],  # of 2, 6, 6 and 2 values
        (0, "attention_output"): [*range(1, 24, 2)],  # half the residual rows
        (0, "intermediate"): [],  # no feed-forward
        (1, "value"): [],  # no attention
        (1, "output"): [*range(20)],
        (2, "value"): [*range(6), *range(12, 17)],  # two heads of four, of 6 and 5 values
        (2, "intermediate"): [*range(5, 30)],
    },
}


def build(plan):
    config = make_config()
    config.id2label = dict(enumerate(tasks.get_task(TASK).labels))
    config.label2id = {label: i for i, label in config.id2label.items()}
    model = with_random_weights(BertForSequenceClassification(config), seed=1)
    if PLANS[plan] is None:
        return model
    return obce.compress(model, obce.Plan(TINY, PLANS[plan], count_parameters(model)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def export_once(folder):
    """plan's name -> model (in training mode), file, and the difference that the check found."""

    @functools.cache
    def once(plan):
        model, path = build(plan).train(), folder / f"{plan}.onnx"
        return model, path, to_onnx(model, path)

    return once


@pytest.fixture(params=PLANS)
def exported(request, export_once):
    return export_once(request.param)


@pytest.fixture
def dense(export_once):
    return export_once("dense")[:2]


@pytest.fixture(scope="module")
def real(folder):
    """The embedded model, compressed, with a random head: model, float32 file, int8 file."""
    model, _, _ = obce.load_classifier("embedded", TASK)
    shape = shape_of(model)
    with torch.no_grad():
        model.classifier.weight *= 20  # so that logits spread like a fine-tuned model's
    kept = {(i, k): [*range(shape.width(k))] for i in range(shape.layers) for k in KINDS}
    for i in range(shape.layers):
        kept[i, "value"] = [u for u in range(shape.hidden) if u % 32 < 16]
        kept[i, "intermediate"] = [*range(560)]
    small = obce.compress(model, obce.Plan(shape, kept, count_parameters(model)))
    paths = folder / "real.onnx", folder / "real.int8.onnx"
    to_onnx(small, paths[0])
    quantize(*paths)
    return small, *paths


def batch(rows, tokens):
    """Random texts of every length up to ``tokens``, padded."""
    generator = torch.Generator().manual_seed(rows)
    ids = torch.randint(1000, 30522, (rows, tokens), generator=generator)
    lengths = torch.randint(1, tokens + 1, (rows, 1), generator=generator)
    lengths[0] = tokens
    mask = (torch.arange(tokens) < lengths).long()
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": (ids % 2) * mask}


def logits(model, inputs):
    with torch.no_grad(), evaluating(model):
        return model(**inputs).logits.numpy()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3), (7, 30), (3, 64)])
def test_onnxruntime_gives_the_same_logits(exported, shape):
    model, path, difference = exported
    session = onnxruntime.InferenceSession(path)
    inputs = batch(*shape)
    (found,) = session.run(["logits"], {name: inputs[name].numpy() for name in INPUTS})
    assert found.shape == (shape[0], 2) and found.dtype == np.float32
    np.testing.assert_allclose(found, logits(model, inputs), rtol=0, atol=1e-5)
    assert 0 <= difference < 1e-5


def test_padding_does_not_matter(exported):
    _, path, _ = exported
    inputs, classifier = batch(1, 9), OnnxClassifier(path)
    longer = {name: torch.nn.functional.pad(x, (0, 20)) for name, x in inputs.items()}
    longer["input_ids"][:, 9:] = 4321  # whatever stands there
    np.testing.assert_allclose(logits(classifier, longer), logits(classifier, inputs), atol=1e-5)


def test_the_file_is_whole_small_and_names_no_place(exported):
    model, path, _ = exported
    graph = onnx.load(path)
    onnx.checker.check_model(graph)
    assert [entry.name for entry in graph.graph.input] == list(INPUTS)
    weights = {tensor.name for tensor in graph.graph.initializer}
    assert weights and not weights & {value.name for value in graph.graph.value_info}
    axes = [d.dim_param for d in graph.graph.input[0].type.tensor_type.shape.dim]
    assert axes == ["batch", "tokens"]
    weights = 4 * count_parameters(model).total
    assert weights < path.stat().st_size < weights + 120_000
    data = path.read_bytes()
    assert os.path.dirname(obce.__file__).encode() not in data
    assert os.path.dirname(torch.__file__).encode() not in data
    assert not list(path.parent.glob(".*")) and not list(path.parent.glob("*.data"))


def test_the_model_is_left_as_it_was(export_once):
    model, _, _ = export_once("equal")
    assert all(module.training for module in model.modules())
    before = build("equal").state_dict()
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())


def test_it_is_a_classifier_like_any_other(dense, tokenizer):
    """The same functions predict with it and time it."""
    model, path = dense
    classifier = OnnxClassifier(path, threads=1)
    tasks.check_labels(TASK, classifier.config)
    dev = tasks.load(TASK, "dev", limit=20)
    options = {"batch_size": 8, "max_length": 40}
    theirs = predict(model, tokenizer, dev, progress=False, **options)
    ours = predict(classifier, tokenizer, dev, progress=False, **options)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert time_per_1000(classifier, tokenizer, tasks.texts(dev), **options)["median"] > 0
    turns = {
        "torch": Classifier(model, tokenizer, True),
        "onnx": Classifier(classifier, tokenizer, True),
    }
    assert set(speed.time_side_by_side(turns, tasks.texts(dev), rounds=1, **options)) == {*turns}
    with pytest.raises(ValueError, match="3 to 64 tokens"):
        predict(classifier, tokenizer, dev, max_length=65)


def test_the_configuration_comes_along(exported):
    model, path, _ = exported
    config = OnnxClassifier(path).config
    assert type(config) is type(model.config)
    assert getattr(config, "layer_widths", 0) == getattr(model.config, "layer_widths", 0)


# int8.


def test_a_real_model_in_int8_is_smaller_and_close(real, tokenizer, sentences):
    model, whole, small = real
    inputs = dict(tokenizer(sentences, padding=True, return_tensors="pt"))
    expected = logits(model, inputs)
    np.testing.assert_allclose(logits(OnnxClassifier(whole), inputs), expected, atol=1e-5)
    found = logits(OnnxClassifier(small), inputs)
    assert 0 < np.abs(found - expected).max() < 0.7 * expected.std(0).min()
    correlation = [np.corrcoef(found[:, c], expected[:, c])[0, 1] for c in (0, 1)]
    assert min(correlation) > 0.98
    assert 0.25 < small.stat().st_size / whole.stat().st_size < 0.26


def test_int8_rounds_each_column_by_its_own_scale(real):
    """A column's largest weight becomes 127 or -127; none is further off than half a step."""
    model, _, path = real
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    weight = model.bert.encoder.layer[2].intermediate.dense.weight.detach().numpy().T
    bytes_ = [
        (name, x)
        for name, x in tensors.items()
        if x.dtype == np.int8 and x.shape == weight.shape and not name.startswith("model")
    ]
    off = []
    for name, quantized in bytes_:
        scale = tensors[name.replace("_quantized", "_scale")]
        assert scale.shape == (560,)
        assert (np.abs(quantized.astype(int)).max(0) == 127).all()
        off.append((np.abs(quantized * scale - weight) / scale).max())
    assert len(off) == 6 and sum(o <= 0.5001 for o in off) == 1  # one layer's is this one


def test_large_models_keep_their_weights_beside_the_file(monkeypatch, tmp_path):
    monkeypatch.setattr(export, "ONE_FILE", 1000)
    model, path = build("uneven"), tmp_path / "large.onnx"
    to_onnx(model, path)
    quantize(path, tmp_path / "large8.onnx", reduce_range=True)
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert set(sizes) == {"large.onnx", "large.onnx.data", "large8.onnx", "large8.onnx.data"}
    assert sizes["large.onnx"] < 200_000 < 2_000_000 < sizes["large.onnx.data"]
    inputs = batch(4, 12)
    expected = logits(model, inputs)
    np.testing.assert_allclose(logits(OnnxClassifier(path), inputs), expected, atol=1e-5)
    found = logits(OnnxClassifier(tmp_path / "large8.onnx"), inputs)
    assert np.abs(found - expected).max() < 0.3


# What goes wrong.


def test_a_file_with_other_logits_is_not_written(dense, tmp_path, monkeypatch):
    """As an exporter with a bug would write it: the logits of other weights."""
    model, path = dense
    target = tmp_path / "wrong.onnx"
    target.write_text("an older file")
    monkeypatch.setattr(export, "_export", lambda wrapped, part: shutil.copy(path, part))
    other = with_random_weights(BertForSequenceClassification(model.config), seed=2)
    with pytest.raises(RuntimeError, match=r"differ from PyTorch's by [\d.]+: wrong.onnx is not"):
        to_onnx(other, target)
    assert target.read_text() == "an older file" and len(list(tmp_path.iterdir())) == 1
    assert to_onnx(model, target) < 1e-5  # the same weights pass


def test_what_cannot_be_exported_is_refused(dense, tiny_config, tmp_path):
    model, _ = dense
    for no_bert in (BertForMultipleChoice(tiny_config), torch.nn.Linear(2, 2)):
        with pytest.raises(ValueError, match=f"cannot export a {type(no_bert).__name__}"):
            to_onnx(no_bert, tmp_path / "x.onnx")
    with pytest.raises(ValueError, match="torch.bfloat16: export it in float32"):
        to_onnx(build("dense").bfloat16(), tmp_path / "x.onnx")
    with pytest.raises(ValueError, match="is a folder"):
        to_onnx(model, tmp_path)
    assert not list(tmp_path.iterdir())


# Two of the heads in each run; all of them before a release.
TRIED = ("token classification", "masked words")


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(head, marks=() if head in TRIED else pytest.mark.long)
        for head in HEADS
        if head not in ("", "multiple choice")
    ],
)
def test_every_head_has_its_outputs(tiny_config, tokenizer, tmp_path, head):
    tiny_config.num_labels = {"question answering": 2}.get(head, 3)
    kind = getattr(transformers, HEADS[head].replace("AutoModel", "Bert"))
    loaded = Loaded(with_random_weights(kind(tiny_config)), tokenizer, head, None)
    record = export.export(loaded, tmp_path / "x.onnx")
    assert record["difference"] < 1e-4 and record["weights"] == "float32"
    inputs = batch(3, 9)
    with torch.no_grad():
        expected = loaded.model(**inputs)
    found = vars(OnnxClassifier(tmp_path / "x.onnx")(**inputs))
    assert list(found) == record["outputs"] == list(expected)
    for name in found:
        np.testing.assert_allclose(found[name].numpy(), expected[name].numpy(), atol=1e-4)


@pytest.mark.long
def test_a_sentence_encoder_gives_its_vectors(run, sentences, tmp_path):
    loaded = obce.load_model()
    status, printed, _ = run("export", "embedded", "--out", tmp_path / "x.onnx", "--quiet")
    assert status == 0 and "sentence_embedding" in printed
    inputs = loaded.tokenizer(sentences, padding=True, return_tensors="pt")
    found = OnnxClassifier(tmp_path / "x.onnx")(**inputs).sentence_embedding.numpy()
    np.testing.assert_allclose(found, embed(loaded, sentences), atol=1e-5)
    plain = export.export(loaded._replace(encoder=None), tmp_path / "y.onnx")
    assert plain["outputs"] == ["last_hidden_state"]


def test_token_types_and_mask_may_be_left_out(dense):
    model, path = dense
    ids = {"input_ids": batch(1, 9)["input_ids"]}
    np.testing.assert_allclose(logits(OnnxClassifier(path), ids), logits(model, ids), atol=1e-5)
    with pytest.raises(ValueError, match="needs input_ids"):
        OnnxClassifier(path)(attention_mask=ids["input_ids"])


def test_what_is_no_onnx_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        OnnxClassifier(tmp_path / "none.onnx")
    with pytest.raises(ValueError, match="threads=0: it must be above 0"):
        OnnxClassifier(tmp_path / "none.onnx", threads=0)
    (tmp_path / "torn.onnx").write_bytes(b"\x08\x0anot protobuf")
    with pytest.raises(ValueError, match="torn.onnx cannot be run as ONNX: "):
        quantize(tmp_path / "torn.onnx", tmp_path / "int8.onnx")
    one = onnx.helper.make_tensor_value_info("one", onnx.TensorProto.FLOAT, [1])
    same = onnx.helper.make_node("Identity", ["one"], ["same"])
    out = onnx.helper.make_tensor_value_info("same", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([same], "g", [one], [out])
    opset = onnx.helper.make_opsetid("", 20)
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10),
        tmp_path / "foreign.onnx",
    )
    with pytest.raises(ValueError, match="foreign.onnx was not written by obce"):
        OnnxClassifier(tmp_path / "foreign.onnx")
    assert not (tmp_path / "int8.onnx").exists()


# The command line.


@pytest.fixture
def saved(tokenizer, tmp_path):
    build("equal").save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_the_command_writes_the_file_and_its_record(run, saved, tmp_path):
    out = tmp_path / "out" / "small.onnx"
    status, printed, err = run("export", saved, "--out", out, "--int8")
    assert status == 0 and "int8" in printed and "Warning" not in err
    record = json.loads((tmp_path / "out" / "small.onnx.json").read_text())
    assert record["weights"] == "int8" and record["bytes"] == out.stat().st_size
    assert record["model"] == "saved" and record["outputs"] == ["logits"]
    # What is reported is the int8 file's own distance, not the float32 file's that it came from
    inputs = export._padded_batch(make_config(), 3, 11)
    error = logits(OnnxClassifier(out), inputs) - logits(build("equal"), inputs)
    assert record["difference"] == pytest.approx(abs(error).max()) and abs(error).max() > 1e-3
    inputs = batch(3, 12)
    to_onnx(build("equal"), tmp_path / "whole.onnx")
    quantize(tmp_path / "whole.onnx", tmp_path / "int8.onnx")
    expected = logits(OnnxClassifier(tmp_path / "int8.onnx"), inputs)
    np.testing.assert_array_equal(logits(OnnxClassifier(out), inputs), expected)
    assert {path.name for path in out.parent.iterdir()} == {"small.onnx", "small.onnx.json"}


def test_without_the_extra_one_line_says_what_to_install(run, saved, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    status, _, err = run("export", saved, "--out", tmp_path / "a.onnx", "--quiet")
    assert status == 2
    assert err == "obce: not installed: onnxscript; pip install 'obce[onnx]'\n"
    assert not list(tmp_path.glob("*a.onnx*"))


def test_bad_input_is_one_line(run, saved, tmp_path):
    for model, out, says in (
        (tmp_path / "none", "a.onnx", "there is no folder"),
        (saved, "a.pt", "a.pt does not end in .onnx: name a file to write to"),
        (saved, "saved/model.safetensors/a.onnx", "exists"),
    ):
        status, _, err = run("export", model, "--out", tmp_path / out, "--quiet")
        assert status in (1, 2) and err.count("\n") == 1 and says in err
