"""``obce explain``: cards of some units, as JSON and one HTML page; ``obce atlas``: all units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from obce import plots, tasks
from obce.base import distributed
from obce.base.checks import check_choice, check_positive
from obce.base.files import replacing
from obce.base.lock import alone_in_out
from obce.base.settings import DEFAULT_KINDS, EXPLAIN_TEXTS, KINDS, SILENCED_TEXTS, TOP
from obce.explain import Atlas, Card, atlas, cards, page
from obce.explain.card import check_units
from obce.explain.roles import shares_of
from obce.explain.silencing import predictor
from obce.jobs.arguments import Data, Tuning, as_named, contents_sha256, named
from obce.jobs.folders import check_out
from obce.jobs.judges import judge_of
from obce.jobs.progress import bars, stage
from obce.pruning import Plan
from obce.running.loading import load_model
from obce.running.records import environment, model_name, model_sha256, save_sealed
from obce.units import READS, Shape, find_bert, is_compressed, shape_of


@alone_in_out
def explain_job(
    name: str,
    out: Path,
    data: Data,
    *,
    layer: int | None = None,
    kind: str | None = None,
    unit: int | None = None,
    top: int | None = None,
    cloud: str = "tokens",
    texts: int = EXPLAIN_TEXTS,
    silenced: int = SILENCED_TEXTS,
    max_length: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> list[Card]:
    """Write the cards of one unit, or of those with the largest shares.

    Writes ``explanation.json`` (the record, with the cards) and ``cards.html`` into ``out``.

    Args:
        layer, kind, unit: which unit; without ``unit`` the ``top`` units of that layer and kind,
            without both of the whole encoder (value and intermediate units).
        texts: training texts that are read.

    Returns:
        the cards, the largest share first.

    Raises:
        ValueError: half an address, units that there are not, bad data.
    """
    if (layer is None) != (kind is None) or unit is not None and layer is None:
        raise ValueError("name a unit by --layer, --kind and --unit, or a layer by the first two")
    if unit is not None and top is not None:
        raise ValueError("top chooses among units: leave it out beside --unit")
    check_positive(texts=texts, top=TOP if top is None else top)
    data.check()
    check_out(name, out, ("explanation.json", "cards.html"))
    source = _Source(name, data, texts, device, progress)
    model, tokenizer, said, labels = source.model, source.tokenizer, source.texts, source.labels
    shape = shape_of(model)
    if layer is None or kind is None:
        groups = [group for group in shape.groups() if group[1] in READS.values()]
    else:
        check_units(shape, [(layer, kind, unit or 0)])
        groups = [(layer, kind)]
    options: dict[str, Any] = {"max_length": max_length, "seed": data.seed, "device": device}
    with stage("shares", progress):
        shares = shares_of(model, tokenizer, said, groups, **options)
    if unit is not None:
        units = [(*groups[0], unit)]
    else:
        every = [(float(s), (*group, u)) for group in groups for u, s in enumerate(shares[group])]
        units = [place for _, place in sorted(every, key=lambda each: -each[0])[: top or TOP]]
    with stage("cards", progress):
        found = cards(
            model, tokenizer, said, units, labels, cloud=cloud, silenced=silenced,
            shares=shares, progress=bars(progress), **options,
        )  # fmt: skip
    record = source.record(cloud=cloud, silenced=silenced) | {
        "with_a_story": float(np.mean([bool(card.told) for card in found])),
        "cards": [card.as_dict() for card in found],
    }

    def save() -> None:
        out.mkdir(parents=True, exist_ok=True)
        with replacing(out / "cards.html") as part:
            part.write_text(page(found, source.title), encoding="utf-8")
        save_sealed(record, out / "explanation.json")

    distributed.by_main(save)
    return found


@alone_in_out
def atlas_job(
    name: str,
    out: Path,
    data: Data,
    *,
    kinds: Sequence[str] = DEFAULT_KINDS,
    plan_file: str | None = None,
    before: str | None = None,
    after: str | None = None,
    texts: int = EXPLAIN_TEXTS,
    max_length: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Atlas:
    """Write the atlas of a model: ``atlas.html``, the cards beside it, ``atlas.png`` and
    ``atlas.json`` (the record) into ``out``.

    Args:
        kinds: of the units.
        plan_file: a plan whose units are marked.
        before, after: models to compare ranks with: of the same shape, or compressed to the plan.

    Raises:
        ValueError: an unknown kind, a plan or a model that does not fit, bad data.
    """
    for kind in kinds:
        check_choice("kind", kind, KINDS)
    check_positive(texts=texts)
    data.check()
    check_out(name, out, ("atlas.html", "atlas.json"))
    source = _Source(name, data, texts, device, progress)
    plan = None if plan_file is None else Plan.load(plan_file)
    if plan is not None:
        plan.check(source.model)
    beside = {"before": before, "after": after}
    others = {which: find_bert(load_model(other).model) for which, other in beside.items() if other}
    for which, other in others.items():
        if Shape.of(other.config) != shape_of(source.model):
            raise ValueError(f"{which}: {beside[which]} is a BERT of another shape")
        if is_compressed(other) and plan is None:
            raise ValueError(f"{which}: {beside[which]} is compressed: give the plan of the cut")
    out.mkdir(parents=True, exist_ok=True)
    found = atlas(
        source.model, source.tokenizer, source.texts, source.labels, kinds=kinds, plan=plan,
        others=others, folder=out, title=source.title, progress=bars(progress),
        max_length=max_length, seed=data.seed, device=device,
    )  # fmt: skip
    record = source.record(
        kinds=list(kinds),
        **{key: None if file is None else named(file) for key, file in beside.items()},
        plan=None if plan_file is None else as_named(plan_file),
    )

    def save() -> None:
        plots.save(found.figure(), out / "atlas.png")
        save_sealed(record | {"charts": found.rows}, out / "atlas.json")

    distributed.by_main(save)
    return found


class _Source:
    """A model and the texts that it reads, with labels by the names that a story tells them by."""

    def __init__(self, name: str, data: Data, texts: int, device: str, progress: bool):
        self.name, self.data = name, data
        self.judge = judge_of(name, data, Tuning(), device, progress)
        self.loaded = self.judge.load(name)
        whole, self.tokenizer = self.loaded.model, self.loaded.tokenizer
        self.model = whole if self.judge.is_ready(self.loaded) else find_bert(whole)
        self.rows = self.judge.sample(texts)
        self.texts, self.labels = tasks.texts(self.rows), None
        task = self.judge.task
        if task is not None:
            self.labels = list(self.rows["label"])
            if task.labels and self.model is not whole:  # the model knows no names of its own
                self.labels = [task.labels[label] for label in self.labels]

    @property
    def title(self) -> str:
        return f"{Path(self.name).name} on {self.judge.title}"

    def record(self, **arguments: Any) -> dict[str, Any]:
        return {
            "task": self.judge.title,
            "arguments": {
                "model": named(self.name), "model_sha256": contents_sha256(self.name),
                "data": self.data.as_record(), "texts": len(self.texts), **arguments,
            },
            "model": model_name(self.loaded.model),
            "model_sha256": model_sha256(self.loaded.model),
            "predicts": predictor(self.model) is not find_bert(self.model),
            "corpus": self.judge.corpus(self.rows),
            "environment": environment(),
        }  # fmt: skip
