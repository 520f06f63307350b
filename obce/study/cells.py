"""One cell: score, cut, repair, fine-tune again, judge; and what the record says of it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel

from obce.pruning import Plan, plan
from obce.repairs import repair
from obce.study import measures
from obce.study.config import DROP_LAYERS, FIRST_FLOOR, FIRST_HEADS, NONE, Cell, plain
from obce.study.dense import tune
from obce.study.group import Group
from obce.study.layers import drop_layers
from obce.study.rivals import swapped
from obce.surgery import cut
from obce.units import Group as Units
from obce.units import count_parameters

LAYER_TEXTS = 256  # on which subsets of layers are compared


class _Clock:
    """Seconds of each phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)


def run_cell(group: Group, cell: Cell, work: Path) -> dict[str, Any]:
    """Run a cell and return its record, as plain JSON.

    Args:
        work: a folder for what fine-tuning writes meanwhile.
    """
    settings, clock = cell.settings, _Clock()
    source = group.before if "order" in settings else group
    more: dict[str, Any] = {}
    if settings["score"] == DROP_LAYERS:
        with clock.phase("score"):
            small, info = _without_layers(source, settings)
    else:
        with clock.phase("score"):
            scores = source.scores(settings)
            info = dict(scores.info)
        with clock.phase("cut"):
            chosen = _plan(source, scores, settings)
            small = cut(source.model, chosen)
        with clock.phase("compare"):
            more["spearman_std"] = rank_correlation(scores, source.spread, settings)
            if "stability" in settings:
                one, other = (source.scores({**settings, "half": half}) for half in (0, 1))
                more["spearman_halves"] = rank_correlation(one, other, settings)
        if settings["repair"] != NONE:
            with clock.phase("repair"):
                more["repair"] = _repair(source, small, chosen, settings)
    if settings["again"]:
        with clock.phase("finetune"):
            _finetune(group, small, settings, work)
    with clock.phase("judge"):
        judged = _judge(group, small, settings["dev_limit"])
    return {
        "settings": plain(settings),
        "score": info,
        **judged,
        **_size(group, small),
        **more,
        "dense": group.short,
        "seconds": clock.seconds | {"total": round(sum(clock.seconds.values()), 2)},
    }


def _plan(group: Group, scores: Any, settings: dict[str, Any]) -> Plan:
    names = ("keep_encoder", "level", "heads")
    target: dict[str, Any] = {"heads": FIRST_HEADS[settings["scope"]]}
    target |= {name: settings[name] for name in names if name in settings}
    if settings["scope"] == "global":
        target["floor"] = settings.get("floor", FIRST_FLOOR)
    kinds = settings["kinds"].split(",")
    chosen = plan(group.model, scores, kinds=kinds, scope=settings["scope"], **target)
    if settings["score"] != "swaps":
        return chosen
    options = {name: settings[name] for name in ("covariance", "metric")}
    return swapped(chosen, group.readings(settings), **options)


def _repair(
    group: Group, small: PreTrainedModel, chosen: Plan, settings: dict[str, Any]
) -> dict[str, Any]:
    """Repair in place; the errors before and after, each as the mean over the maps."""
    corpus, method = group.corpus(settings), settings["repair"]
    if method == "least_squares":
        options = {name: settings[name] for name in ("ridge", "weighting")}
        options["calibration"] = group.calibration(settings)
    else:
        options = {"texts": corpus.texts, "tokenizer": group.tokenizer}
        options["max_length"] = settings["max_length"]
    fits = repair(group.model, small, chosen, method=method, device=group.device, **options)
    found: dict[str, Any] = {"texts": len(corpus.texts), "data_sha256": corpus.sha256}
    if fits:
        rows = [asdict(fit) for fit in fits]
        found |= {n: float(np.mean([row[n] for row in rows])) for n in ("before", "after")}
        found["ridges"] = sorted({row["ridge"] for row in rows})
    return found


def _without_layers(
    group: Group, settings: dict[str, Any]
) -> tuple[PreTrainedModel, dict[str, Any]]:
    texts = group.corpus(settings).texts[:LAYER_TEXTS]
    if isinstance(texts[0], str):
        columns = {"sentence": texts}
    else:
        columns = {f"sentence{i + 1}": [pair[i] for pair in texts] for i in (0, 1)}
    return drop_layers(group, settings["keep_encoder"], Dataset.from_dict(columns))


def _finetune(group: Group, small: PreTrainedModel, settings: dict[str, Any], work: Path) -> None:
    teacher = None if settings["teacher"] == NONE else group.model
    with tempfile.TemporaryDirectory(dir=work) as folder:
        tune(
            small, group.tokenizer, group.task.name, Path(folder), group.recipe,
            settings["again"], group.seed, group.limit, device=group.device, teacher=teacher,
        )  # fmt: skip


def _judge(group: Group, small: PreTrainedModel, dev_limit: int) -> dict[str, Any]:
    dense, logits = group.dense_predictions(dev_limit), group.predict(small, group.dev(dev_limit))
    rows = measures.divergences(dense, logits)
    metrics = group.metrics(logits, dev_limit)
    return {
        "metrics": metrics,
        "metric": next(iter(metrics)),
        "divergence": float(rows.mean()),
        "divergence_interval": measures.interval(rows),
        "agreement": measures.agreement(dense, logits),
        "rows": {
            "divergence": measures.pack_divergences(rows),
            "predictions": measures.pack_predictions(logits),
        },
    }


def _size(group: Group, small: PreTrainedModel) -> dict[str, Any]:
    """What is left, of all parameters and of the encoder's."""
    dense, left = count_parameters(group.model), count_parameters(small)
    return {
        "parameters": {"total": left.total, "encoder": left.encoder},
        "keep_total": round(left.total / dense.total, 5),
        "keep_encoder": round(left.encoder / dense.encoder, 5),
    }


def rank_correlation(
    one: Mapping[Units, np.ndarray], other: Mapping[Units, np.ndarray], settings: dict[str, Any]
) -> float | None:
    """Spearman's between two scores of the units that are cut, in the mean over groups of units."""
    kinds = settings["kinds"].split(",")
    found = [
        measures.rank_correlation(values, other[units])
        for units, values in one.items()
        if units[1] in kinds and units in other
    ]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None
