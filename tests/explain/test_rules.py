"""Rules: a planted rule is found by hand, trees are counted one by one, and bounds hold."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

import obce
from obce.book.planted import two_words
from obce.explain import rules
from obce.explain.rules import grow, log_trees, longest_bar, most_errors, outputs


@pytest.fixture(scope="module")
def planted(tokenizer):
    """A net that says yes to texts with "good" and without "film", and 400 texts."""
    return two_words(tokenizer)


def test_a_planted_rule_is_found(planted, tokenizer):
    model, texts = planted
    seen = outputs(model, tokenizer, texts)["mean"]
    wanted = [("good" in text) and ("film" not in text) for text in texts]
    assert seen.predicted.tolist() == wanted
    high = 4 / math.sqrt(3) / 8
    assert seen.values[0, "value"][:, 0] == pytest.approx([high * ("good" in t) for t in texts])
    found = rules(model, tokenizer, texts[:300], texts[300:], leaves=3)
    asked = [found.questions[i] for i in found.tree.tree_.feature if i >= 0]
    assert {(each.layer, each.kind, each.unit) for each in asked} == {
        (0, "value", 0), (0, "value", 1),
    }  # fmt: skip
    assert [each.at for each in asked] == pytest.approx([high / 2] * 2)
    assert (found.wrong, found.fidelity, found.held_out, found.grown) == (0, 1, 100, 150)
    assert found.majority == 1 - np.mean(wanted[300:])
    # one error more than none: (1 - e)^150 = 0.05 / (2 shapes, 8 questions twice, 8 labellings)
    assert found.bound == pytest.approx(1 - (0.05 / (2 * 8**2 * 8)) ** (1 / 150))
    assert found.interval == pytest.approx((0.025 ** (1 / 100), 1))
    lines = str(found).split("\n")
    assert lines[0].startswith("if layer 0, value ") and lines[0].endswith(" > 0.144:")
    assert sorted(line.strip() for line in lines if "layer" not in line and "else" not in line) == [
        "no", "no", "yes",
    ]  # fmt: skip


def test_two_leaves_cannot_say_it_and_that_shows(planted, tokenizer):
    model, texts = planted
    found = rules(model, tokenizer, texts[:300], texts[300:], leaves=2)
    assert found.wrong > 0 and found.fidelity < 1
    assert found.interval[0] < found.fidelity < found.interval[1]
    assert found.bound > found.wrong / found.grown


def test_a_bar_has_texts_on_both_sides():
    values = np.r_[np.zeros(12), np.full(12, 1.0), 100.0]
    assert longest_bar(values, least=1) == 50.5
    assert longest_bar(values) == 0.5
    with pytest.raises(ValueError, match="23 points: 12 on each side of a bar need 24"):
        longest_bar(np.arange(23.0))


def trees_of(leaves, questions):
    """All trees with so many leaves, as nested tuples: written without the formula."""
    if leaves == 1:
        return [0, 1]
    return [
        (question, left, right)
        for question in range(questions)
        for first in range(1, leaves)
        for left, right in itertools.product(
            trees_of(first, questions), trees_of(leaves - first, questions)
        )
    ]


def answer(tree, text):
    while isinstance(tree, tuple):
        tree = tree[1 + text[tree[0]]]
    return tree


@pytest.mark.parametrize(("leaves", "questions"), [(1, 2), (2, 2), (3, 2), (2, 3), (4, 2)])
def test_trees_are_counted(leaves, questions):
    every = trees_of(leaves, questions)
    assert round(math.exp(log_trees(leaves, questions))) == len(every)
    texts = list(itertools.product((0, 1), repeat=questions))

    def functions(trees):
        return {tuple(answer(tree, text) for text in texts) for tree in trees}

    smaller = [tree for less in range(1, leaves) for tree in trees_of(less, questions)]
    assert functions(smaller) <= functions(every)  # fewer leaves say nothing new


@pytest.mark.parametrize(("wrong", "texts"), [(0, 30), (3, 50), (25, 50), (200, 1000)])
def test_one_rule_has_the_limit_of_clopper_and_pearson(wrong, texts):
    exact = stats.binomtest(wrong, texts, alternative="less").proportion_ci(0.95, "exact")
    assert most_errors(wrong, texts) == pytest.approx(exact.high)
    most = most_errors(wrong, texts, log_rules=40.0)
    assert stats.binom.logcdf(wrong, texts, most) == pytest.approx(math.log(0.05) - 40, rel=1e-4)
    hoeffding = wrong / texts + math.sqrt((40 + math.log(20)) / (2 * texts))
    assert most <= hoeffding  # which is simpler, and never better


def test_bounds_that_are_no_help_and_numbers_that_cannot_be():
    assert most_errors(5, 5) == 1
    assert most_errors(1, 50, log_rules=1e4) == 1
    for wrong, texts in ((6, 5), (-1, 5), (0, 0)):
        with pytest.raises(ValueError, match="that cannot be"):
            most_errors(wrong, texts)


def test_the_bound_holds_for_trees_that_were_chosen():
    """Coins for predictions: every tree is wrong on half of all texts, and the best one looks
    better where it was chosen. A bound for one rule is fooled, the union bound is not."""
    random = np.random.default_rng(0)
    fooled = held = 0
    for _ in range(100):
        answers, predicted = random.random((60, 20)) < 0.5, random.random(60) < 0.5
        tree = grow(answers, predicted, 4)
        wrong = int(np.sum(tree.predict(answers) != predicted))
        fooled += most_errors(wrong, 60) < 0.5
        held += most_errors(wrong, 60, log_trees(4, 20)) >= 0.5
    assert held >= 95
    assert fooled > 50


def test_outputs_are_those_of_the_package(tiny_classifier, tokenizer):
    model, texts = tiny_classifier, ["good film", "a bad and dull story", "it rained", "why not"]
    found = outputs(model, tokenizer, texts, ("mean", "cls"))
    with obce.collect(model, tokenizer, texts, clouds=["mean", "cls"]) as activations:
        for cloud, seen in found.items():
            wanted = activations.cloud(1, "intermediate", cloud).T
            assert seen.values[1, "intermediate"] == pytest.approx(wanted, abs=1e-5)
    data = obce.tasks.load("mini-sentiment", "dev", limit=1).from_dict({"sentence": texts})
    said = obce.predict(model, tokenizer, data).argmax(axis=1)
    assert found["mean"].predicted.tolist() == said.tolist()
    plan = obce.plan(model, obce.score(None, "magnitude", model=model), percentile=50)
    small = outputs(obce.cut(model, plan), tokenizer, texts)["mean"]
    assert small.values[1, "intermediate"].shape == (4, len(plan.kept[1, "intermediate"]))


def test_bad_input_is_one_clear_line(planted, tokenizer):
    model, texts = planted
    for wanted, given in {
        "47 texts and 10 held out: rules need 48 and one": (model, texts[:47], texts[:10], {}),
        "0 held out": (model, texts[:48], [], {}),
        "unknown cloud 'fog'": (model, texts, texts, {"cloud": "fog"}),
        "leaves=1: a tree needs at least 2": (model, texts, texts, {"leaves": 1}),
        "BertModel gives no classes": (model.bert, texts, texts, {}),
    }.items():
        of, grown, held_out, options = given
        with pytest.raises(ValueError, match=wanted):
            rules(of, tokenizer, grown, held_out, **options)
