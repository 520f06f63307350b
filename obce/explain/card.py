"""A neuron's card: what a unit does, told by its topology, each claim with its test.

The way of a card: the unit's cloud -> its splits -> the groups' stories, tested -> its part in the
layer -> what happens when it falls silent. Where no split and no story passes, the card says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from obce import homology, plots
from obce.activations import Activations, collect
from obce.base import distributed
from obce.base.checks import check_choice
from obce.base.settings import CLOUDS, EFFECT, LEVEL, SILENCED_TEXTS
from obce.explain import html
from obce.explain.between import redundancy
from obce.explain.points import Points, points_of
from obce.explain.roles import readers, shares_of
from obce.explain.silencing import Silence, matched, predictor, silence
from obce.explain.splits import Split, branches, groups, on_a_line, splits, tree
from obce.explain.stories import Story, stories
from obce.scores import std
from obce.texts import Text, check_texts
from obce.units import Group, Shape, dense_bert, find_bert, shape_of

SHOWN = 5  # points from each tail, of the quantiles and of the random sample
TOLD = 8  # stories that a card names, passed or not
BARS = 12  # of the barcode, the longest
MATCHED = 5  # units, or sets of them, that a silenced one is compared with
NO_STORY = "no story found"


@dataclass
class Card:
    """What is known of one unit; plain values but for ``values``.

    Attributes:
        layer, kind, unit, cloud: which unit, and by which reading of it.
        points, texts: how many made the cloud.
        splits: see :class:`obce.explain.splits.Split`; ``tree``: the same, nested.
        groups: per group its number, size, share of the points, lowest and highest value.
        bars: the longest of the barcode.
        shown: points in context: ``lowest``, ``highest``, ``quantiles``, ``random``; each a dict
            of value, group, text, before, token and after.
        stories: the first claims, told (``passes``) or not; ``asked``: how many there were.
        share, rank, width: the unit's part of the layer's total persistence, and its place, from
            1, among so many units.
        read_by: see :func:`obce.explain.roles.readers`.
        similar: the units that say nearly the same, itself left out.
        silenced: what its silence does, alone and with ``similar``, beside matched units; None if
            that was not asked for.
        values: ``(n,)``, the cloud itself (on a line).
    """

    layer: int
    kind: str
    unit: int
    cloud: str
    points: int
    texts: int
    splits: list[Split]
    tree: int | dict[str, Any]
    groups: list[dict[str, Any]]
    bars: list[float]
    shown: dict[str, list[dict[str, Any]]]
    stories: list[Story]
    asked: int
    share: float
    rank: int
    width: int
    read_by: dict[str, Any]
    similar: list[int]
    silenced: dict[str, Any] | None
    values: np.ndarray = field(repr=False)

    @property
    def told(self) -> list[Story]:
        """The stories that passed, that of the longest bar first."""
        return [story for story in self.stories if story.passes]

    @property
    def summary(self) -> str:
        """One sentence: the story of the longest bar, or that there is none."""
        if not self.splits:
            return f"{NO_STORY}: one group"
        if not self.told:
            return f"{NO_STORY}: {len(self.groups)} groups that follow nothing we asked about"
        best, what = self.told[0], "tokens" if self.cloud == "tokens" else "texts"
        parts = self.groups[best.first : best.last + 1]
        return (
            f"{100 * sum(part['share'] for part in parts):.2g} % of the {what}, with outputs from "
            f"{parts[0]['low']:.3g} to {parts[-1]['high']:.3g}, are {best.follows} "
            f"(effect {best.effect:.2f})"
        )

    @property
    def name(self) -> str:
        return f"layer {self.layer}, {self.kind} {self.unit}"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values: all but the cloud, of which 101 quantiles stay."""
        found = {name: value for name, value in vars(self).items() if name != "values"}
        found["splits"] = [asdict(split) for split in self.splits]
        found["stories"] = [asdict(story) for story in self.stories]
        quantiles = np.quantile(self.values, np.linspace(0, 1, 101)).tolist()
        return {"name": self.name, "summary": self.summary} | found | {"quantiles": quantiles}

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=1, allow_nan=False)

    def figure(self) -> Figure:
        """The cloud with its groups, and the barcode."""
        cuts, long = [s.at for s in self.splits], [s.length for s in self.splits]
        return plots.cloud_and_barcode(self.values, cuts, self.bars, long)

    def to_html(self) -> str:
        """One page that needs no other file."""
        return html.page([self.as_dict()], [self.figure()], self.name)


