"""Each score against its formula written out; one interface for all; saving and loading."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from scipy.cluster.hierarchy import linkage
from scipy.stats import entropy
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForTokenClassification,
    BertModel,
)

from obce import collect, score, scores
from obce.activations import CLOUDS
from obce.base.settings import CLOUD_SCORES, LAYER_SCORES, SCORES
from obce.scores import CLOUD_FUNCTIONS, Scores
from obce.units import KINDS, OUTPUTS

UNIT_SCORES = [name for name in SCORES if name not in LAYER_SCORES]
LABELS = [i % 3 for i in range(40)]  # of the fixture's sentences

# Scores that read clouds


def single_linkage(cloud):
    return linkage(cloud.reshape(len(cloud), -1).astype(np.float64), "single")[:, 2]


def mean_square(points):
    return (points.astype(np.float64).reshape(len(points), -1) ** 2).sum(axis=1).mean()


FORMULAS = {
    "merge_radius": lambda cloud: single_linkage(cloud).max(),
    "total_persistence": lambda cloud: single_linkage(cloud).sum(),
    "persistent_entropy": lambda cloud: entropy(single_linkage(cloud)),
    "std": lambda cloud: np.sqrt(mean_square(cloud - cloud.astype(np.float64).mean(axis=0))),
    "rms": lambda cloud: np.sqrt(mean_square(cloud)),
}


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("name", CLOUD_SCORES)
def test_formulas(name, cloud, tiny_activations):
    result = score(tiny_activations, name, cloud=cloud)
    for kind in KINDS:
        clouds = tiny_activations.cloud(1, kind, cloud)
        some = slice(None, None, 5)
        expected = [FORMULAS[name](points) for points in clouds[some]]
        np.testing.assert_allclose(result[1, kind][some], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("merge_radius", 4),
        ("total_persistence", 7),
        ("persistent_entropy", np.log(7) - (2 * np.log(2) + 4 * np.log(4)) / 7),
        ("std", np.sqrt(59 / 4 - 2.75**2)),
        ("rms", np.sqrt(59 / 4)),
    ],
)
def test_by_hand(name, value):
    """The points 0, 1, 3, 7 with the gaps 1, 2, 4; on a slanted line in the plane alike."""
    line = np.array([[0.0, 1, 3, 7]])
    assert CLOUD_FUNCTIONS[name](line) == pytest.approx([value])
    slanted = line[:, :, None] * np.array([0.6, 0.8])
    assert CLOUD_FUNCTIONS[name](slanted) == pytest.approx([value])


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 3)])
@pytest.mark.parametrize("name", ["merge_radius", "total_persistence", "persistent_entropy", "std"])
def test_constant_clouds_score_zero(name, shape):
    assert CLOUD_FUNCTIONS[name](np.full(shape, 0.25, dtype=np.float32)).tolist() == [0, 0]


def test_equal_gaps_have_the_greatest_entropy():
    even = np.arange(9.0)[None]
    assert scores.persistent_entropy(even) == pytest.approx([np.log(8)])


def test_length_shortens_the_texts(tiny_activations):
    result = score(tiny_activations, "rms", cloud="texts", length=5)
    points = tiny_activations.cloud(2, "key", "texts")[:, :, :5]
    np.testing.assert_allclose(result[2, "key"], [FORMULAS["rms"](p) for p in points], rtol=1e-5)
    assert result.info["length"] == 5


# Scores that read a random number generator, weights, gradients


def test_random_is_seeded(tiny_activations):
    first, again, other = (score(tiny_activations, "random", seed=s) for s in (1, 1, 2))
    every = np.concatenate(list(first.values()))
    assert (every == np.concatenate(list(again.values()))).all()
    assert (every != np.concatenate(list(other.values()))).mean() > 0.99
    assert 0 <= every.min() and every.max() < 1 and len(set(every)) > 0.99 * len(every)


def test_magnitude_is_the_norm_of_a_row(tiny_activations, tiny_bert):
    result = score(tiny_activations, "magnitude", model=tiny_bert)
    weights = {name: p.detach().numpy() for name, p in tiny_bert.named_parameters()}
    for (layer, kind), values in result.items():
        path = "intermediate.dense" if kind == "intermediate" else OUTPUTS[kind]
        rows = weights[f"encoder.layer.{layer}.{path}.weight"]
        assert len(values) == len(rows)
        np.testing.assert_allclose(values, np.sqrt((rows**2).sum(axis=1)), rtol=1e-6)


def loss_with_gate(model, ids, label, key, unit, gate):
    """The loss of one text when one unit's output is multiplied by ``gate`` at every token."""

    def apply(module, inputs, output):
        output = output.clone()
        output[..., unit] *= gate
        return output

    layer, kind = key
    module = model.bert.encoder.layer[layer].get_submodule(OUTPUTS[kind])
    handle = module.register_forward_hook(apply)
    with torch.no_grad():
        loss = model(input_ids=torch.tensor([ids]), labels=torch.tensor([label])).loss.item()
    handle.remove()
    return loss


