"""Rules for a model: a small decision tree that answers as the model does, and how far to trust it.

The tree sees of a text on which side of its longest bar, or of another cut, a unit's output lies,
and is grown on the model's own predictions; labels have no part in it. How often it answers as the
model does on texts that it was not grown on is its *fidelity*.

**Why the error has a bound.** Fix the questions before the texts are drawn that the tree is grown
on. Then there are only so many trees of L leaves: C(L - 1) shapes (a Catalan number), at each of
the L - 1 inner nodes one of the questions, at each leaf one of the classes; N in all. A tree that
disagrees with the model on more of all texts than the limit of Clopper and Pearson allows shows so
few errors on n drawn ones with a probability below the limit's level. Take delta / N for the level.
By the union bound no tree does, with the probability 1 - delta: so neither does the one that was
grown, however it was chosen. On held-out texts there is one tree, and N = 1.

Source: A. Ozaki, R. Confalonieri, R. Guimaraes, A. Imenes, "Extracting PAC Decision Trees from
Black Box Binary Classifiers", arXiv 2412.10513, second version (2025), for the question; J.
Langford, "Tutorial on Practical Prediction Theory for Classification", JMLR 6 (2005), for the bound
by binomial tails; C. Clopper and E. Pearson, Biometrika 26 (1934).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import stats
from scipy.special import gammaln
from sklearn.tree import DecisionTreeClassifier
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from obce import homology
from obce.activations import hooked
from obce.base.checks import check_choice, check_positive
from obce.base.devices import inference
from obce.base.settings import BATCH_SIZE, DEFAULT_CLOUD, LENGTH, LEVEL
from obce.explain.splits import FLANK
from obce.texts import Text, batches, encode, length_limit, model_inputs
from obce.units import READS, WEIGHTS, Group, find_bert

TOP = 8  # units of each layer and kind whose bars are questions


class Question(NamedTuple):
    """To a text: is the unit's output above the cut?"""

    layer: int
    kind: str
    unit: int
    at: float

    def __str__(self) -> str:
        return f"layer {self.layer}, {self.kind} {self.unit} > {self.at:.3g}"


@dataclass(frozen=True)
class Outputs:
    """What a model's value and intermediate units put out, one number per text, and its answers.

    Attributes:
        values: ``{group: float32 (texts, units)}``; of value units, what attention made of them.
        norms: ``{group: (units,)}``: of the weights that read each unit.
        predicted: ``(texts,)`` the class that the model gives.
    """

    values: dict[Group, np.ndarray]
    norms: dict[Group, np.ndarray]
    predicted: np.ndarray

    def answers(self, questions: Sequence[Question]) -> np.ndarray:
        """``(texts, questions)`` bool: which texts are above which cuts."""
        found = [self.values[each.layer, each.kind][:, each.unit] > each.at for each in questions]
        return np.stack(found, axis=1)


def outputs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    clouds: Sequence[str] = ("mean",),
    *,
    max_length: int | None = None,
    device: str = "auto",
) -> dict[str, Outputs]:
    """One pass of a classifier, dense or compressed: for each of ``clouds`` (``mean``, ``cls``) its
    :class:`Outputs`.

    >>> import obce
    >>> model, tokenizer, _ = obce.load_classifier("embedded", "mini-sentiment")
    >>> seen = outputs(model, tokenizer, ["A good film.", "It rained."])["mean"]
    >>> seen.values[0, "intermediate"].shape, seen.predicted.shape
    ((2, 1536), (2,))
    """
    bert = find_bert(model)
    limit = length_limit(bert, max_length, LENGTH)
    encodings = encode(tokenizer, texts, limit, model=bert)
    layers: Any = bert.encoder.layer
    places = [(layer, place) for layer in range(len(layers)) for place in READS]
    kept: dict[str, dict[Group, list[np.ndarray]]] = {
        cloud: {(layer, READS[place]): [] for layer, place in places} for cloud in clouds
    }
    order, predicted = [], []

    def receive(place: Group, read: torch.Tensor, _: torch.Tensor) -> None:
        pooled = {"mean": read.mean(dim=1), "cls": read[:, 0]}
        for cloud in clouds:
            kept[cloud][place[0], READS[place[1]]].append(pooled[cloud].float().cpu().numpy())

    with inference(model, device), hooked(bert, places, receive, inputs=True):
        for batch in batches(encodings, BATCH_SIZE):
            logits = model(**model_inputs(encodings, batch, bert.device)).logits
            predicted.append(logits.argmax(dim=-1).cpu().numpy())
            order += batch
    back = np.argsort(order)
    answers = np.concatenate(predicted)[back]
    norms = {
        (layer, READS[place]): layers[layer].get_submodule(WEIGHTS[place]).weight.detach()
        .double().norm(dim=0).cpu().numpy()
        for layer, place in places
    }  # fmt: skip
    return {
        cloud: Outputs(
            {group: np.concatenate(rows)[back] for group, rows in found.items()}, norms, answers
        )
        for cloud, found in kept.items()
    }


