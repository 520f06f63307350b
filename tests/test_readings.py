"""What residual maps read: the same as by hand, sampled, weighed; the loss's metric by slopes."""

import numpy as np
import pytest
import torch
import transformers
from conftest import with_random_weights
from transformers import BertForSequenceClassification

from obce import readings
from obce.layer_scores import fisher
from obce.modeling import AUTO_CLASSES
from obce.readings import read

TEXTS = ["a small red house", "rain", "we saw the old boat near the bridge", "no", "why not now"]


def by_hand(model, tokenizer, layer, kind):
    """All tokens, text by text, in the order in which equal lengths run: longest first."""
    inputs = []
    place = {"value": "attention.output.dense", "intermediate": "output.dense"}[kind]
    module = model.bert.encoder.layer[layer].get_submodule(place)
    handle = module.register_forward_hook(lambda m, x, y: inputs.append(x[0][0].numpy()))
    with torch.no_grad():
        for text in TEXTS:
            model(**tokenizer(text, return_tensors="pt"))
    handle.remove()
    return np.concatenate(inputs)


def sorted_rows(points):
    return points[np.lexsort(points.T[:4])]


@pytest.mark.parametrize("kind", ["value", "intermediate"])
def test_points_are_what_the_map_reads(tiny_classifier, tokenizer, kind):
    found = read(tiny_classifier, tokenizer, TEXTS)
    expected = by_hand(tiny_classifier, tokenizer, 1, kind)
    np.testing.assert_allclose(
        sorted_rows(found.points[1, kind]), sorted_rows(expected), rtol=1e-4, atol=1e-6
    )
    name = {"value": "attention.output.dense", "intermediate": "output.dense"}[kind]
    weight = tiny_classifier.bert.encoder.layer[1].get_submodule(name).weight
    np.testing.assert_array_equal(found.weights[1, kind], weight.detach().numpy())


def test_a_sample_is_a_part_of_all_and_follows_from_the_seed(tiny_classifier, tokenizer):
    everything = read(tiny_classifier, tokenizer, TEXTS).points[0, "intermediate"]
    some = [read(tiny_classifier, tokenizer, TEXTS, points=9, seed=s) for s in (0, 0, 1)]
    clouds = [each.points[0, "intermediate"] for each in some]
    assert len(clouds[0]) == 9 == some[0].info["points"]
    np.testing.assert_array_equal(clouds[0], clouds[1])
    assert not np.array_equal(clouds[0], clouds[2])
    distance = np.abs(clouds[0][:, None] - everything).max(axis=2).min(axis=1)
    assert distance.max() < 1e-5


def test_a_point_per_text_and_no_special_tokens(tiny_classifier, tokenizer):
    expected = {"mean": [], "cls": [], "tokens": []}
    module = tiny_classifier.bert.encoder.layer[1].output.dense
    read_by = []
    handle = module.register_forward_hook(lambda m, x, y: read_by.append(x[0][0].numpy()))
    with torch.no_grad():
        for text in TEXTS:
            tiny_classifier(**tokenizer(text, return_tensors="pt"))
    handle.remove()
    for one in read_by:
        expected["mean"].append(one.mean(axis=0)[None])
        expected["cls"].append(one[:1])
        expected["tokens"].append(one[1:-1])  # without [CLS] and [SEP]
    for cloud, rows in expected.items():
        found = read(
            tiny_classifier, tokenizer, TEXTS, cloud=cloud, special_tokens=cloud != "tokens"
        )
        np.testing.assert_allclose(
            sorted_rows(found.points[1, "intermediate"]),
            sorted_rows(np.concatenate(rows)), rtol=1e-4, atol=1e-6,
        )  # fmt: skip
        assert found.info["cloud"] == cloud
    with pytest.raises(ValueError, match="unknown cloud 'sky'; there are tokens, mean, cls"):
        read(tiny_classifier, tokenizer, TEXTS, cloud="sky")


