"""The compressed model is a transformers model like any other, with obce and without."""

import ast
import copy
import inspect
import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from huggingface_hub import HfApi, ModelCard
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    Trainer,
    TrainingArguments,
    pipeline,
)
from transformers.utils import logging as transformers_logging

import obce
from obce.modeling import AUTO_CLASSES, ObceBertConfig, ObceBertModel, ResidualLinear
from obce.units import KINDS, Shape, count_parameters

TINY = Shape(layers=3, hidden=24, heads=4, intermediate=40)  # conftest's tiny_config
KEPT = {(i, kind): [*range(TINY.width(kind))] for i in range(3) for kind in KINDS} | {
    (0, "query"): [0, 7, 8, 20],  # heads of 1, 2, 0 and 1 pairs
    (0, "key"): [0, 7, 8, 20],
    (0, "value"): [*range(4, 20)],  # of 2, 6, 6 and 2 values
    (0, "attention_output"): [*range(1, 24, 2)],
    (0, "intermediate"): [],  # no feed-forward
    (1, "value"): [],  # no attention
    (1, "output"): [*range(20)],
    (2, "value"): [*range(12)],  # half the heads
    (2, "intermediate"): [*range(5, 30)],
}


@pytest.fixture
def small(tiny_classifier):
    """A compressed classifier, cut unevenly, one attention and one feed-forward gone."""
    tiny_classifier.config.id2label = {0: "bad", 1: "so-so", 2: "good"}
    tiny_classifier.config.label2id = {"bad": 0, "so-so": 1, "good": 2}
    return obce.compress(tiny_classifier, obce.Plan(TINY, KEPT, count_parameters(tiny_classifier)))


@pytest.fixture
def folder(small, tokenizer, tmp_path):
    """``small``, saved with its tokenizer."""
    path = tmp_path / "compressed"
    small.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def inputs(tokenizer, sentences):
    return tokenizer(sentences[:4], padding=True, return_tensors="pt")


@pytest.fixture
def messages(caplog):
    """What transformers logs, from warnings up."""
    transformers_logging.enable_propagation()
    caplog.set_level(logging.WARNING)
    yield caplog.messages
    transformers_logging.disable_propagation()


def logits(model, inputs):
    with torch.no_grad():
        return model.eval()(**inputs).logits


# On disk.


def test_the_folder_holds_safetensors_json_and_one_module(folder):
    names = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "config.json", "modeling.py", "tokenizer.json"} <= names
    assert {Path(name).suffix for name in names} <= {".safetensors", ".json", ".py", ".txt"}
    assert (folder / "modeling.py").read_text() == Path(obce.modeling.__file__).read_text()


def test_the_module_imports_torch_and_transformers_only():
    tree = ast.parse(Path(obce.modeling.__file__).read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in [getattr(node, "module", None) or node.names[0].name]
    }
    assert imported - set(sys.stdlib_module_names) == {"torch", "transformers"}


def test_the_configuration_tells_the_structure(folder):
    data = json.loads((folder / "config.json").read_text())
    assert data["model_type"] == "obce_bert"
    assert data["auto_map"] == {"AutoConfig": "modeling.ObceBertConfig"} | {
        auto: f"modeling.{cls.__name__}" for auto, cls in AUTO_CLASSES.items()
    }
    assert data["layer_widths"][0] == {
        "query_key": [1, 2, 0, 1],
        "value": [2, 6, 6, 2],
        "attention_output": 12,
        "intermediate": 0,
        "output": 24,
    }
    config = AutoConfig.from_pretrained(folder)
    assert type(config) is ObceBertConfig and config.layer_widths == data["layer_widths"]
    assert config.id2label == {0: "bad", 1: "so-so", 2: "good"}


def test_loading_is_silent_and_exact(small, folder, inputs, messages):
    loaded, report = AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert type(loaded) is type(small) and not any(report.values()) and not messages
    torch.testing.assert_close(logits(loaded, inputs), logits(small, inputs))
    for name, tensor in small.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_the_encoder_alone_loads_as_automodel(small, folder, inputs):
    encoder = AutoModel.from_pretrained(folder)
    assert type(encoder) is ObceBertModel
    with torch.no_grad():
        torch.testing.assert_close(encoder(**inputs)[0], small.bert(**inputs)[0])