def longest_bar(values: np.ndarray, least: int = FLANK) -> float:
    """The middle of the longest gap with at least ``least`` points on each side.

    Without that, the longest gap of a cloud on a line mostly parts an outlier from the others.

    >>> longest_bar(np.array([0.0, 1.0, 3.0, 4.0, 9.0]), least=2)
    2.0
    """
    if len(values) < 2 * least:
        raise ValueError(f"{len(values)} points: {least} on each side of a bar need {2 * least}")
    points = np.sort(values)
    start = least - 1 + int(np.diff(points)[least - 1 : len(points) - least].argmax())
    return float(points[start] + points[start + 1]) / 2


def bars(seen: Outputs, rows: np.ndarray, units: int = TOP) -> list[Question]:
    """Of each layer and kind, the units with the largest shares of the persistence of the layer's
    cloud of these ``rows``, each with its longest bar."""
    questions = []
    for group, values in seen.values.items():
        cloud = values[rows]
        shares = homology.persistence_shares(cloud * seen.norms[group])
        for unit in np.argsort(-shares, kind="stable")[:units]:
            questions.append(Question(*group, int(unit), longest_bar(cloud[:, unit])))
    return questions


def log_trees(leaves: int, questions: int, classes: int = 2) -> float:
    """The logarithm of a number that at least as many trees have: of at most ``leaves`` leaves,
    with ``questions`` to choose from at each inner node. (A tree with fewer leaves answers like one
    that asks once more and then says the same on both sides.)

    >>> [round(np.exp(log_trees(leaves, questions=3))) for leaves in (1, 2, 3)]
    [2, 12, 144]
    """
    inner = leaves - 1
    shapes = gammaln(2 * inner + 1) - gammaln(inner + 1) - gammaln(inner + 2)
    return float(shapes + inner * np.log(max(questions, 1)) + leaves * np.log(classes))


def most_errors(wrong: int, texts: int, log_rules: float = 0.0, level: float = LEVEL) -> float:
    """With the probability 1 - ``level``, no more than this part of all texts is answered wrongly
    by a rule that has ``wrong`` errors on ``texts`` drawn ones: the limit of Clopper and Pearson,
    at ``level`` divided by the number of rules that it was chosen from.

    >>> round(most_errors(0, 100), 3), round(most_errors(0, 100, log_rules=np.log(1000)), 3)
    (0.03, 0.094)
    """
    if not 0 <= wrong <= texts or not texts:
        raise ValueError(f"{wrong} errors on {texts} texts: that cannot be")
    if wrong == texts:
        return 1.0
    return float(stats.beta.isf(level * np.exp(-log_rules), wrong + 1, texts - wrong))


def grow(answers: np.ndarray, predicted: np.ndarray, leaves: int) -> DecisionTreeClassifier:
    """A tree of at most ``leaves`` leaves (scikit-learn's, best leaf first, Gini)."""
    return DecisionTreeClassifier(max_leaf_nodes=leaves, random_state=0).fit(answers, predicted)