def taylor_by_differences(model, activations, labels, key, unit, step=1e-5):
    """Mean over texts of |d loss / d gate|, a gate of 1 being where the unit is."""
    slopes = []
    for encoding, label in zip(activations.encodings, labels, strict=True):
        up, down = (
            loss_with_gate(model, encoding["input_ids"], label, key, unit, gate)
            for gate in (1 + step, 1 - step)
        )
        slopes.append(abs(up - down) / (2 * step))
    return np.mean(slopes)


@pytest.fixture
def few(tiny_bert, tokenizer, sentences):
    with collect(tiny_bert, tokenizer, sentences[:5], clouds=["mean"]) as activations:
        yield activations


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_taylor_is_the_slope_of_the_loss(task, tiny_classifier, few):
    labels = [0, 1, 2, 1, 0]
    if task == "regression":
        labels = [0.5, -1.0, 2.5, 0.0, 1.0]
        tiny_classifier.classifier = torch.nn.Linear(24, 1)
        tiny_classifier.config.num_labels = tiny_classifier.num_labels = 1
    model = tiny_classifier.double()
    result = score(few, "taylor", model=model, labels=labels)
    for key in few.groups:
        expected = taylor_by_differences(model, few, labels, key, unit=7)
        assert result[key][7] == pytest.approx(expected, rel=1e-5), key


@pytest.mark.parametrize(
    "head",
    [
        BertForTokenClassification,
        BertForQuestionAnswering,
        BertForMaskedLM,
        BertForMultipleChoice,
        BertForPreTraining,
    ],
)
def test_taylor_wants_one_label_per_text(head, few, tiny_config):
    with pytest.raises(ValueError, match=f"loss of one label per text, which a {head.__name__} do"):
        score(few, "taylor", model=head(tiny_config), labels=[0] * 5)


def test_taylor_of_several_labels(few, tiny_classifier):
    tiny_classifier.config.problem_type = "multi_label_classification"
    with pytest.raises(ValueError, match="which a BertFor.* with several labels per text does not"):
        score(few, "taylor", model=tiny_classifier, labels=[0] * 5)


@pytest.mark.parametrize("labels", [[[0, 1]] * 5, ["0"] * 5, [0.5] * 5, [None] * 5, [[0]] * 5])
def test_taylor_of_labels_that_are_none(labels, few, tiny_classifier):
    with pytest.raises(ValueError, match="taylor"):
        score(few, "taylor", model=tiny_classifier, labels=labels)


def test_taylor_does_not_depend_on_batches(tiny_activations, tiny_classifier):
    one, many = (
        scores.taylor(
            tiny_classifier, tiny_activations.encodings, LABELS, tiny_activations.groups, size
        )
        for size in (1, 7)
    )
    for key, values in one.items():
        np.testing.assert_allclose(values, many[key], rtol=1e-3, atol=1e-6)


def test_taylor_leaves_the_model_as_it_was(tiny_activations, tiny_classifier):
    tiny_classifier.train()
    tiny_classifier.bert.encoder.eval()
    before = [module.training for module in tiny_classifier.modules()]
    first, again = (
        score(tiny_activations, "taylor", model=tiny_classifier, labels=LABELS) for _ in range(2)
    )
    assert all((first[key] == again[key]).all() for key in first)  # no dropout
    assert [module.training for module in tiny_classifier.modules()] == before
    assert not any(module._forward_hooks for module in tiny_classifier.modules())
    assert all(p.grad is None for p in tiny_classifier.parameters())