def neuron(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    layer: int,
    kind: str,
    unit: int,
    labels: Sequence[str | float] | None = None,
    **options: Any,
) -> Card:
    """The card of one unit.

    Args:
        model: a transformers BERT, or a model that holds one; with a classifier's head its
            predictions are watched when units fall silent, else its last hidden states.
        texts: strings, or pairs of strings.
        layer, kind, unit: which.
        labels: one per text: classes as strings or whole numbers, or scores.
        options: as for :func:`cards`.

    Raises:
        ValueError: as :func:`cards`.

    >>> import obce
    >>> model, tokenizer = obce.load_bert()
    >>> texts = [f"{w} film {i}." for i in range(30) for w in ("A good", "No", "The same old")]
    >>> card = neuron(model, tokenizer, texts, 0, "intermediate", 3, silenced=0)
    >>> card.points, card.width, len(card.shown["random"])
    (630, 1536, 5)
    """
    return cards(model, tokenizer, texts, [(layer, kind, unit)], labels, **options)[0]


def layer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    layer: int,
    kind: str,
    labels: Sequence[str | float] | None = None,
    **options: Any,
) -> list[Card]:
    """The cards of all units of one layer and kind, in order; the model is read once.

    Arguments as for :func:`neuron`; ``silenced``, if left out, is 0: each silenced unit takes some
    passes of the model.
    """
    check_units(shape_of(model), [(layer, kind, 0)])
    units = range(shape_of(model).width(kind))
    options = {"silenced": 0} | options
    wanted = [(layer, kind, unit) for unit in units]
    return cards(model, tokenizer, texts, wanted, labels, **options)


def cards(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    units: Sequence[tuple[int, str, int]],
    labels: Sequence[str | float] | None = None,
    *,
    cloud: str = "tokens",
    silenced: int = SILENCED_TEXTS,
    shares: dict[Group, np.ndarray] | None = None,
    level: float = LEVEL,
    effect: float = EFFECT,
    max_length: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool = False,
) -> list[Card]:
    """The cards of some units.

    Args:
        units: (layer, kind, unit) of each.
        labels: one per text. Whole numbers are classes, by the model's own names where it has as
            many.
        cloud: ``tokens``, ``mean``, ``cls`` or ``texts``.
        silenced: the first so many texts are run again without each unit; 0 for none.
        shares: what :func:`obce.explain.roles.shares_of` has given before.
        level, effect: what a split and a story need, at most and at least.
        max_length: tokens to which texts are cut; 64, if left out.

    Raises:
        ValueError: no BERT, too few texts, an unknown layer, kind, unit or cloud, or labels that
            are not one per text.
    """
    check_choice("cloud", cloud, CLOUDS)
    check_texts(texts)
    shape, texts = shape_of(model), list(texts)
    check_units(shape, units)
    if labels is not None and len(labels) != len(texts):
        raise ValueError(f"labels are one per text: {len(labels)} for {len(texts)} texts")
    classes = _named(labels, model)
    groups_of = list(dict.fromkeys((number, kind) for number, kind, _ in units))
    missing = [group for group in groups_of if group not in (shares or {})]
    reading: dict[str, Any] = {"max_length": max_length, "device": device}
    shares = dict(shares or {}) | shares_of(model, tokenizer, texts, missing, seed=seed, **reading)
    found: dict[tuple[int, str, int], Card] = {}
    bar = distributed.bar(progress, total=len(units), desc="cards", unit="unit", leave=False)
    with bar, collect(
        model, tokenizer, texts, clouds=tuple({"tokens", cloud}),
        kinds=tuple({kind for _, kind in groups_of}),
        layers=sorted({number for number, _ in groups_of}),
        progress=progress, **reading,
    ) as activations:  # fmt: skip
        points = points_of(activations, tokenizer, cloud)
        for group in groups_of:
            desk = _Desk(model, activations, points, group, classes, labels, shares, seed, device)
            for unit in [unit for *address, unit in units if tuple(address) == group]:
                found[(*group, unit)] = desk.card(unit, cloud, silenced, level, effect)
                bar.update()
    return [found[unit] for unit in units]


