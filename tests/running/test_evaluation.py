"""Predictions, the record and its file, hashes, timings."""

import json
import os
import shutil
import subprocess
from importlib import metadata

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load, save_file
from transformers import BertForSequenceClassification

from obce import tasks
from obce.base import devices
from obce.running import evaluation, loading, records, rows, speed, training


@pytest.fixture
def pairs(sentences):
    """Thirty pairs with MNLI's three labels."""
    columns = {"sentence1": sentences[:30], "sentence2": sentences[::-1][:30]}
    return Dataset.from_dict(columns | {"label": [0, 1, 2] * 10})


# Predictions


def test_logits_are_those_of_one_row_at_a_time_in_order(tiny_classifier, tokenizer, pairs):
    logits = evaluation.predict(tiny_classifier, tokenizer, pairs, batch_size=7, progress=False)
    assert logits.dtype == np.float32 and logits.shape == (30, 3)
    with torch.no_grad():
        for row, pair in zip(logits, pairs, strict=True):
            text = tokenizer(pair["sentence1"], pair["sentence2"], return_tensors="pt")
            expected = tiny_classifier(**text).logits[0]
            torch.testing.assert_close(torch.tensor(row), expected, rtol=1e-4, atol=1e-4)


def test_model_is_left_as_it_was(tiny_classifier, tokenizer, pairs):
    tiny_classifier.train()
    tiny_classifier.bert.encoder.layer[1].eval()
    before = [module.training for module in tiny_classifier.modules()]
    first = evaluation.predict(tiny_classifier, tokenizer, pairs, progress=False)
    assert [module.training for module in tiny_classifier.modules()] == before
    second = evaluation.predict(tiny_classifier, tokenizer, pairs, progress=False)
    assert np.array_equal(first, second)  # no dropout
    tiny_classifier(**tokenizer("still trains", return_tensors="pt")).logits.sum().backward()


def test_texts_longer_than_the_model_are_cut(tiny_classifier, tokenizer):
    words = [f"{word} " * 300 for word in ("sun", "moon")]
    data = Dataset.from_dict({"sentence": words})
    assert evaluation.predict(tiny_classifier, tokenizer, data, progress=False).shape == (2, 3)
    with pytest.raises(ValueError, match="max_length=200: this model takes 3 to 64 tokens"):
        evaluation.predict(tiny_classifier, tokenizer, data, max_length=200)


def test_blocks_of_rows_make_no_difference(tiny_classifier, tokenizer, pairs, monkeypatch):
    whole = evaluation.predict(tiny_classifier, tokenizer, pairs, progress=False)
    monkeypatch.setattr(rows, "BLOCK", 7)
    parts = evaluation.predict(tiny_classifier, tokenizer, pairs, progress=False)
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5)


def test_remarks_on_what_should_not_be_overlooked(tiny_classifier, tokenizer):
    def remarks(rows):
        task = tasks.own_task(Dataset.from_list(rows), labels=("a", "b", "c"))
        tiny_classifier.config.id2label = dict(enumerate(task.labels))
        task.data["dev"] = task.data["train"]
        task.rows["dev"] = len(rows)
        record = evaluation.evaluate(tiny_classifier, tokenizer, task, progress=False)
        return record.get("remarks", [])

    torch.nn.init.zeros_(tiny_classifier.classifier.weight)
    tiny_classifier.classifier.bias.data = torch.tensor([0.0, 1.0, 0.0])  # always b
    found = remarks([{"text": "fine", "label": label} for label in "aaabc"])
    assert found[0] == "every row gets the same answer, 'b'"
    assert (
        "20.0% of the answers are right, and always answering 'a' would be right in 60.0%"
        in (found[1])
    )
    found = remarks([{"text": "☃ ☃ ☃", "label": label} for label in "bba"])
    assert "the tokenizer does not know most of the words" in found[0]
    torch.manual_seed(0)
    torch.nn.init.normal_(tiny_classifier.classifier.weight)
    torch.nn.init.zeros_(tiny_classifier.classifier.bias)
    texts = ["fine", "a bad film", "good", "dull and long", "the end", "moving story"]
    rows = Dataset.from_dict({"sentence": texts})
    logits = evaluation.predict(tiny_classifier, tokenizer, rows, progress=False)
    tiny_classifier.classifier.bias.data = -torch.from_numpy(logits.mean(0))
    answers = evaluation.predict(tiny_classifier, tokenizer, rows, progress=False).argmax(1)
    right = [{"text": t, "label": "abc"[i]} for t, i in zip(texts, answers, strict=True)]
    assert len(set(answers)) > 1 and remarks(right) == []