def test_saving_twice_and_over_itself(folder, inputs, tmp_path):
    loaded = AutoModelForSequenceClassification.from_pretrained(folder)
    expected = logits(loaded, inputs)
    for target in (folder, tmp_path / "again"):
        loaded.save_pretrained(target)
        again = AutoModelForSequenceClassification.from_pretrained(target)
        torch.testing.assert_close(logits(again, inputs), expected)
        assert (target / "modeling.py").exists()


def test_push_to_hub_pushes_the_module_too(small, monkeypatch):
    """No network: the commit is caught on its way out."""
    pushed = {}

    def commit(api, operations, **_):
        pushed.update(
            {o.path_in_repo: Path(o.path_or_fileobj).read_text("latin") for o in operations}
        )

    monkeypatch.setattr(HfApi, "create_repo", lambda api, name, **_: SimpleNamespace(repo_id=name))
    monkeypatch.setattr(HfApi, "create_commit", commit)
    monkeypatch.setattr(ModelCard, "load", lambda *_, **__: ModelCard("A smaller BERT."))
    small.push_to_hub("someone/smaller")
    assert {"model.safetensors", "README.md"} <= pushed.keys()
    assert pushed["modeling.py"] == Path(obce.modeling.__file__).read_text("latin")
    assert "AutoModelForMaskedLM" in json.loads(pushed["config.json"])["auto_map"]


# Without obce.

CLEAN = '''
import builtins, json, sys

class NoObce:
    """Even an installed obce cannot be imported."""
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "obce":
            raise ModuleNotFoundError("no obce here")

sys.meta_path.insert(0, NoObce())
from transformers import (
    AutoModelForSequenceClassification, AutoTokenizer, BertTokenizer, logging, pipeline
)

folder, again, text = sys.argv[1:]
found = {}
asked = []
builtins.input = lambda question: asked.append(question) or "n"
logging.set_verbosity_error()  # it warns that it does without the configuration
found["tokens"] = [cls.from_pretrained(folder)(text)["input_ids"]
                   for cls in (BertTokenizer, AutoTokenizer) if not asked]
found["asked"] = len(asked)
logging.set_verbosity_warning()
try:
    AutoModelForSequenceClassification.from_pretrained(folder)
except ValueError as error:
    found["refusal"] = str(error)
trusted = {"trust_remote_code": True}
tokenizer = AutoTokenizer.from_pretrained(folder, **trusted)
model, report = AutoModelForSequenceClassification.from_pretrained(
    folder, output_loading_info=True, **trusted
)
found["class"] = type(model).__name__
found["report"] = [*map(list, report.values())]
found["logits"] = model(**tokenizer(text, return_tensors="pt")).logits[0].tolist()
found["pipeline"] = pipeline("text-classification", model=folder, **trusted)(text)[0]["label"]
model.save_pretrained(again)
model = AutoModelForSequenceClassification.from_pretrained(again, **trusted)
found["again"] = model(**tokenizer(text, return_tensors="pt")).logits[0].tolist()
found["obce"] = [name for name in sys.modules if name.split(".")[0] == "obce"]
print(json.dumps(found))
'''


