"""Cards: each number against one that was worked out in another way, and what is refused."""

import copy
import json

import numpy as np
import pytest
import torch
from scipy import stats

from obce import collect
from obce.base.files import parse_json
from obce.explain import neuron, page, redundancy
from obce.explain.points import Points, points_of
from obce.explain.roles import readers
from obce.explain.silencing import silence
from obce.explain.splits import Split, branches
from obce.explain.stories import stories
from obce.homology import tree_of_distances
from obce.texts import encode


@pytest.fixture(scope="module")
def card(embedded, tokenizer, sentences):
    return neuron(
        embedded, tokenizer, sentences, 2, "intermediate", 5, ["a", "b"] * 20, silenced=10
    )


TWO = [(0, 0, 1.0), (1, 1, 1.0)]  # the sides of one split


def made_up(has, text=None, position=None):
    """Points with features by name; each is a text of its own if nothing is said."""
    n = len(next(iter(has.values())))
    text = np.arange(n) if text is None else text
    rows = np.array([has[name] for name in has], dtype=bool)
    length = np.full(n, 5)
    return Points(text, position, [["x"] * 5] * (text.max() + 1), list(has), rows, length)


def test_points_are_the_tokens_in_the_order_of_the_cloud(tiny_bert, tokenizer, sentences):
    with collect(tiny_bert, tokenizer, sentences, layers=[0], kinds=["value"]) as activations:
        points = points_of(activations, tokenizer, "tokens")
        outputs = activations.cloud(0, "value", "tokens")[:, 7]
        text, place = points.text[7], points.position[7]
        row = encode(tokenizer, sentences, 64)[text]
        with torch.no_grad():
            read = tiny_bert.embeddings(torch.tensor([row["input_ids"]]))[0, place]
            expected = tiny_bert.encoder.layer[0].attention.self.value(read)
        assert np.allclose(outputs, expected, atol=1e-5)
        assert points.context(7)[1] == tokenizer.convert_ids_to_tokens(row["input_ids"])[place]
        dots = points.has[points.features.index("the word piece .")]
        said = [points.context(int(i))[1] for i in np.flatnonzero(dots)]
        assert set(said) == {"."} and dots.sum() == sum(s.count(".") for s in sentences)
        inside = points.has[points.features.index("a piece inside a word")]
        assert all(points.context(int(i))[1].startswith("##") for i in np.flatnonzero(inside))
        of_texts = points_of(activations, tokenizer, "mean")
        the = of_texts.has[of_texts.features.index("the word piece the")]
        assert the.tolist() == ["the" in s.lower().replace(",", "").split() for s in sentences]


def test_a_story_by_hand():
    inside = np.repeat([0, 1], [12, 8])
    word = np.r_[np.ones(2), np.zeros(10), np.ones(6), np.zeros(2)]
    told = stories(made_up({"the word": word}), inside, TWO, effect=0.5)
    up = next(s for s in told if s.first == 1 and s.follows == "the word")
    assert (up.precision, up.recall) == (6 / 8, 6 / 8)
    assert up.effect == pytest.approx(np.corrcoef(inside, word)[0, 1])
    p = stats.fisher_exact([[6, 2], [2, 10]], alternative="greater").pvalue
    assert up.p == pytest.approx(4 * p)  # two sides, each asked about a word and the length
    assert up.passes == (4 * p <= 0.05 and up.effect >= 0.5)
    assert stories(made_up({"the word": word}), np.zeros(20, int), []) == []


def test_a_side_of_several_groups_has_the_story_of_the_longest_bar_on_top():
    word = np.repeat([0, 1, 1], 20)
    parts = np.repeat([0, 1, 2], 20)
    found = [Split(1.0, 9.0, 0, 2, 1, 0.01), Split(2.0, 1.0, 1, 3, 1, 0.01)]
    told = stories(made_up({"the word": word}), parts, branches(found))
    assert (told[0].follows, told[0].first, told[0].last) == ("the word", 1, 2)
    assert (told[0].effect, told[0].length) == (pytest.approx(1), 9.0)


def test_of_groups_that_follow_nothing_a_story_is_told_no_more_often_than_the_level():
    random, hits, runs = np.random.default_rng(0), 0, 100
    for _ in range(runs):
        has = {f"word {i}": random.random(300) < 0.2 for i in range(8)}
        text = np.repeat(np.arange(60), 5)
        points = made_up(has, text, np.tile(np.arange(5), 60))
        labels = random.choice(["a", "b"], 60).tolist()
        parts = (random.random(300) < 0.1).astype(int)
        told = stories(points, parts, TWO, labels, level=0.2, effect=0)
        hits += any(story.passes for story in told)
    assert stats.binomtest(hits, runs, 0.2, alternative="greater").pvalue > 0.01, hits


def test_positions_lengths_labels_and_numbers_are_stories_too():
    inside = np.tile([0, 0, 0, 1], 40)
    text = np.repeat(np.arange(40), 4)
    points = made_up({"w": np.arange(160) % 7 == 0}, text, np.tile(np.arange(4), 40))
    best = {story.follows: story.first for story in stories(points, inside, TWO) if story.passes}
    assert best == {"late in the text": 1, "early in the text": 0}
    parts = (np.tile(np.arange(4), 40) > 0).astype(int)
    first = made_up({"the word [CLS]": parts == 0}, text, np.tile(np.arange(4), 40))
    assert stories(first, parts, TWO)[0].follows == "the word [CLS]"  # "early" follows from it
    inside = (np.arange(40) >= 20).astype(int)
    points = made_up({"w": np.arange(40) % 7 == 0})
    names = ["good" if group else "bad" for group in inside]
    best = {story.follows for story in stories(points, inside, TWO, names) if story.passes}
    assert best == {"the label good", "the label bad"}
    scores = (inside + np.linspace(0, 0.5, 40)).tolist()
    best = {story.follows for story in stories(points, inside, TWO, scores) if story.passes}
    assert best == {"high labels", "low labels"}


