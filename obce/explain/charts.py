"""The atlas: all units of an encoder at a glance, each unit's card a click away.

For each layer and kind: which part of the layer's persistence each unit has, into how many groups
its outputs fall, whether a story was told, what a plan keeps, and where the unit stands in other
models (before the fine-tuning, after the cut).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from obce import plots
from obce.base import distributed
from obce.base.files import replacing
from obce.base.settings import DEFAULT_KINDS
from obce.explain import atlas_page
from obce.explain.card import Card, layer
from obce.explain.roles import shares_of
from obce.pruning import Plan
from obce.texts import Text
from obce.units import shape_of

CHUNK = 64  # cards in a file, so that a page reads little at a time
SEEN = 3  # points that a card of the atlas shows of each end, and at random


@dataclass
class Chart:
    """One layer and kind.

    Attributes:
        layer, kind: which.
        shares: ``(units,)``: parts of the layer's total persistence, which sum to 1.
        groups: ``(units,)``: into how many groups the barcode falls.
        stories: per unit what its longest bar follows; "" where no story was told.
        effects: ``(units,)``: of that story, 0 without one.
        kept: ``(units,)`` bool: what a plan keeps; None without a plan.
        others: name -> ``(units,)``: shares in other models, NaN for units that these lack.
    """

    layer: int
    kind: str
    shares: np.ndarray
    groups: np.ndarray
    stories: list[str]
    effects: np.ndarray
    kept: np.ndarray | None = None
    others: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def numbers(self) -> dict[str, Any]:
        """Units, the fraction with several groups and that with a story; of a plan the fraction of
        the units that it keeps, that of the persistence, and that of the stories; per other model
        Spearman's correlation of the shares of the units that both have."""
        told = np.array([bool(story) for story in self.stories])
        found: dict[str, Any] = {
            "layer": self.layer,
            "kind": self.kind,
            "units": len(self.shares),
            "several groups": float((self.groups > 1).mean()),
            "with a story": float(told.mean()),
        }
        if self.kept is not None:
            found["kept"] = float(self.kept.mean())
            found["persistence kept"] = float(self.shares[self.kept].sum())
            found["stories kept"] = float(self.kept[told].mean()) if told.any() else None
        for name, shares in self.others.items():
            both = np.isfinite(shares)
            enough = both.sum() > 2 and np.ptp(shares[both]) > 0 and np.ptp(self.shares[both]) > 0
            r = spearmanr(self.shares[both], shares[both]).statistic if enough else None
            found[f"ranks as in {name}"] = r if r is None else float(r)
        return found