def test_a_clean_interpreter_needs_trust_but_no_obce(small, folder, tokenizer, tmp_path):
    """One interpreter for all of it, since starting one takes seconds."""
    text, again = "A moving, marvellous film.", tmp_path / "again"
    run = subprocess.run(
        [sys.executable, "-I", "-c", CLEAN, folder, again, text],
        cwd=tmp_path,
        env={
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "HF_HUB_OFFLINE": "1",
            "HF_MODULES_CACHE": str(tmp_path / "modules"),
        },
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["obce"] == []
    # As the card says: AutoTokenizer asks, and does without the code; its class does not ask.
    assert found["tokens"] == [tokenizer(text)["input_ids"]] * 2 and found["asked"] == 1
    assert "trust_remote_code=True" in found["refusal"]
    assert found["class"] == "ObceBertForSequenceClassification"
    assert not any(found["report"])
    expected = logits(small, tokenizer(text, return_tensors="pt"))[0]
    torch.testing.assert_close(torch.tensor(found["logits"]), expected)
    assert found["pipeline"] == small.config.id2label[expected.argmax().item()]
    assert not any(word in run.stderr for word in ("newly initialized", "not supported", "REPORT"))

    # What was saved from there is as complete, and obce reads it.
    assert found["again"] == found["logits"]
    for name in ("modeling.py", "config.json"):
        assert (again / name).read_text() == (folder / name).read_text()
    loaded = AutoModelForSequenceClassification.from_pretrained(again)
    assert type(loaded) is type(small)
    torch.testing.assert_close(logits(loaded, tokenizer(text, return_tensors="pt"))[0], expected)


# In use.


def test_pipeline_takes_the_model_and_the_folder(small, folder, tokenizer, messages):
    text = "A moving, marvellous film."
    expected = logits(small, tokenizer(text, return_tensors="pt"))[0].softmax(-1)
    for classify in (
        pipeline("text-classification", model=small, tokenizer=tokenizer),
        pipeline("text-classification", model=str(folder)),
    ):
        found = {entry["label"]: entry["score"] for entry in classify(text, top_k=None)}
        for label, probability in zip(("bad", "so-so", "good"), expected, strict=True):
            assert found[label] == pytest.approx(probability.item(), abs=1e-5)
    assert not [message for message in messages if "not supported" in message]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_padding_is_not_seen(small, tokenizer, inputs, attention):
    small.set_attn_implementation(attention)
    together = logits(small, inputs)
    noisy = dict(inputs)
    noisy["input_ids"] = inputs["input_ids"].where(inputs["attention_mask"] == 1, 1234)
    torch.testing.assert_close(logits(small, noisy), together)
    for i, length in enumerate(inputs["attention_mask"].sum(1)):
        alone = {name: tensor[i : i + 1, :length] for name, tensor in inputs.items()}
        torch.testing.assert_close(logits(small, alone)[0], together[i], rtol=1e-4, atol=1e-5)


def test_hidden_states_and_attentions(small, inputs):
    small.set_attn_implementation("eager")
    with torch.no_grad():
        out = small(**inputs, output_hidden_states=True, output_attentions=True)
    texts, tokens = inputs["input_ids"].shape
    assert [tuple(state.shape) for state in out.hidden_states] == [(texts, tokens, 24)] * 4
    # One entry per layer, one map per head that has values: 4, none and 2.
    assert [tuple(a.shape) for a in out.attentions] == [
        (texts, heads, tokens, tokens) for heads in (4, 0, 2)
    ]
    attended = out.attentions[0].sum(-1)
    torch.testing.assert_close(attended, torch.ones_like(attended))
    # Head 2 of layer 0 has no query-key pairs: it attends to all real tokens alike.
    real = inputs["attention_mask"] / inputs["attention_mask"].sum(1, keepdim=True)
    expected = real[:, None].expand(texts, tokens, tokens)
    torch.testing.assert_close(out.attentions[0][:, 2], expected)


# The last layer for the first token alone. That the logits are the dense model's for any plan,
# test_surgery.py shows; here, where less is computed, and where it is not.


def seen_by(module):
    """The shapes that a module gives, in a list that grows with every pass."""
    shapes = []
    module.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape)))
    return shapes


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_a_classifiers_last_layer_is_for_the_first_token(
    tiny_classifier, small, inputs, attention, padded, whole
):
    """The same logits, and the same gradients, as with all tokens, whatever was cut."""
    model = obce.cut(tiny_classifier, obce.Plan.whole(tiny_classifier)) if whole else small
    model.set_attn_implementation(attention)
    if not padded:
        inputs = {name: tensor[:, :5] for name, tensor in inputs.items()}
        del inputs["attention_mask"]
    texts, tokens = inputs["input_ids"].shape
    layers = [seen_by(layer) for layer in model.bert.encoder.layer]
    found = model(**inputs).logits
    found.square().sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    expected = model.classifier(model.bert(**inputs).pooler_output)  # all tokens
    expected.square().sum().backward()
    one, every = (texts, 1, 24), (texts, tokens, 24)
    assert layers == [[every, every], [every, every], [one, every]]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for name, parameter in model.named_parameters():
        scale = parameter.grad.abs().max().item() if parameter.numel() else 1.0
        torch.testing.assert_close(
            gradients[name], parameter.grad, rtol=1e-4, atol=1e-5 * scale + 1e-6
        )