def check_units(shape: Shape, units: Sequence[tuple[int, str, int]]) -> None:
    """ValueError for units that a BERT of this shape does not have, or for none at all."""
    if not units:
        raise ValueError("no units: name at least one")
    for layer, kind, unit in units:
        if not 0 <= layer < shape.layers:
            raise ValueError(f"no layer {layer}: this model has {shape.layers}, from 0")
        check_choice("kind", kind, shape.full)
        if not 0 <= unit < shape.width(kind):
            raise ValueError(f"no {kind} unit {unit}: there are {shape.width(kind)}, from 0")


def _named(labels: Sequence[Any] | None, model: PreTrainedModel) -> list[str | float] | None:
    """Labels as a story tells them: classes by name, and the numbers of a regression."""
    if labels is None or isinstance(labels[0], str):
        return labels if labels is None else list(labels)
    if any(label != int(label) for label in labels):
        return [float(label) for label in labels]
    names = dict(getattr(model.config, "id2label", None) or {})
    headed = find_bert(model) is not model and len(names) > max(labels)
    return [str(names[int(label)]) if headed else str(int(label)) for label in labels]


class _Desk:
    """Where the cards of one layer and kind are written: what they share is at hand."""

    def __init__(
        self, model: PreTrainedModel, activations: Activations, points: Points, group: Group,
        classes: Sequence[str | float] | None, labels: Sequence[Any] | None,
        shares: dict[Group, np.ndarray], seed: int, device: str,
    ):  # fmt: skip
        self.model, self.activations, self.points, self.group = model, activations, points, group
        self.classes, self.labels, self.seed, self.device = classes, labels, seed, device
        self.bert = dense_bert(model)
        self.outputs = activations.cloud(*group, "tokens")  # (units, tokens)
        self.shares = shares[group]
        self.spread = std(self.outputs)
        self.alike = redundancy(self.outputs.T).labels

    def card(self, unit: int, cloud: str, silenced: int, level: float, effect: float) -> Card:
        values, found = self._cloud(unit, cloud, level)
        parts = groups(values, found)
        told = stories(
            self.points, parts, branches(found), self.classes, level=level, effect=effect,
            seed=self.seed,
        )  # fmt: skip
        similar = [int(u) for u in np.flatnonzero(self.alike == self.alike[unit]) if u != unit]
        return Card(
            *self.group, unit, cloud, len(values), len(self.activations), found, tree(found),
            _described(values, parts), homology.h0_deaths(values)[: -BARS - 1 : -1].tolist(),
            self._shown(values, parts), told[:TOLD], len(told),
            float(self.shares[unit]), int((self.shares > self.shares[unit]).sum()) + 1,
            len(self.shares), readers(self.bert, self.group, unit), similar,
            self._silenced(unit, similar, silenced) if silenced else None, values,
        )  # fmt: skip

    def _cloud(self, unit: int, cloud: str, level: float) -> tuple[np.ndarray, list[Split]]:
        if cloud == "tokens":
            return self.outputs[unit], splits(self.outputs[unit], level)
        points = self.activations.cloud(*self.group, cloud, slice(unit, unit + 1))[0]
        if cloud != "texts":
            return points, splits(points, level)
        values, held_out = on_a_line(points, self.seed)
        return values, splits(values[held_out], level)

    def _shown(self, values: np.ndarray, parts: np.ndarray) -> dict[str, list[dict[str, Any]]]:
        order = np.argsort(values, kind="stable")
        count = min(SHOWN, len(order))
        even = np.linspace(0, len(order) - 1, count + 2).round().astype(int)[1:-1]
        places = {
            "lowest": order[:count],
            "highest": order[::-1][:count],
            "quantiles": order[even],
            "random": np.random.default_rng(self.seed).permutation(len(order))[:count],
        }
        return {
            name: [self._in_context(int(point), values, parts) for point in chosen]
            for name, chosen in places.items()
        }

    def _in_context(self, point: int, values: np.ndarray, parts: np.ndarray) -> dict[str, Any]:
        before, token, after = self.points.context(point)
        return {
            "value": float(values[point]), "group": int(parts[point]),
            "text": int(self.points.text[point]), "before": before, "token": token, "after": after,
        }  # fmt: skip

    def _silenced(self, unit: int, similar: list[int], texts: int) -> dict[str, Any]:
        """The unit alone and with those alike, each beside sets of others as strong."""
        together = [unit, *similar]
        alone = matched(self.spread, [unit], MATCHED)
        others = matched(self.spread, together, MATCHED) if similar else []
        sets = [[unit], *alone, *([together] if similar else []), *others]
        encodings = self.activations.encodings[:texts]
        dense, *runs = silence(
            self.model, encodings, self.group, sets, self.activations.medians(*self.group),
            self.device,
        )  # fmt: skip
        found = {"texts": len(encodings), "alone": self._beside(dense, runs[: 1 + len(alone)])}
        if similar:
            found["together"] = self._beside(dense, runs[1 + len(alone) :])
        most = np.argsort(-runs[0].divergence, kind="stable")[:SHOWN]
        found["most_moved"] = [
            {
                "text": int(t), "divergence": float(runs[0].divergence[t]),
                "before": float(dense.prediction[t]), "after": float(runs[0].prediction[t]),
                "said": self._whole(int(t)),
            }
            for t in most
        ]  # fmt: skip
        return found

    def _whole(self, text: int) -> str:
        return " ".join(self.points.pieces[text][1:-1]).replace(" ##", "")

    def _beside(self, dense: Silence, runs: list[Silence]) -> dict[str, Any]:
        """The first run in numbers, beside those of the others."""
        own, *others = (self._numbers(dense, run) for run in runs)
        more = sum(own["divergence"] > other["divergence"] for other in others)
        return {"units": list(runs[0].units), **own, "matched": others, "more_than": more}

    def _numbers(self, dense: Silence, run: Silence) -> dict[str, Any]:
        found = {"divergence": float(run.divergence.mean())}
        if predictor(self.model) is find_bert(self.model):
            return found
        if self.model.config.num_labels == 1:
            return found | {"change": float(np.abs(run.prediction - dense.prediction).mean())}
        found["changed"] = float((run.prediction != dense.prediction).mean())
        if self.labels is not None and not isinstance(self.labels[0], str):
            right = np.asarray(self.labels[: len(dense.prediction)])
            found["accuracy"] = float((run.prediction == right).mean())
            found["accuracy_before"] = float((dense.prediction == right).mean())
        return found


def _described(values: np.ndarray, parts: np.ndarray) -> list[dict[str, Any]]:
    return [
        {
            "group": group, "size": int(inside.sum()), "share": float(inside.mean()),
            "low": float(values[inside].min()), "high": float(values[inside].max()),
        }
        for group in range(int(parts.max()) + 1)
        for inside in [parts == group]
    ]  # fmt: skip


def page(found: Sequence[Card], title: str) -> str:
    """All cards on one HTML page that needs no other file."""
    return html.page([card.as_dict() for card in found], [c.figure() for c in found], title)