def test_taylor_of_a_frozen_encoder(tiny_activations, tiny_classifier):
    """Whether the weights learn does not matter: the slopes are those of the outputs."""
    expected = score(tiny_activations, "taylor", model=tiny_classifier, labels=LABELS)
    tiny_classifier.bert.requires_grad_(False)
    frozen = score(tiny_activations, "taylor", model=tiny_classifier, labels=LABELS)
    for key, values in expected.items():
        np.testing.assert_allclose(frozen[key], values, rtol=1e-4)


# One interface


@pytest.mark.parametrize("name", UNIT_SCORES)
def test_every_score_gives_a_number_per_unit(name, tiny_activations, tiny_classifier):
    result = score(tiny_activations, name, model=tiny_classifier, labels=LABELS)
    assert isinstance(result, Scores) and list(result) == tiny_activations.groups
    for (_, kind), values in result.items():
        assert values.dtype == np.float32
        assert values.shape == (40 if kind == "intermediate" else 24,)
        assert np.isfinite(values).all() and (values >= 0).all() and values.max() > 0
    assert result.info["score"] == name
    reads_texts = name not in ("random", "magnitude")
    assert ("texts" in result.info) == reads_texts == (result.info.get("max_length") == 64)
    assert ("cloud" in result.info) == (name in CLOUD_SCORES)


@pytest.mark.parametrize("name", UNIT_SCORES)
def test_only_what_was_collected_is_scored(name, tiny_bert, tiny_classifier, tokenizer, sentences):
    parts = {"layers": [2], "kinds": ["output", "key"], "clouds": ["mean"]}
    with collect(tiny_bert, tokenizer, sentences, **parts) as activations:
        result = score(activations, name, model=tiny_classifier, labels=LABELS)
    assert list(result) == [(2, "output"), (2, "key")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "radius"}, "unknown score 'radius'; there are merge_radius, total_persistence"),
        ({"cloud": "sum"}, "unknown cloud 'sum'; there are mean, texts, tokens, cls"),
        ({"cloud": "texts"}, r"cloud 'texts' was not collected; there are \['mean'\]"),
        ({"name": "magnitude"}, "score 'magnitude' needs model="),
        ({"name": "taylor"}, "score 'taylor' needs model="),
        ({"name": "taylor", "model": "classifier"}, "needs labels=, one per text"),
        ({"name": "taylor", "model": "bert", "labels": [0] * 5}, "a model with a task head"),
        ({"name": "taylor", "model": "classifier", "labels": [0] * 4}, "label per text: 4 for 5"),
        ({"name": "taylor", "model": "classifier", "labels": [3] * 5}, "label"),
        ({"name": "magnitude", "model": "other"}, "the model has 1 layers.*collected: 3 layers"),
        ({"name": "magnitude", "model": torch.nn.Linear(2, 2)}, "Linear is no BERT"),
    ],
)
def test_bad_arguments(arguments, message, few, tiny_bert, tiny_classifier, tiny_config):
    other = BertModel(BertConfig(**tiny_config.to_dict() | {"num_hidden_layers": 1}))
    models = {"bert": tiny_bert, "classifier": tiny_classifier, "other": other}
    if isinstance(arguments.get("model"), str):
        arguments = arguments | {"model": models[arguments["model"]]}
    with pytest.raises(ValueError, match=message):
        score(few, **arguments)


# Files


@pytest.fixture
def saved(tiny_activations, tmp_path):
    result = score(tiny_activations, "std", cloud="cls")
    path = tmp_path / "scores.safetensors"
    result.save(path)
    return result, path