def test_whoever_asks_for_more_gets_every_token(small, inputs):
    expected = logits(small, inputs)
    every = (*inputs["input_ids"].shape, 24)
    last = seen_by(small.bert.encoder.layer[-1])
    small.set_attn_implementation("eager")
    for more in ({"output_hidden_states": True}, {"output_attentions": True}):
        torch.testing.assert_close(small(**inputs, **more).logits, expected)
    small.config.output_hidden_states = True
    torch.testing.assert_close(small(**inputs).logits, expected)
    assert last == [every] * 3


@pytest.mark.parametrize("auto", AUTO_CLASSES)
def test_heads_of_tokens_keep_all_of_them(tiny_config, auto):
    name = AUTO_CLASSES[auto].__name__.removeprefix("Obce")
    dense = getattr(transformers, name)(tiny_config).eval()
    model = obce.cut(dense, obce.Plan.whole(dense))
    bert = model if auto == "AutoModel" else model.bert
    last = seen_by(bert.encoder.layer[-1])
    ids = torch.tensor([[101, 2023, 2003, 102]])
    model(ids[None] if "MultipleChoice" in auto else ids)
    pooled = ("SequenceClassification", "MultipleChoice", "NextSentencePrediction")
    assert last == [(1, 1 if auto.endswith(pooled) else 4, 24)]
    assert inspect.signature(model.forward) == inspect.signature(dense.forward)


def test_half_precision_keeps_row_numbers_whole(small, folder, inputs):
    expected = logits(small, inputs)
    for dtype in (torch.bfloat16, torch.float16):
        converted = copy.deepcopy(small).to(dtype)
        loaded = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype)
        for model in (converted, loaded):
            rows = [m.rows for m in model.modules() if isinstance(m, ResidualLinear)]
            assert len(rows) == 4 and {r.dtype for r in rows} == {torch.int64}
            found = logits(model, inputs)
            assert found.dtype == dtype
            torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(logits(small, inputs).float(), expected, rtol=0.1, atol=0.2)


def test_copies_and_state_dicts(small, inputs):
    expected = logits(small, inputs)
    fresh = type(small)(small.config)
    assert not torch.allclose(logits(fresh, inputs), expected)
    fresh.load_state_dict(small.state_dict())
    for model in (fresh, copy.deepcopy(small)):
        torch.testing.assert_close(logits(model, inputs), expected)
        with torch.no_grad():
            next(model.parameters()).zero_()
    torch.testing.assert_close(logits(small, inputs), expected)


def test_a_configuration_without_widths_is_a_dense_bert(tiny_config, tiny_bert):
    settings = tiny_config.to_dict()
    for name in ("model_type", "transformers_version"):
        settings.pop(name)
    model = ObceBertModel(ObceBertConfig(**settings)).eval()
    assert count_parameters(model) == count_parameters(tiny_bert)
    model.load_state_dict(tiny_bert.state_dict())
    ids = torch.tensor([[101, 2023, 2003, 102]])
    with torch.no_grad():
        torch.testing.assert_close(model(ids)[0], tiny_bert(ids)[0])


def test_a_decoder_is_refused(small):
    small.config.is_decoder = True
    with pytest.raises(ValueError, match="is_decoder is not supported"):
        type(small)(small.config)


# In training.


def test_gradients_reach_every_parameter(small, inputs):
    for attention in ("eager", "sdpa"):
        small.set_attn_implementation(attention)
        small.zero_grad()
        small(**inputs, labels=torch.tensor([0, 1, 2, 0])).loss.backward()
        for name, parameter in small.named_parameters():
            if parameter.numel():
                assert parameter.grad is not None, name
                # What is added to all keys alike cannot matter.
                assert parameter.grad.abs().max() > 0 or name.endswith("self.key.bias"), name


