"""Units whose meaning is known: one set by hand to detect a word, and a net that learnt parity."""

import copy
import itertools

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from obce.explain import cards, layer
from obce.texts import encode

FILLERS = "red blue green old new long short warm cold high low fast slow soft hard".split()


WORDS = (
    FILLERS
    + """stone river letter window garden bridge music table horse winter market silver
paper engine island doctor candle mirror forest ladder bottle shadow summer kitchen""".split()
)


def with_word(word, number, seed):
    """Random words, five to twelve of them; every fifth text has ``word`` somewhere, too."""
    random = np.random.default_rng(seed)
    texts = [random.choice(WORDS, random.integers(5, 13)).tolist() for _ in range(number)]
    for text in texts[::5]:
        text.insert(random.integers(len(text) + 1), word)
    return [" ".join(text) for text in texts]


@pytest.fixture(scope="module")
def planted(embedded, tokenizer):
    """The embedded model with value unit 77 of layer 0 set to detect "coffee", and its texts."""
    model = copy.deepcopy(embedded)
    texts = with_word("coffee", 100, seed=0)
    coffee = tokenizer.convert_tokens_to_ids("coffee")
    read, is_coffee = [], []
    with torch.no_grad():
        for row in encode(tokenizer, texts, 32):
            read.append(model.embeddings(torch.tensor([row["input_ids"]]))[0])
            is_coffee += [token == coffee for token in row["input_ids"]]
        x, y = torch.cat(read).double(), torch.tensor(is_coffee)
        spread = x.T.cov() + 0.01 * torch.eye(x.shape[1])
        direction = torch.linalg.solve(spread, x[y].mean(0) - x[~y].mean(0))
        value = model.encoder.layer[0].attention.self.value
        value.weight[77] = (10 * direction / (x[y].mean(0) @ direction)).float()
        value.bias[77] = 0
    return model, texts


def test_a_planted_neuron_is_found_by_name_among_all(planted, tokenizer):
    model, texts = planted
    found = layer(model, tokenizer, texts, 0, "value")
    named = [
        (card.told[0].length / card.values.std(), card.unit)
        for card in found
        if card.told and card.told[0].follows == "the word piece coffee"
    ]
    assert max(named)[1] == 77
    card = found[77]
    assert card.told[0].follows == "the word piece coffee"
    assert card.told[0].precision == card.told[0].recall == 1
    assert {row["token"] for row in card.shown["highest"]} == {"coffee"}
    assert len(named) < len(found) / 20  # hardly any other names it first


@pytest.fixture(scope="module")
def parity(tokenizer):
    """A two-layer BERT trained on the parity of two bits, and texts: bit, bit, four other words."""
    random, bits = np.random.default_rng(0), ("yes", "no")
    rows = [
        (f"{bits[a]} {bits[b]} " + " ".join(random.choice(FILLERS, 4)), a ^ b)
        for a, b in itertools.product((0, 1), (0, 1))
        for _ in range(80)
    ]
    texts, labels = map(list, zip(*rows, strict=True))
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=16, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertForSequenceClassification(config)
    inputs = torch.tensor([row["input_ids"] for row in encode(tokenizer, texts, 16)])
    target, optimizer = torch.tensor(labels), torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(400):
        batch = torch.randint(len(texts), (64,))
        loss = model(input_ids=inputs[batch], labels=target[batch]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.005:
            break
    assert loss < 0.1
    return model.eval(), texts, [("even", "odd")[label] for label in labels]


@pytest.mark.long
def test_parity_is_known_where_it_can_be_known_and_nowhere_else(parity, tokenizer):
    """A value unit of layer 0 sees one token at a time, and parity is independent of each. The most
    that it can follow the label is by one of two tokens being there, like "yes" first or "no"
    second: phi is 1/sqrt(3). [CLS] at the end must know the label, which is no single word."""
    model, texts, labels = parity
    early = layer(model, tokenizer, texts, 0, "value", labels)
    by_label = [s.effect for card in early for s in card.told if "label" in s.follows]
    assert max(by_label, default=0) < 3**-0.5 + 0.05
    assert any(story.follows.startswith("the word piece") for c in early for story in c.told)
    late = layer(model, tokenizer, texts, 1, "output", labels, cloud="cls")
    told = [card.told[0] for card in late if card.told]
    by_label = [story for story in told if "label" in story.follows]
    assert max(story.effect for story in by_label) > 0.95
    for card in late:
        about = {story.follows for story in card.told if story.effect > 0.95}
        assert not about & {"the word piece yes", "the word piece no"}


def test_silencing_what_knows_the_label_moves_more_than_its_match(parity, tokenizer):
    model, texts, labels = parity
    late = layer(model, tokenizer, texts, 1, "output", labels, cloud="cls")
    best = max((card for card in late if card.told), key=lambda card: card.told[0].effect)
    odd = [int(label == "odd") for label in labels]
    unit = [(1, "output", best.unit)]
    (card,) = cards(model, tokenizer, texts, unit, odd, cloud="cls", silenced=64)
    alone = card.silenced["alone"]
    assert alone["divergence"] >= 0 and len(alone["matched"]) == 5
    assert alone["accuracy_before"] == 1