def test_round_trip(saved):
    result, path = saved
    loaded = Scores.load(path)
    assert isinstance(loaded, Scores) and loaded.keys() == result.keys()
    for key, values in loaded.items():
        assert values.dtype == np.float32 and (values == result[key]).all()
    assert loaded.info == result.info and loaded.info["cloud"] == "cls"
    assert Scores.load(str(path)).info == loaded.info
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_scores_of_ones_own_are_saved_as_they_are(tmp_path):
    """Also every second value of another array."""
    own = Scores({(11, "key"): np.arange(10, dtype=np.float32)[::2]}, {"score": "mine"})
    own.save(tmp_path / "own.safetensors")
    loaded = Scores.load(tmp_path / "own.safetensors")
    assert loaded[11, "key"].tolist() == [0, 2, 4, 6, 8]
    assert loaded.info == {"score": "mine"}


def test_a_failed_save_leaves_the_old_file(saved, monkeypatch):
    result, path = saved

    def full_disk(tensors, file, metadata):
        file.write_bytes(b"half a")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scores, "save_file", full_disk)
    before = path.read_bytes()
    with pytest.raises(OSError, match="No space left"):
        result.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("kept", [0, 5, 300, -1])
def test_a_damaged_file(kept, saved):
    path = saved[1]
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="is not a file of obce scores"):
        Scores.load(path)


VALUES = np.zeros(3, dtype=np.float32)
INFO = {"obce_scores": json.dumps({"score": "std"})}


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        ({"encoder.weight": VALUES}, None),
        ({"encoder.weight": VALUES}, {"format": "pt"}),
        ({"weight": VALUES}, INFO),
        ({"00": VALUES}, INFO),
        ({"00.dense": VALUES}, INFO),
        ({"00.query": VALUES}, {"obce_scores": "not JSON"}),
        ({"00.query": VALUES}, {"obce_scores": "5"}),
        ({"00.query": VALUES}, {"obce_scores": "[" * 100_000}),
        ({"00.query": VALUES}, {"obce_scores": '{"a": NaN}'}),
        ({"00.query": VALUES}, {"obce_scores": '{"checksum": "0", "info": {}}'}),
        ({"00.query": VALUES}, {"obce_scores": '{"info": {}}'}),
        ({"-1.query": VALUES}, INFO),
        ({"+1.query": VALUES}, INFO),
        ({"1e3.query": VALUES}, INFO),
        ({"99999999999999999999.query": VALUES}, INFO),
        ({"00.query": VALUES.astype(np.int32)}, INFO),
        ({"00.query": VALUES.astype(np.float64)}, INFO),
        ({"00.query": VALUES[None]}, INFO),
        ({"00.query": VALUES[:0]}, INFO),
        ({"00.query": VALUES * np.nan}, INFO),
        ({"00.query": VALUES + np.inf}, INFO),
    ],
)
def test_a_foreign_file(tensors, metadata, tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ValueError, match="foreign.safetensors is not a file of obce scores"):
        Scores.load(path)


def test_a_text_file_and_no_file(tmp_path):
    (tmp_path / "scores.json").write_text("{}")
    with pytest.raises(ValueError, match="scores.json is not a file of obce scores"):
        Scores.load(tmp_path / "scores.json")
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(ValueError, match=f"no scores file at {path}"):
            Scores.load(path)


def test_a_file_of_an_earlier_version_has_no_checksum(tmp_path):
    save_file({"03.value": VALUES}, tmp_path / "old.safetensors", metadata=INFO)
    loaded = Scores.load(tmp_path / "old.safetensors")
    assert loaded[3, "value"].tolist() == [0, 0, 0] and loaded.info == {"score": "std"}


def test_of_many_mutated_files_none_is_taken_for_other_scores(mutations, saved, tmp_path):
    result = Scores({(0, "query"): np.arange(4) / 3, (1, "output"): np.ones(3)}, {"score": "std"})
    path = tmp_path / "few.safetensors"
    result.save(path)
    refused = 0
    for mutated in mutations(path.read_bytes(), 500):
        path.write_bytes(mutated)
        try:
            loaded = Scores.load(path)
        except ValueError as error:
            refused += 1
            assert len(str(error)) < 1000
        else:
            assert loaded.info == result.info and loaded.keys() == result.keys()
            for group, values in loaded.items():
                assert values.tolist() == result[group].astype(np.float32).tolist()
    assert refused > 480