def test_gradient_checkpointing_changes_nothing(small, inputs):
    results, runs = [], []
    for checkpointing in (False, True):
        model = copy.deepcopy(small).train()
        model.bert.encoder.layer[0].intermediate.register_forward_hook(lambda *_: runs.append(1))
        if checkpointing:
            # An older transformers has the old name only, a newer one warns of it.
            enable = getattr(model, "activation_checkpointing_enable", None)
            (enable or model.gradient_checkpointing_enable)()
        torch.manual_seed(0)  # of the dropout
        loss = model(**inputs, labels=torch.tensor([0, 1, 2, 0])).loss
        loss.backward()
        results.append([loss] + [p.grad for p in model.parameters() if p.numel()])
    assert len(runs) == 1 + 2  # a checkpointed layer is run again for its gradients
    for plain, checkpointed in zip(*results, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_the_trainer_trains_and_resumes(small, tokenizer, sentences, tmp_path):
    rows = [
        {**tokenizer(text), "labels": label}
        for text, label in zip(sentences, np.arange(len(sentences)) % 3, strict=True)
    ]
    start = copy.deepcopy(small)

    def trainer(model, folder):
        arguments = TrainingArguments(
            output_dir=tmp_path / folder,
            max_steps=6,
            save_steps=3,
            learning_rate=1e-3,
            per_device_train_batch_size=4,
            seed=1,
            use_cpu=True,
            dataloader_pin_memory=False,
            disable_tqdm=True,
            report_to="none",
        )
        return Trainer(model, arguments, train_dataset=rows, processing_class=tokenizer)

    trainer(small, "run").train()
    changed = [n for n, p in small.named_parameters() if not torch.equal(p, start.get_parameter(n))]
    assert len(changed) == sum(p.numel() > 0 for p in small.parameters())
    for name, buffer in small.named_buffers():
        assert torch.equal(buffer, start.get_buffer(name))

    resumed = trainer(start, "resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))
    assert resumed.state.global_step == 6
    for found, expected in zip(resumed.model.parameters(), small.parameters(), strict=True):
        torch.testing.assert_close(found, expected)

    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "checkpoint-6")
    for found, expected in zip(loaded.parameters(), small.parameters(), strict=True):
        assert torch.equal(found, expected)


# What other tools ask of it.


@pytest.mark.parametrize("kinds", [("value", "intermediate"), KINDS])
def test_dynamic_quantization_finds_every_map(tiny_classifier, inputs, kinds, tmp_path):
    """torch looks for modules whose class is exactly ``nn.Linear``."""
    scores = obce.scores.random(TINY)
    plan = obce.plan(tiny_classifier, scores, percentile=50, kinds=kinds)
    small = obce.compress(tiny_classifier, plan)
    small.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    expected = logits(small, inputs)
    for model in (small, loaded):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch has a successor in another package
            quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
        left = [name for name, module in quantized.named_modules() if isinstance(module, nn.Linear)]
        assert left == []
        maps = [m for m in quantized.modules() if isinstance(m, nn.quantized.dynamic.Linear)]
        assert len(maps) == 6 * 3 + 2  # the layers', the pooler and the classifier
        found = logits(quantized, inputs)
        assert torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] > 0.95


def test_a_new_model_starts_as_transformers_starts(small):
    """Standard deviation 0.02, biases 0, LayerNorms 1 and 0: nothing is left as torch made it."""
    torch.manual_seed(0)
    config = copy.deepcopy(small.config)
    fresh = AutoModelForSequenceClassification.from_config(config)
    drawn = []
    for name, parameter in fresh.named_parameters():
        if "LayerNorm.weight" in name:
            assert (parameter == 1).all(), name
        elif name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif ".encoder." in name:
            drawn.append(parameter.detach().flatten())
    drawn = torch.cat(drawn)
    assert len(drawn) > 2000 and abs(drawn.std() / 0.02 - 1) < 0.1 and drawn.abs().max() < 0.1
    for module in fresh.modules():  # and the rows are in their places
        if isinstance(module, ResidualLinear):
            assert module.rows.tolist() == list(range(len(module.rows)))