def test_moments_are_those_of_all_tokens_and_points_of_a_sample(tiny_classifier, tokenizer):
    group = (1, "intermediate")
    x = read(tiny_classifier, tokenizer, TEXTS).points[group].astype(np.float64)
    found = read(tiny_classifier, tokenizer, TEXTS, points=5, moments=True)
    assert found.points[group].shape == (5, 40)
    np.testing.assert_allclose(found.mean[group], x.mean(axis=0), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.square[group], (x**2).mean(axis=0), rtol=1e-4, atol=1e-7)
    expected = np.cov(x, rowvar=False, bias=True)
    np.testing.assert_allclose(found.covariance(group), expected, rtol=1e-3, atol=1e-6)
    other = found.with_points({group: x[:7].astype(np.float32)})
    assert other.tree(group).shape == (6, 2) and not other.moments
    expected = np.cov(x[:7], rowvar=False, bias=True)
    np.testing.assert_allclose(other.covariance(group), expected, rtol=1e-3, atol=1e-6)


def test_fisher_is_the_squared_slope_by_a_factor_of_a_units_outputs(tiny_classifier, tokenizer):
    """A regression's answer, text by text, by differences."""
    tiny_classifier.classifier = torch.nn.Linear(24, 1)
    tiny_classifier.config.num_labels = tiny_classifier.num_labels = 1
    model, unit = tiny_classifier.double().eval(), 7
    module = model.bert.encoder.layer[1].output.dense

    def answer(text, factor):
        def scale(m, inputs):
            x = inputs[0].clone()
            x[..., unit] *= factor
            return (x,)

        handle = module.register_forward_pre_hook(scale)
        with torch.no_grad():
            value = model(**tokenizer(text, return_tensors="pt")).logits.item()
        handle.remove()
        return value

    found = read(model, tokenizer, TEXTS, loss=True)
    expected = mean_squared_slope(answer)
    assert found.fisher[1, "intermediate"][unit] == pytest.approx(expected, rel=1e-3)
    assert fisher(found, (1, "intermediate"))[unit] == pytest.approx(expected, rel=1e-3)
    with pytest.raises(ValueError, match="'fisher' needs read"):
        fisher(read(model, tokenizer, TEXTS), (1, "intermediate"))


def mean_squared_slope(answer):
    slopes = [(answer(text, 1.001) - answer(text, 0.999)) / 0.002 for text in TEXTS]
    return np.mean(np.square(slopes))


@pytest.mark.parametrize("kind", ["query", "key"])
def test_fisher_of_a_pair_is_that_of_either_of_its_units(tiny_classifier, tokenizer, kind):
    tiny_classifier.classifier = torch.nn.Linear(24, 1)
    tiny_classifier.config.num_labels = tiny_classifier.num_labels = 1
    model, unit = tiny_classifier.double().eval(), 5
    module = model.bert.encoder.layer[0].attention.self.get_submodule(kind)

    def answer(text, factor, token=slice(None)):
        def scale(m, inputs, output):
            output = output.clone()
            output[:, token, unit] *= factor
            return output

        handle = module.register_forward_hook(scale)
        with torch.no_grad():
            value = model(**tokenizer(text, return_tensors="pt")).logits.item()
        handle.remove()
        return value

    found = read(model, tokenizer, TEXTS, loss=True)
    assert found.fisher[0, kind][unit] == pytest.approx(mean_squared_slope(answer), rel=1e-3)
    if kind == "query":  # token by token
        squares = [
            sum(
                ((answer(text, 1.001, t) - answer(text, 0.999, t)) / 0.002) ** 2
                for t in range(len(tokenizer(text)["input_ids"]))
            )
            for text in TEXTS
        ]
        assert found.pairs[0][unit] == pytest.approx(np.mean(squares), rel=1e-3)


def test_metrics(tiny_classifier, tokenizer):
    found = read(tiny_classifier, tokenizer, TEXTS, loss=True)
    weights = found.weights[2, "value"].astype(np.float64)
    felt = found.felt[2, "value"]
    mean = felt.trace() / len(felt) / (1 + readings.FLOOR)
    assert np.linalg.eigvalsh(felt).min() >= (readings.FLOOR - 1e-6) * mean > 0
    np.testing.assert_array_equal(found.squared_norms((2, "value"), "plain"), np.ones(24))
    np.testing.assert_allclose(found.squared_norms((2, "value"), "norm"), (weights**2).sum(axis=0))
    np.testing.assert_allclose(
        found.squared_norms((2, "value"), "loss"), np.diag(weights.T @ felt @ weights)
    )
    with pytest.raises(ValueError, match="unknown metric 'far'; there are plain, norm, loss"):
        found.squared_norms((2, "value"), "far")
    with pytest.raises(ValueError, match="needs read"):
        read(tiny_classifier, tokenizer, TEXTS).squared_norms((2, "value"), "loss")


