"""The command ``obce explain``: cards of some units, as JSON and as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from obce import tasks
from obce.base import distributed
from obce.base.checks import check_positive
from obce.base.files import replacing
from obce.base.lock import alone_in_out
from obce.base.settings import EXPLAIN_TEXTS, SILENCED_TEXTS, TOP
from obce.explain import Card, cards, page
from obce.explain.card import check_units
from obce.explain.roles import shares_of
from obce.explain.silencing import predictor
from obce.jobs.arguments import Data, Tuning, contents_sha256, named
from obce.jobs.folders import check_out
from obce.jobs.judges import judge_of
from obce.jobs.progress import bars, stage
from obce.running.records import environment, model_name, model_sha256, save_sealed
from obce.units import READS, find_bert, shape_of


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
    judge = judge_of(name, data, Tuning(), device, progress)
    loaded = judge.load(name)
    model = loaded.model if judge.is_ready(loaded) else find_bert(loaded.model)
    rows = judge.sample(texts)
    said, labels = tasks.texts(rows), None
    if judge.task is not None:
        labels = list(rows["label"])
        if judge.task.labels and model is not loaded.model:  # the model knows no names of its own
            labels = [judge.task.labels[label] for label in labels]
    shape = shape_of(model)
    if layer is None or kind is None:
        groups = [group for group in shape.groups() if group[1] in READS.values()]
    else:
        check_units(shape, [(layer, kind, unit or 0)])
        groups = [(layer, kind)]
    options: dict[str, Any] = {"max_length": max_length, "seed": data.seed, "device": device}
    with stage("shares", progress):
        shares = shares_of(model, loaded.tokenizer, said, groups, **options)
    if unit is not None:
        units = [(*groups[0], unit)]
    else:
        every = [(float(s), (*group, u)) for group in groups for u, s in enumerate(shares[group])]
        units = [place for _, place in sorted(every, key=lambda each: -each[0])[: top or TOP]]
    with stage("cards", progress):
        found = cards(
            model, loaded.tokenizer, said, units, labels, cloud=cloud, silenced=silenced,
            shares=shares, progress=bars(progress), **options,
        )  # fmt: skip
    record = {
        "task": judge.title,
        "arguments": {
            "model": named(name), "model_sha256": contents_sha256(name),
            "data": data.as_record(), "cloud": cloud, "texts": len(said), "silenced": silenced,
        },
        "model": model_name(loaded.model),
        "model_sha256": model_sha256(loaded.model),
        "predicts": predictor(model) is not find_bert(model),
        "corpus": judge.corpus(rows),
        "with_a_story": float(np.mean([bool(card.told) for card in found])),
        "cards": [card.as_dict() for card in found],
        "environment": environment(),
    }  # fmt: skip

    def save() -> None:
        out.mkdir(parents=True, exist_ok=True)
        with replacing(out / "cards.html") as part:
            part.write_text(page(found, f"{Path(name).name} on {judge.title}"), encoding="utf-8")
        save_sealed(record, out / "explanation.json")

    distributed.by_main(save)
    return found
