"""How far a compressed model is from the dense one, for every head, against plain computation."""

import math

import numpy as np
import pytest
import torch
import transformers
from conftest import with_random_weights
from torch.nn import functional as F

import obce
from obce.running import heads
from obce.running.fidelity import compare
from obce.running.loading import Loaded, load_model, save_model

NAMED = [head for head in heads.HEADS if head]


def make(head, config, seed=2):
    """A dense BERT with random weights and that head."""
    config.num_labels = {"multiple choice": 1, "question answering": 2}.get(head, 3)
    if head == "multiple labels":
        config.problem_type = "multi_label_classification"
    kind = heads.HEADS[head].replace("AutoModel", "Bert" if head else "BertModel")
    return with_random_weights(getattr(transformers, kind)(config), seed)


def cut(loaded, percentile=40):
    scores = obce.score(None, "magnitude", model=loaded.model)
    plan = obce.plan(loaded.model, scores, percentile=percentile)
    return loaded._replace(model=obce.cut(loaded.model, plan))


@pytest.fixture
def pair(tiny_config, tokenizer):
    """A dense model with a head, and the same cut."""

    def build(head):
        dense = Loaded(make(head, tiny_config), tokenizer, head, None)
        return dense, cut(dense)

    return build


@pytest.mark.parametrize("head", heads.HEADS)
def test_every_head_is_found_in_the_weights_saved_and_compared(
    head, tiny_config, tokenizer, sentences, tmp_path
):
    save_model(Loaded(make(head, tiny_config), tokenizer, head, None), tmp_path / "dense")
    dense = load_model(tmp_path / "dense")
    assert dense.head == head and dense.encoder is None
    assert type(dense.model) is type(make(head, tiny_config))
    same = compare(dense, dense, sentences, batch_size=7)
    assert same.pop("texts") == len(sentences) and same.pop("hidden_error") == 0
    assert same == {name: float(name == "agreement") for name in same}
    assert set(same) == ({"agreement", "divergence"} if head else set()) - (
        {"agreement"} if head == "multiple choice" else set()
    )
    small = cut(dense)
    save_model(small, tmp_path / "small")
    again = load_model(tmp_path / "small")
    assert again.head == head and type(again.model).__name__.startswith("Obce")
    found = compare(dense, small, sentences)
    assert 0.05 < found["hidden_error"] < 2 and found.get("agreement", 0.5) < 1
    assert compare(dense, again, sentences) == pytest.approx(found, abs=1e-6)
    other = compare(dense, small, sentences, batch_size=1)
    assert other == pytest.approx(found, rel=1e-4, abs=1e-5)


def plainly(loaded, texts, hidden=False):
    """The model's outputs, text by text, without padding."""
    with torch.no_grad():
        for text in texts:
            inputs = loaded.tokenizer(text, return_tensors="pt")
            yield loaded.model(**inputs, output_hidden_states=hidden)


def kl(old, new):
    return F.kl_div(
        new.log_softmax(-1), old.log_softmax(-1), log_target=True, reduction="sum"
    ).item()


def test_classifier_by_hand(pair, sentences):
    dense, small = pair("sequence classification")
    found = compare(dense, small, sentences, batch_size=8)
    old, new = (torch.cat([out.logits for out in plainly(x, sentences)]) for x in (dense, small))
    assert found["agreement"] == (old.argmax(1) == new.argmax(1)).double().mean().item()
    assert found["divergence"] == pytest.approx(kl(old, new) / 40, rel=1e-4)


def test_hidden_error_by_hand(pair, sentences, tiny_config):
    dense, small = pair("")
    old, new = ([out.last_hidden_state[0] for out in plainly(x, sentences)] for x in (dense, small))
    error = torch.cat(old) - torch.cat(new)
    expected = (error.norm() / torch.cat(old).norm()).item()
    assert compare(dense, small, sentences) == {
        "texts": 40,
        "hidden_error": pytest.approx(expected, rel=1e-5),
    }


def test_token_classifier_counts_words_and_no_padding(pair, sentences):
    dense, small = pair("token classification")
    found = compare(dense, small, sentences, batch_size=8)
    old, new = (
        torch.cat([out.logits[0, 1:-1] for out in plainly(x, sentences)]) for x in (dense, small)
    )
    assert found["agreement"] == pytest.approx(
        (old.argmax(1) == new.argmax(1)).double().mean().item()
    )
    assert found["divergence"] == pytest.approx(kl(old, new) / len(old), rel=1e-4)


def test_answers_by_hand(pair, sentences):
    dense, small = pair("question answering")
    pairs = list(zip(sentences[:8], sentences[8:16], strict=True))
    found, equal, divergence = compare(dense, small, pairs, batch_size=3), 0, 0.0
    with torch.no_grad():
        for text in pairs:
            inputs = dense.tokenizer(*text, return_tensors="pt")
            old, new = dense.model(**inputs), small.model(**inputs)
            for name in ("start_logits", "end_logits"):
                equal += int(old[name].argmax() == new[name].argmax())
                divergence += kl(old[name], new[name])
    assert found["agreement"] == equal / 16
    assert found["divergence"] == pytest.approx(divergence / 16, rel=1e-4)