def test_the_losss_metric_is_the_slope_of_a_regressions_answer(tiny_classifier, tokenizer):
    """One text, one output: F is the sum over tokens of g g^T, g by differences."""
    tiny_classifier.classifier = torch.nn.Linear(24, 1)
    tiny_classifier.config.num_labels = tiny_classifier.num_labels = 1
    model = tiny_classifier.double().eval()
    inputs = tokenizer(TEXTS[0], return_tensors="pt")
    module = model.bert.encoder.layer[2].output.dense

    def answer(token, place, step):
        def push(m, x, y):
            y = y.clone()
            y[0, token, place] += step
            return y

        handle = module.register_forward_hook(push)
        with torch.no_grad():
            value = model(**inputs).logits.item()
        handle.remove()
        return value

    count = inputs["input_ids"].shape[1]
    slopes = np.array(
        [
            [(answer(t, h, 1e-4) - answer(t, h, -1e-4)) / 2e-4 for h in range(24)]
            for t in range(count)
        ]
    )
    expected = slopes.T @ slopes
    mean = expected.diagonal().mean()
    expected = expected + readings.FLOOR * mean * np.eye(24)
    found = read(model, tokenizer, TEXTS[:1], loss=True).felt[2, "intermediate"]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * mean)


def test_without_a_head_the_metric_is_that_of_the_embeddings(tiny_bert, tokenizer):
    """One text many times: the mean over random directions is the Jacobian's square."""
    written = {}
    module = tiny_bert.encoder.layer[2].output.dense
    handle = module.register_forward_hook(lambda m, x, y: written.update(y=y) or y)
    hidden = tiny_bert.eval()(**tokenizer(TEXTS[0], return_tensors="pt"))[0]
    handle.remove()
    embedding = torch.nn.functional.normalize(hidden.mean(1), dim=-1)[0]
    rows = [torch.autograd.grad(each, written["y"], retain_graph=True)[0][0] for each in embedding]
    expected = torch.einsum("oth,otg->hg", torch.stack(rows), torch.stack(rows)).numpy()
    found = read(tiny_bert, tokenizer, TEXTS[:1] * 2000, loss=True).felt[2, "intermediate"]
    found -= readings.FLOOR * found.trace() / len(found) / (1 + readings.FLOOR) * np.eye(24)
    assert np.linalg.norm(found - expected) < 0.1 * np.linalg.norm(expected)


def test_bad_input(tiny_bert, tiny_classifier, tokenizer):
    with pytest.raises(ValueError, match="points=1: a cloud needs at least two"):
        read(tiny_classifier, tokenizer, TEXTS, points=1)
    with pytest.raises(ValueError, match="the corpus is empty"):
        read(tiny_bert, tokenizer, [])


def test_the_model_is_left_as_it_was(tiny_classifier, tokenizer):
    tiny_classifier.train()
    read(tiny_classifier, tokenizer, TEXTS, loss=True)
    assert tiny_classifier.training
    assert not any(module._forward_hooks for module in tiny_classifier.modules())
    assert all(p.grad is None for p in tiny_classifier.parameters())


@pytest.mark.parametrize("name", AUTO_CLASSES)
def test_the_loss_is_felt_through_any_head(name, tiny_config, tokenizer):
    tiny_config.num_labels = 2
    model = with_random_weights(getattr(transformers, name).from_config(tiny_config))
    found = read(model, tokenizer, TEXTS, loss=True)
    assert len(found.fisher) == 4 * 3
    for row in [*found.fisher.values(), *found.pairs.values()]:
        assert np.isfinite(row).all() and row.max() > 0


def test_several_labels_are_several_choices_of_two(tiny_config, tokenizer):
    """With one label: the log-likelihood of yes, or of no, as a coin of that chance falls."""
    tiny_config.num_labels, tiny_config.problem_type = 1, "multi_label_classification"
    model = with_random_weights(BertForSequenceClassification(tiny_config))
    inputs = tokenizer(TEXTS[0], return_tensors="pt")
    chance = model(**inputs).logits.sigmoid().item()
    seen = [
        readings._objective(model, inputs, torch.Generator().manual_seed(seed)).item()
        for seed in range(40)
    ]
    likely = {round(np.log(p), 4) for p in (chance, 1 - chance)}
    assert {round(each, 4) for each in seen} == likely
