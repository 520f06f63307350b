"""A teacher: its losses worked out by hand, and that a model follows it."""

import copy
import math

import numpy as np
import pytest
import torch
from conftest import make_config, sentiment, with_random_weights
from transformers import BertForSequenceClassification, set_seed

from obce import tasks
from obce.running import training
from obce.running.records import model_sha256
from obce.running.teaching import Teacher, hidden_loss, prediction_loss

SST2 = tasks.get_task("sst2")


@pytest.fixture
def student():
    """A classifier that says (ln 3, 0), whatever it reads: probabilities 3/4 and 1/4."""
    model = with_random_weights(BertForSequenceClassification(make_config()))
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([math.log(3), 0.0]))
    return model


@pytest.fixture
def teacher(student):
    """The same, but undecided: 1/2 and 1/2."""
    model = copy.deepcopy(student)
    with torch.no_grad():
        model.classifier.bias.zero_()
    return model


@pytest.fixture
def batch(tokenizer, sentences):
    """Two texts of 4 and 36 tokens; the label of both is the first."""
    inputs = tokenizer([sentences[0], sentences[33]], padding=True, return_tensors="pt")
    return {**inputs, "labels": torch.tensor([0, 0])}


def test_half_of_the_loss_is_the_labels_and_half_the_teachers(student, teacher, batch):
    """Labels: -ln 3/4. Teacher at temperature 1: 1/2 ln (1/2 / 3/4) + 1/2 ln (1/2 / 1/4), which is
    1/2 ln 4/3. At temperature 2 the student's odds are sqrt 3: 1/2 ln ((1 + sqrt 3)^2 / 4 sqrt 3),
    times 2 squared."""
    labels, one = math.log(4 / 3), math.log(4 / 3) / 2
    two = 4 * math.log((1 + math.sqrt(3)) ** 2 / (4 * math.sqrt(3))) / 2
    for weight, temperature, loss in (
        (0.5, 1, labels / 2 + one / 2),
        (0.5, 2, labels / 2 + two / 2),
        (0.0, 2, labels),
        (1.0, 2, two),
    ):
        found = Teacher(teacher, weight, temperature).loss(student, batch)
        assert found.item() == pytest.approx(loss, rel=1e-5)
    assert Teacher(teacher).loss(student, batch).item() == pytest.approx(labels / 2 + two / 2)


def test_the_layers_outputs_are_compared_over_real_tokens(student, teacher, batch):
    """The last of three layers is 2 too high everywhere: 4 in one of three layers, times 0.3."""
    with torch.no_grad():
        student.bert.encoder.layer[-1].output.LayerNorm.bias += 2
    without = Teacher(teacher).loss(student, batch)
    found = Teacher(teacher, hidden_weight=0.3).loss(student, batch)
    assert (found - without).item() == pytest.approx(0.3 * 4 / 3, rel=1e-5)
    found.backward()
    assert student.bert.encoder.layer[-1].output.LayerNorm.bias.grad.norm() > 0
    assert all(p.grad is None for p in teacher.parameters())


def test_every_text_counts_alike_and_padding_not_at_all():
    given = torch.tensor([[[1.0], [1.0], [9.0]], [[3.0], [9.0], [9.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    wanted = torch.zeros_like(given)
    assert hidden_loss([given], [wanted], mask).item() == pytest.approx((1 + 9) / 2)


def test_a_regressions_teacher_gives_scores():
    found = prediction_loss(torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [4.0]]))
    assert found.item() == pytest.approx((1 + 4) / 2)


def test_the_gradient_does_not_shrink_with_the_temperature():
    """Hinton et al., section 2: it goes as 1/T^2 without the factor; for small logits it is equal
    at all temperatures."""
    norms = []
    for temperature in (1.0, 4.0, 16.0):
        logits = torch.tensor([[0.02, -0.01, 0.0]], requires_grad=True)
        prediction_loss(logits, torch.tensor([[-0.01, 0.03, 0.0]]), temperature).backward()
        norms.append(logits.grad.norm().item())
    np.testing.assert_allclose(norms, norms[0], rtol=0.03)


# The whole way.


def small():
    set_seed(7)
    return BertForSequenceClassification(make_config())


OPTIONS = {"epochs": 5, "learning_rate": 5e-3, "batch_size": 16, "device": "cpu"}


@pytest.fixture(scope="module")
def expert(tokenizer, tmp_path_factory):
    """A small model that knows good from bad."""
    model = small()
    folder = tmp_path_factory.mktemp("expert")
    training.finetune(model, tokenizer, "sst2", train=sentiment(320), output_dir=folder, **OPTIONS)
    return model


def test_a_model_follows_its_teacher_where_labels_lie(expert, tokenizer, tmp_path):
    rows = sentiment(320)
    wrong = rows.remove_columns("label").add_column("label", [1 - each for each in rows["label"]])
    before = model_sha256(expert)
    expert.train()
    model = small()
    result = training.finetune(
        model, tokenizer, "sst2", train=wrong, dev=sentiment(100, seed=1), output_dir=tmp_path,
        teacher=expert, teacher_weight=1.0, hidden_weight=0.1, **OPTIONS,
    )  # fmt: skip
    assert result.metrics["accuracy"] > 0.9
    assert expert.training and model_sha256(expert) == before


def test_a_taught_run_resumes_with_the_same_teacher_only(expert, tokenizer, monkeypatch, tmp_path):
    def run(model, folder, **changes):
        options = OPTIONS | {"epochs": 1, "checkpoint_seconds": 0, "teacher": expert} | changes
        return training.finetune(
            model, tokenizer, "sst2", train=sentiment(80), output_dir=tmp_path / folder, **options
        )

    def stop(self, args, state, control, original=training._Monitor.on_step_end, **kwargs):
        if state.global_step == 4:
            raise KeyboardInterrupt
        return original(self, args, state, control, **kwargs)

    whole, resumed = small(), small()
    run(whole, "whole")
    with monkeypatch.context() as patch:
        patch.setattr(training._Monitor, "on_step_end", stop)
        with pytest.raises(KeyboardInterrupt):
            run(small(), "out")
    for change, name in (
        ({"teacher": None}, "hidden weight, teacher, teacher weight, temperature"),
        ({"teacher": small()}, "teacher:"),
        ({"temperature": 1}, "temperature"),
        ({"hidden_weight": 1}, "hidden weight"),
    ):
        with pytest.raises(ValueError, match=f"unfinished run with another {name}"):
            run(small(), "out", **change)
    assert run(resumed, "out").resumed_from == 3
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "change", "message"),
    [
        ({"weight": 1.5}, {}, "teacher_weight=1.5: it must be from 0 to 1"),
        ({"temperature": 0}, {}, "temperature=0: it must be above 0"),
        ({"hidden_weight": -1}, {}, "hidden_weight=-1: it must be 0 or more"),
        ({}, {"num_labels": 3}, "the model has 3 labels, task sst2 has 2"),
        ({}, {"vocab_size": 99}, "the teacher's vocab_size is 99, the model's is 30522"),
        ({"hidden_weight": 1}, {"num_hidden_layers": 2}, "the teacher's num_hidden_layers is 2"),
    ],
)
def test_bad_teachers(student, options, change, message):
    config = make_config()
    config.update(change)
    with pytest.raises(ValueError, match=message):
        Teacher(BertForSequenceClassification(config), **options).check(student, SST2)
    Teacher(BertForSequenceClassification(make_config())).check(student, SST2)
    with pytest.raises(ValueError, match="the teacher is the model"):
        Teacher(student).check(student, SST2)