@pytest.mark.parametrize("head", ["masked words", "pre-training"])
def test_masked_words_by_hand(pair, sentences, head):
    dense, small = pair(head)
    found, equal, divergence, count = compare(dense, small, sentences[:10], batch_size=4), 0, 0.0, 0
    with torch.no_grad():
        for text in sentences[:10]:
            inputs = dense.tokenizer(text, return_tensors="pt")
            places = list(range(1, inputs["input_ids"].shape[1] - 1, 7))
            inputs["input_ids"][0, places] = dense.tokenizer.mask_token_id
            name = "logits" if head == "masked words" else "prediction_logits"
            old, new = (x.model(**inputs)[name][0, places] for x in (dense, small))
            equal, count = equal + int((old.argmax(1) == new.argmax(1)).sum()), count + len(places)
            divergence += kl(old, new)
    assert found["agreement"] == pytest.approx(equal / count)
    assert found["divergence"] == pytest.approx(divergence / count, rel=1e-4)


def test_several_labels_are_choices_of_two(pair, sentences):
    dense, small = pair("multiple labels")
    found = compare(dense, small, sentences)
    old, new = (torch.cat([out.logits for out in plainly(x, sentences)]) for x in (dense, small))
    assert found["agreement"] == pytest.approx(((old > 0) == (new > 0)).double().mean().item())
    p, q = old.sigmoid(), new.sigmoid()
    expected = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    assert found["divergence"] == pytest.approx(expected.mean().item(), rel=1e-3)


def test_numbers_by_hand(tiny_config, tokenizer, sentences):
    tiny_config.num_labels = 1
    model = with_random_weights(transformers.BertForSequenceClassification(tiny_config))
    dense = Loaded(model, tokenizer, "sequence classification", None)
    small = cut(dense)
    found = compare(dense, small, sentences)
    old, new = (torch.cat([out.logits for out in plainly(x, sentences)]) for x in (dense, small))
    assert "agreement" not in found
    expected = (old - new).square().mean() / old.var(correction=0)
    assert found["divergence"] == pytest.approx(expected.item(), rel=1e-4)
    model.classifier.weight.data.zero_()
    assert compare(dense, dense, sentences)["divergence"] is None


def test_bad_arguments(pair, sentences, tokenizer):
    dense, small = pair("token classification")
    with pytest.raises(ValueError, match="other heads: token classification and none"):
        compare(dense, small._replace(head=""), sentences)
    with pytest.raises(ValueError, match="the corpus is empty"):
        compare(dense, small, [])
    with pytest.raises(ValueError, match="not one string"):
        compare(dense, small, "one string")
    with pytest.raises(ValueError, match="max_length=65: this model takes 3 to 64 tokens"):
        compare(dense, small, sentences, max_length=65)
    other = obce.load_bert().model
    with pytest.raises(ValueError, match="differ in hidden_size: 24 and 384"):
        compare(dense._replace(head=""), Loaded(other, tokenizer, "", None), sentences)
    small.model.classifier.bias.data.fill_(math.nan)
    with pytest.raises(ValueError, match="not finite"):
        compare(dense, small, sentences)
    assert np.isfinite(compare(dense, dense, sentences)["hidden_error"])


def tagged(tokenizer, texts):
    """Tokens of texts, and a tag for each: 0 a word, 1 a number, 2 a mark; -100 for none."""
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    tags = torch.full_like(inputs["input_ids"], -100)
    for row, text in enumerate(inputs["input_ids"]):
        for place, word in enumerate(tokenizer.convert_ids_to_tokens(text)):
            if word not in tokenizer.all_special_tokens:
                plain = word.removeprefix("##")
                tags[row, place] = 1 if plain.isdigit() else 0 if plain.isalpha() else 2
    return inputs, tags


def test_a_token_classifier_is_compressed_without_labels(tiny_config, tokenizer, sentences):
    """Train, score, cut, repair, compare: only the training sees a tag."""
    torch.manual_seed(0)
    tiny_config.num_labels = 3
    model = transformers.BertForTokenClassification(tiny_config)
    inputs, tags = tagged(tokenizer, sentences)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(25):
        optimizer.zero_grad()
        model(**inputs, labels=tags).loss.backward()
        optimizer.step()
    dense = Loaded(model.eval(), tokenizer, "token classification", None)
    with torch.no_grad():
        right = model(**inputs).logits.argmax(-1)[tags >= 0] == tags[tags >= 0]
    assert right.double().mean() > 0.97
    with obce.collect(model, tokenizer, sentences) as activations:
        plan = obce.plan(model, obce.score(activations), percentile=60)
    small = dense._replace(model=obce.cut(model, plan))
    cut_only = compare(dense, small, sentences)
    obce.repair(model, small.model, plan, texts=sentences, tokenizer=tokenizer)
    repaired = compare(dense, small, sentences)
    assert repaired["hidden_error"] < 0.9 * cut_only["hidden_error"]
    assert repaired["agreement"] > 0.97 and repaired["divergence"] < cut_only["divergence"]