def test_bad_arguments(tiny_classifier, tokenizer, pairs):
    with pytest.raises(ValueError, match="batch_size=0: it must be above 0"):
        evaluation.predict(tiny_classifier, tokenizer, pairs, batch_size=0)
    with pytest.raises(ValueError, match="empty"):
        evaluation.predict(tiny_classifier, tokenizer, pairs.select([]))
    with pytest.raises(ValueError, match="unknown device 'tpu'"):
        evaluation.predict(tiny_classifier, tokenizer, pairs, device="tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_cuda_where_there_is_none():
    assert devices.pick_device("auto").type == "cpu"
    with pytest.raises(ValueError, match="PyTorch sees no CUDA GPU here"):
        devices.pick_device("cuda")


# The record


def test_record(tiny_classifier, tokenizer, pairs):
    tiny_classifier.config.name_or_path = "someone/tiny"
    record = evaluation.evaluate(
        tiny_classifier, tokenizer, "mnli", dataset=pairs, seed=3, progress=False, device="cpu",
        context={"steps": ["dense"], "score": "merge_radius"},
    )  # fmt: skip
    logits = evaluation.predict(tiny_classifier, tokenizer, pairs, progress=False)
    accuracy = float(np.mean(logits.argmax(1) == np.array(pairs["label"])))
    expected = {
        "model": "someone/tiny", "steps": ["dense"], "score": "merge_radius", "task": "mnli",
        "split": "dev", "metric": "accuracy", "value": accuracy, "metrics": {"accuracy": accuracy},
        "rows_used": 30, "rows_official": 9815, "complete": False, "seed": 3, "max_length": 64,
        "batch_size": 32, "device": "cpu", "data_sha256": tasks.data_sha256(pairs),
        "model_sha256": records.model_sha256(tiny_classifier),
    }  # fmt: skip
    assert {key: record[key] for key in expected} == expected
    total = sum(p.numel() for p in tiny_classifier.parameters())
    encoder = sum(p.numel() for p in tiny_classifier.bert.encoder.parameters())
    assert record["parameters"] == {"total": total, "encoder": encoder}
    environment = record["environment"]
    assert environment["versions"]["torch"] == metadata.version("torch")
    assert environment["threads"] == torch.get_num_threads()
    assert environment["cpu"] and record["seconds"] > 0 and record["date"].endswith("+00:00")
    assert json.loads(json.dumps(record)) == record


def test_limited_record_says_so(tiny_config, tokenizer):
    model = BertForSequenceClassification(tiny_config)
    options = {"progress": False, "seed": 5}
    few = evaluation.evaluate(model, tokenizer, "mini-sentiment", limit=20, **options)
    every = evaluation.evaluate(model, tokenizer, "mini-sentiment", **options)
    assert (few["rows_used"], few["complete"]) == (20, False)
    assert (every["rows_used"], every["complete"]) == (every["rows_official"], True)
    assert few["data_sha256"] == tasks.data_sha256(
        tasks.load("mini-sentiment", "dev", limit=20, seed=5)
    )


def test_regression_record(tiny_config, tokenizer, pairs):
    tiny_config.num_labels = 1
    model = BertForSequenceClassification(tiny_config)
    scores = pairs.remove_columns("label").add_column("label", list(np.linspace(0, 5, 30)))
    record = evaluation.evaluate(model, tokenizer, "stsb", dataset=scores, progress=False)
    assert list(record["metrics"]) == ["pearson", "spearmanr"]
    logits = evaluation.predict(model, tokenizer, scores, progress=False)[:, 0]
    assert record["value"] == pytest.approx(np.corrcoef(logits, scores["label"])[0, 1], abs=1e-6)


def test_record_names_no_disk(tiny_classifier, tokenizer, pairs, tmp_path):
    folder = tmp_path / "my-model"
    tiny_classifier.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model = BertForSequenceClassification.from_pretrained(folder)
    record = evaluation.evaluate(model, tokenizer, "mnli", dataset=pairs, progress=False)
    assert record["model"] == "my-model"
    assert str(tmp_path) not in json.dumps(record)


def test_refused_evaluations(tiny_classifier, tokenizer, pairs):
    def evaluate(task="mnli", dataset=pairs, **more):
        evaluation.evaluate(tiny_classifier, tokenizer, task, dataset=dataset, **more)

    with pytest.raises(ValueError, match="the model has 3 labels, task rte has 2"):
        evaluate("rte")
    with pytest.raises(ValueError, match="the dev split of mnli has no labels"):
        evaluate(dataset=pairs.remove_columns("label"))
    with pytest.raises(ValueError, match="may not overwrite what is measured: value"):
        evaluate(context={"value": 1.0}, progress=False)
    tiny_classifier.classifier.bias.data[0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        evaluate(progress=False)


def test_git_commit_is_that_of_the_package(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        command = ["git", *identity, *arguments]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    monkeypatch.setattr(records, "__file__", str(tmp_path / "records.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert records.environment()["git_commit"] is None
    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-q", "--no-verify", "-m", "one")
    commit = git("rev-parse", "HEAD")
    assert records.environment()["git_commit"] == commit
    (tmp_path / "file").write_text("2")
    assert records.environment()["git_commit"] == commit + "-dirty"
    monkeypatch.setenv("PATH", str(tmp_path))  # no git there
    assert records.environment()["git_commit"] is None


# Its file


def test_record_file(tmp_path):
    path = tmp_path / "results" / "one.json"
    record = {"value": 0.5, "größe": [1, 2], "a": {"b": None}}
    records.save_record(record, path)
    assert path.read_text(encoding="utf-8").startswith('{\n "a": {\n  "b": null\n },\n "größe"')
    assert records.load_record(path) == record
    assert os.listdir(path.parent) == ["one.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32(1), {1}])
def test_what_is_no_json_leaves_the_old_record(tmp_path, value):
    path = tmp_path / "one.json"
    records.save_record({"value": 1}, path)
    with pytest.raises(ValueError, match="the record one.json cannot be written as JSON"):
        records.save_record({"value": value}, path)
    assert records.load_record(path) == {"value": 1}


def test_interrupted_write_leaves_the_old_record(tmp_path, monkeypatch):
    path = tmp_path / "one.json"
    records.save_record({"value": 1}, path)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        records.save_record({"value": 2}, path)
    assert records.load_record(path) == {"value": 1}
    assert os.listdir(tmp_path) == ["one.json"]


def test_records_that_are_none(tmp_path):
    path = tmp_path / "one.json"
    for text in (None, "", '{"value": 0.', "[1]"):
        if text is not None:
            path.write_text(text)
        with pytest.raises(ValueError, match="one.json is no record: "):
            records.load_record(path)


# Hashes


def test_model_hash_is_of_the_tensors_not_the_files(tiny_classifier, tmp_path):
    expected = records.model_sha256(tiny_classifier)
    tiny_classifier.save_pretrained(tmp_path / "one")
    tiny_classifier.save_pretrained(tmp_path / "many", max_shard_size="100kB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) == 2
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    tensors = load((tmp_path / "one" / "model.safetensors").read_bytes())
    save_file(
        dict(reversed(tensors.items())), tmp_path / "other" / "model.safetensors", {"note": "x"}
    )
    for name in ("one", "many", "other"):
        assert records.model_sha256(tmp_path / name) == expected
    with pytest.raises(ValueError, match="holds no weights in safetensors files"):
        records.model_sha256(tmp_path)


def test_model_hash_sees_values_names_shapes_and_types():
    def linear(change=None, rows=2, dtype=torch.float32):
        model = torch.nn.Linear(6 // rows, rows, bias=False, dtype=dtype)
        model.weight.data = torch.arange(6).reshape(rows, -1).to(dtype)
        if change:
            model.weight.data[change] += 1e-6
        return model

    empty = linear()
    empty.weight.data = torch.zeros(2, 0)
    models = [
        linear(), linear(change=(0, 0)), linear(rows=3), linear(dtype=torch.bfloat16),
        torch.nn.Sequential(linear()), linear(rows=1), empty,
    ]  # fmt: skip
    hashes = [records.model_sha256(model) for model in models]
    assert len(set(hashes)) == len(models)
    assert records.model_sha256(linear()) == hashes[0]


# Timing


def test_time_per_1000(tiny_classifier, tokenizer, sentences, monkeypatch):
    clock = iter([0.0, 9.0, 10.0, 10.4, 20.0, 20.2, 30.0, 31.0])  # 9 s: the untimed batch
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    found = speed.time_per_1000(tiny_classifier, tokenizer, sentences, batch_size=16, device="cpu")
    assert found == {
        "median": pytest.approx(10.0), "min": pytest.approx(5.0), "max": pytest.approx(25.0),
        "repeats": 3, "texts": 40, "batch_size": 16, "device": "cpu",
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    with pytest.raises(ValueError, match="repeats=0: it must be above 0"):
        speed.time_per_1000(tiny_classifier, tokenizer, sentences, repeats=0)


# The real model


def praise_and_blame(good, bad):
    frames = ["the film was {}", "what a {} story", "{} acting and a {} plot", "i found it {}"]
    rows = [(f.replace("{}", word), int(word in good)) for f in frames for word in good + bad]
    return Dataset.from_dict({"sentence": [r[0] for r in rows], "label": [r[1] for r in rows]})


def test_embedded_model_learns_and_the_record_fits_the_saved_folder(tmp_path):
    train = praise_and_blame(
        ["good", "great", "lovely", "superb", "moving", "happy", "brilliant", "fun"],
        ["bad", "awful", "boring", "dull", "terrible", "weak", "sad", "stupid"],
    )
    unseen = praise_and_blame(["excellent", "wonderful", "nice"], ["horrible", "poor", "dreadful"])
    model, tokenizer, fine_tuned = loading.load_classifier("embedded", "sst2")
    assert not fine_tuned
    training.finetune(
        model, tokenizer, "sst2", train=train, output_dir=tmp_path, epochs=4, batch_size=16,
        learning_rate=3e-4, progress=False,
    )  # fmt: skip
    record = evaluation.evaluate(model, tokenizer, "sst2", dataset=unseen, progress=False)
    assert record["value"] > 0.8
    loaded = loading.load_classifier(tmp_path, "sst2")
    assert loaded.fine_tuned
    again = evaluation.evaluate(*loaded[:2], "sst2", dataset=unseen, progress=False)
    for varying in ("seconds", "date", "model"):
        del record[varying], again[varying]
    assert record == again
    assert record["model_sha256"] == records.model_sha256(tmp_path)


def test_records_come_with_the_project():
    record = records.recorded("compress_sst2")
    assert record["task"] == "sst2"
    with pytest.raises(ValueError, match="no record 'compress_x'; there are .*bench_an.*sst2"):
        records.recorded("compress_x")