@dataclass
class Atlas:
    """All layers and kinds that were asked for, from the first layer on."""

    title: str
    charts: list[Chart]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The numbers of each chart."""
        return [chart.numbers for chart in self.charts]

    def figure(self) -> Figure:
        """The fractions, layer by layer, for print."""
        return plots.atlas(self.rows)

    def save(self, folder: str | Path) -> None:
        """Write ``atlas.html`` beside the cards: it needs no server."""
        with replacing(Path(folder) / "atlas.html") as part:
            part.write_text(atlas_page.page(self._data(), self.rows), encoding="utf-8")

    def _data(self) -> dict[str, Any]:
        stories = sorted({story for chart in self.charts for story in chart.stories})
        number = {story: place for place, story in enumerate(stories)}
        others = list(self.charts[0].others) if self.charts else []
        return {
            "title": self.title,
            "chunk": CHUNK,
            "stories": stories,
            "others": others,
            "charts": [
                {
                    "layer": chart.layer,
                    "kind": chart.kind,
                    "rank": ranks(chart.shares),
                    "groups": chart.groups.tolist(),
                    "story": [number[story] for story in chart.stories],
                    "effect": [round(100 * effect) for effect in chart.effects.tolist()],
                    "kept": chart.kept if chart.kept is None else chart.kept.astype(int).tolist(),
                    "moved": [ranks(chart.others[name]) for name in others],
                }
                for chart in self.charts
            ],
        }


def ranks(shares: np.ndarray) -> list[int]:
    """From 1, the largest share first; 0 for units that are not there.

    >>> ranks(np.array([0.1, np.nan, 0.7, 0.2]))
    [3, 0, 1, 2]
    """
    place = np.zeros(len(shares), dtype=int)
    there = np.flatnonzero(np.isfinite(shares))
    place[there[np.argsort(-shares[there], kind="stable")]] = np.arange(1, len(there) + 1)
    return place.tolist()


def atlas(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    labels: Sequence[str | float] | None = None,
    *,
    kinds: Sequence[str] = DEFAULT_KINDS,
    layers: Sequence[int] | None = None,
    plan: Plan | None = None,
    others: Mapping[str, PreTrainedModel] | None = None,
    folder: str | Path | None = None,
    title: str = "Atlas",
    progress: bool = False,
    **options: Any,
) -> Atlas:
    """Chart all units of some kinds.

    Args:
        model: a transformers BERT, or a model that holds one.
        texts, labels: as for :func:`obce.explain.card.cards`.
        kinds, layers: which units; all layers, if left out.
        plan: marks what it keeps. It also says which units those of a compressed model are.
        others: models of the same shape to compare ranks with, or compressed ones cut to ``plan``.
        folder: where the cards are written, in chunks, together with the page; nowhere, if left
            out. They are many: tens of megabytes for a small model.
        options: ``max_length``, ``seed``, ``device``, ``level`` and ``effect``, as for ``cards``.

    Raises:
        ValueError: as :func:`obce.explain.card.cards`; a plan for another shape, or a compressed
            model without one.

    >>> import obce
    >>> model, tokenizer = obce.load_bert()
    >>> texts = [f"{word} film {i}." for i in range(9) for word in ("A good", "No", "The old")]
    >>> found = atlas(model, tokenizer, texts, kinds=["value"], layers=[0])
    >>> found.rows[0]["units"], len(found.charts[0].stories)
    (384, 384)
    """
    shape, texts = shape_of(model), list(texts)
    if plan is not None:
        plan.check(model)
    wanted = [
        (number, kind)
        for number in (range(shape.layers) if layers is None else layers)
        for kind in kinds
    ]
    reading = {name: options[name] for name in ("max_length", "seed", "device") if name in options}
    shares = shares_of(model, tokenizer, texts, wanted, **reading)
    moved = {
        name: shares_of(other, tokenizer, texts, wanted, **reading)
        for name, other in (others or {}).items()
    }
    charts = []
    for number, kind in distributed.bar(progress, wanted, desc="atlas", unit="chart"):
        group = number, kind
        cards = layer(model, tokenizer, texts, number, kind, labels, shares=shares, **options)
        if folder is not None:
            _write(Path(folder), cards)
        kept = None if plan is None else np.isin(np.arange(len(cards)), plan.kept[group])
        told = [card.told[0] if card.told else None for card in cards]
        charts.append(
            Chart(
                number,
                kind,
                shares[group],
                np.array([len(card.groups) for card in cards]),
                ["" if story is None else story.follows for story in told],
                np.array([0.0 if story is None else story.effect for story in told]),
                kept,
                {name: _placed(each[group], kept, len(cards)) for name, each in moved.items()},
            )
        )
    found = Atlas(title, charts)
    if folder is not None:
        found.save(folder)
    return found


def _placed(shares: np.ndarray, kept: np.ndarray | None, units: int) -> np.ndarray:
    """The shares of another model by the numbers of the dense model's units."""
    if len(shares) == units:
        return shares
    if kept is None or kept.sum() != len(shares):
        raise ValueError(
            f"a model with {len(shares)} of {units} units: give the plan that it was cut to"
        )
    found = np.full(units, np.nan)
    found[kept] = shares
    return found


def _write(folder: Path, cards: list[Card]) -> None:
    """Files of JavaScript that hand a chunk of cards to the page: a page that was opened from a
    folder may read scripts, but no other files."""
    (folder / "cards").mkdir(parents=True, exist_ok=True)
    for start in range(0, len(cards), CHUNK):
        first = cards[start]
        name = f"{first.layer}-{first.kind}-{start // CHUNK}"
        slim = json.dumps([_slim(card) for card in cards[start : start + CHUNK]], allow_nan=False)
        with replacing(folder / "cards" / f"{name}.js") as part:
            part.write_text(f"obceCards({json.dumps(name)},{slim});\n", encoding="utf-8")


def _slim(card: Card) -> dict[str, Any]:
    """What the page shows of a card."""
    read_by = card.read_by
    return {
        "name": card.name,
        "summary": card.summary,
        "role": f"{100 * card.share:.2g} % of the layer's persistence, rank {card.rank} of "
        f"{card.width}. {len(card.similar)} other units say nearly the same. Read by "
        f"{read_by['by']}, most by {read_by['to']}: "
        f"{', '.join(f'{to} ({weight:+.2f})' for to, weight in read_by['strongest']) or 'none'}.",
        "groups": [
            [each["group"], each["size"], f"{each['low']:.3g} to {each['high']:.3g}"]
            for each in card.groups
        ],
        "stories": [
            [
                "told" if story.passes else "not told", f"{story.first} to {story.last}",
                story.follows, f"{story.effect:.2f}", f"{story.p:.2g}",
            ]
            for story in card.stories[:SEEN]
        ],
        "shown": {
            name: [
                [f"{row['value']:.3g}", row["before"], row["token"], row["after"]]
                for row in rows[:SEEN]
            ]
            for name, rows in card.shown.items()
            if name != "quantiles"
        },
    }  # fmt: skip