@pytest.mark.parametrize("kind", ["value", "intermediate"])
def test_silence_is_what_other_weights_would_do(tiny_classifier, tokenizer, sentences, kind):
    encodings = encode(tokenizer, sentences[:6], 32)
    width = tiny_classifier.config.intermediate_size if kind == "intermediate" else 24
    fill = np.linspace(-1, 1, width).astype(np.float32)
    dense, one = silence(tiny_classifier, encodings, (1, kind), [[3, 8]], fill)
    other = copy.deepcopy(tiny_classifier)
    block = other.bert.encoder.layer[1]
    with torch.no_grad():
        if kind == "value":
            block.attention.self.value.weight[[3, 8]] = 0
            block.attention.self.value.bias[[3, 8]] = torch.from_numpy(fill[[3, 8]])
        else:
            columns = block.output.dense.weight[:, [3, 8]]
            block.output.dense.bias += columns @ torch.from_numpy(fill[[3, 8]])
            block.output.dense.weight[:, [3, 8]] = 0
        for i, row in enumerate(encodings):
            ids = torch.tensor([row["input_ids"]])
            old, new = (m(input_ids=ids).logits.softmax(-1)[0] for m in (tiny_classifier, other))
            assert one.divergence[i] == pytest.approx(stats.entropy(old, new), rel=1e-3, abs=1e-6)
            assert (dense.prediction[i], one.prediction[i]) == (old.argmax(), new.argmax())
    assert not dense.divergence.any() and one.units == (3, 8)


def test_units_that_say_the_same_are_redundant_and_a_plan_is_read_by_groups():
    x = np.random.default_rng(0).normal(size=(400, 3))
    outputs = np.column_stack([x, 3 * x[:, 0], -x[:, 0], np.zeros(400)])
    found = redundancy(outputs)
    assert [group.tolist() for group in found.groups()] == [[0, 3, 4], [1], [2], [5]]
    assert found.share == pytest.approx(2 / 6)
    assert found.kept_by([0, 1, 5]) == [(3, 1), (1, 1), (1, 0), (1, 1)]
    distance = 1 - np.abs(np.corrcoef(x, rowvar=False))
    edges = tree_of_distances(distance)
    heights = redundancy(x, method="single").tree[:, 2]
    assert np.sort(distance[edges[:, 0], edges[:, 1]]) == pytest.approx(heights)
    with pytest.raises(ValueError, match="threshold=2"):
        redundancy(x, threshold=2)
    with pytest.raises(ValueError, match="two units"):
        redundancy(x[:, :1])


def test_who_reads_whom(tiny_bert):
    block = tiny_bert.encoder.layer[1]
    for kind, module in [("value", block.attention.output), ("intermediate", block.output)]:
        found = readers(tiny_bert, (1, kind), 4)
        column = module.dense.weight[:, 4].detach().numpy()
        assert found["strongest"][0] == [np.abs(column).argmax(), column[np.abs(column).argmax()]]
        assert found["norm"] == pytest.approx(np.linalg.norm(column))
    assert readers(tiny_bert, (1, "query"), 4)["by"] == "key"
    assert readers(tiny_bert, (1, "output"), 4)["to"] == "unit of layer 2"
    assert readers(tiny_bert, (2, "output"), 4)["strongest"] == []


def test_a_card_is_plain_json_and_a_page_without_other_files(card):
    read = parse_json(card.to_json())
    assert read == json.loads(json.dumps(card.as_dict()))
    assert read["summary"] == card.summary and read["points"] == len(card.values)
    assert read["share"] <= 1 and 1 <= read["rank"] <= read["width"] == 1536
    html = card.to_html()
    assert html.count("<h1>") == 1 and "<script" not in html
    assert 'src="data:' in html and "http" not in html
    assert len(card.silenced["most_moved"]) == 5
    two = page([card, card], "a <b> title")
    assert "a &lt;b&gt; title" in two and two.count("<details>") == 2


def test_a_card_shows_both_tails_quantiles_and_a_random_sample(card):
    values = np.sort(card.values)
    assert [row["value"] for row in card.shown["lowest"]] == values[:5].tolist()
    assert [row["value"] for row in card.shown["highest"]] == values[:-6:-1].tolist()
    assert values[0] < card.shown["quantiles"][0]["value"] < card.shown["quantiles"][4]["value"]
    assert len(card.shown["random"]) == 5
    for rows in card.shown.values():
        for row in rows:
            assert row["value"] in card.values


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layer": 6}, "no layer 6"),
        ({"kind": "colour"}, "unknown kind 'colour'"),
        ({"unit": 1536}, "no intermediate unit 1536"),
        ({"labels": [1]}, "labels are one per text: 1 for 40"),
        ({"cloud": "fog"}, "unknown cloud 'fog'"),
        ({"texts": "one"}, "not one string"),
        ({"texts": ["one"]}, "at least two texts"),
    ],
)
def test_bad_input_is_refused(embedded, tokenizer, sentences, change, said):
    arguments = {"texts": sentences, "layer": 0, "kind": "intermediate", "unit": 0} | change
    with pytest.raises(ValueError, match=said):
        neuron(embedded, tokenizer, **arguments)