@dataclass(frozen=True)
class Rules:
    """A tree in the place of a model. ``print`` shows it.

    Attributes:
        tree: scikit-learn's; its features are ``questions``.
        questions: that it could choose from.
        classes: their names.
        grown, wrong: texts that it was grown on, and on how many it disagrees with the model.
        bound: the part of all texts on which it disagrees, at most, by these texts alone.
        held_out: texts that it had no part in.
        fidelity: on how many of these it agrees; ``interval``: of Clopper and Pearson.
        majority: what always saying the model's commonest class would get there.
    """

    tree: DecisionTreeClassifier
    questions: list[Question]
    classes: dict[int, str]
    grown: int
    wrong: int
    bound: float
    held_out: int
    fidelity: float
    interval: tuple[float, float]
    majority: float

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self, node: int = 0) -> list[str]:
        nodes = self.tree.tree_
        if nodes.children_left[node] < 0:
            answer = self.tree.classes_[nodes.value[node, 0].argmax()]
            return [self.classes.get(int(answer), str(answer))]
        low, high = map(self._lines, (nodes.children_left[node], nodes.children_right[node]))
        question = self.questions[nodes.feature[node]]
        return [f"if {question}:", *("    " + line for line in high),
                "else:", *("    " + line for line in low)]  # fmt: skip


def rules(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    held_out: Sequence[Text],
    *,
    leaves: int = 4,
    units: int = TOP,
    cloud: str = DEFAULT_CLOUD,
    level: float = LEVEL,
    seed: int = 0,
    max_length: int | None = None,
    device: str = "auto",
) -> Rules:
    """A small tree over the longest bars of the top units that stands in for a classifier.

    Half of ``texts``, drawn with ``seed``, fixes the units and the cuts; the other half grows the
    tree. No labels are used. The bound asks for texts that the model was not trained on.

    Args:
        texts: strings or pairs of strings, 48 or more.
        held_out: others, on which the tree is judged.
        leaves: of the tree, at most.
        units: of each layer and kind, by their share of the persistence.
        cloud: ``mean`` or ``cls``: what a unit's output for a text is.
        level: the probability that the bound, or that the interval, is wrong.

    Raises:
        ValueError: no classifier, too few texts, or an argument out of range.

    >>> import obce
    >>> model, tokenizer, _ = obce.load_classifier("embedded", "mini-sentiment")
    >>> rows = obce.tasks.load("mini-sentiment", "train", limit=80)
    >>> texts = obce.tasks.texts(rows)
    >>> found = rules(model, tokenizer, texts[:60], texts[60:], leaves=2)
    >>> found.grown, found.held_out, len(found.questions)
    (30, 20, 96)
    """
    check_choice("cloud", cloud, ("mean", "cls"))
    check_positive(units=units)
    if leaves < 2:
        raise ValueError(f"leaves={leaves}: a tree needs at least 2")
    names = {int(number): name for number, name in (model.config.id2label or {}).items()}
    if not hasattr(model, "classifier") or len(names) < 2:
        raise ValueError(f"{type(model).__name__} gives no classes, and rules name one")
    if len(texts) < 4 * FLANK or not len(held_out):
        raise ValueError(
            f"{len(texts)} texts and {len(held_out)} held out: rules need {4 * FLANK} and one"
        )
    options: dict[str, Any] = {"max_length": max_length, "device": device}
    seen = outputs(model, tokenizer, [*texts, *held_out], [cloud], **options)[cloud]
    drawn = np.random.default_rng(seed).permutation(len(texts))
    fixing, growing = drawn[: len(texts) // 2], drawn[len(texts) // 2 :]
    questions = bars(seen, fixing, units)
    answers, model_says = seen.answers(questions), seen.predicted
    tree = grow(answers[growing], model_says[growing], leaves)
    wrong = int(np.sum(tree.predict(answers[growing]) != model_says[growing]))
    log_rules = log_trees(leaves, len(questions), len(names))
    other = slice(len(texts), None)
    agrees = tree.predict(answers[other]) == model_says[other]
    exact = stats.binomtest(int(agrees.sum()), len(agrees)).proportion_ci(1 - level, "exact")
    commonest = np.bincount(model_says[growing]).argmax()
    return Rules(
        tree, questions, names, len(growing), wrong,
        most_errors(wrong, len(growing), log_rules, level), len(agrees), float(agrees.mean()),
        (float(exact.low), float(exact.high)), float(np.mean(model_says[other] == commonest)),
    )  # fmt: skip
