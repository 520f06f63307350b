"""Which layers carry what, and how steady the order of their units is: the record of the chapter
"Layer by layer".

    python results/layers.py FOLDER

FOLDER holds the embedded model as fine-tuned on SST-2, as this makes it: `obce finetune embedded
--task sst2 --epochs 2 --learning-rate 1e-4 --bf16`. Beside it stand the pretrained encoder and one
with random weights. Three draws of 512 sentences of SST-2's training set, each in two halves of
256; no two have a sentence in common. GLUE comes from the folder OBCE_GLUE_DIR, or else from the
Hub. Takes some eight minutes of one core. The scores are kept in out/layers: what lies there is not
computed again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy.special import softmax
from scipy.stats import spearmanr
from transformers import BertForSequenceClassification

import obce
from obce import tasks
from obce.running.records import environment, model_sha256, save_sealed
from obce.scores import Scores
from obce.units import Group

RECORD = Path(__file__).parent / "layers.json"
KEPT = Path("out/layers")
DRAWS, HALF, POINTS, KEEP, LAYERS = range(3), 256, 1024, 0.465, range(6)
MODELS = ("random weights", "pretrained", "fine-tuned")
PLANNED = ("merge radius", "std × norm", "persistence share", "second order")
# Sums of these have a meaning: what a layer has is divided among its units.
DIVIDED = ("std × norm", "persistence share", "persistence share, loss", "second order")
QUIET = 0.01  # of the median of a layer and kind: a standard deviation below it is none


def halves() -> list[list[str]]:
    """Two for each draw: sentences of at least six words, since the set also holds phrases."""
    texts = dict.fromkeys(tasks.texts(tasks.load("sst2", "train")))
    long = [text for text in texts if len(text.split()) >= 6]
    order = np.random.default_rng(0).permutation(len(long))
    count = 2 * len(DRAWS)
    return [[long[i] for i in part] for part in order[: count * HALF].reshape(count, HALF)]


def load(name: str, folder: str, draw: int) -> Any:
    """A model and its tokenizer. Each draw has its own random weights, or a new head of its own."""
    if name == "fine-tuned":
        return obce.load_classifier(folder, "sst2")[:2]
    if name == "embeddings":
        return obce.load_bert()
    model, tokenizer, _ = obce.load_classifier("embedded", "sst2", seed=draw)
    if name == "random weights":
        torch.manual_seed(draw)
        model = BertForSequenceClassification(model.config)
    return model, tokenizer


def felt(readings: obce.Readings) -> Scores:
    """What predictions feel of each unit's outputs, and of each pair's, as `read` measures it."""
    found = obce.score(readings, "rms", metric="loss")
    pairs = {(layer, "query"): row for layer, row in readings.pairs.items()}
    return Scores({group: np.square(row) for group, row in found.items()} | pairs)


def scored(name: str, model: Any, tokenizer: Any, texts: list[str]) -> dict[str, Scores]:
    """All that the chapter asks of a model. Of embeddings, only what they feel."""
    whole = name != "embeddings"
    readings = obce.read(model, tokenizer, texts, points=POINTS, moments=whole, loss=True)
    found = {"felt": felt(readings)}
    if not whole:
        return found
    with obce.collect(model, tokenizer, texts, clouds=["mean"]) as activations:
        for key, score in (("merge radius", "merge_radius"), ("std", "std")):
            found[key] = obce.score(activations, score, cloud="mean")
    found["std × norm"] = obce.score(readings, "std", metric="norm")
    found["persistence share"] = obce.score(readings, "persistence_share", metric="norm")
    found["persistence share, loss"] = obce.score(readings, "persistence_share", metric="loss")
    found["second order"] = obce.score(readings, "second_order")
    for layer in LAYERS:  # a pair has one score
        del found["second order"][layer, "key"]
    return found


def kept_or_scored(name: str, folder: str, half: int, texts: list[str]) -> dict[str, Scores]:
    """The scores of one model on one half, from out/layers if they lie there."""
    place, done = KEPT / f"{name}, half {half}", "felt.safetensors"
    if not (place / done).is_file():
        place.mkdir(parents=True, exist_ok=True)
        found = scored(name, *load(name, folder, half // 2), texts)
        for key in sorted(found, key=lambda key: f"{key}.safetensors" == done):  # this one last
            found[key].save(place / f"{key}.safetensors")
        print(place, flush=True)
    return {path.stem: Scores.load(path) for path in sorted(place.glob("*.safetensors"))}


def span(values: Sequence[float]) -> list[float]:
    """Median, least and greatest, to four digits."""
    return [float(f"{f(values):.4g}") for f in (np.median, np.min, np.max)]


def by_layer(
    run: Mapping[Group, Any], measure: Callable[[Group], Sequence[float]]
) -> dict[str, Any]:
    """For each kind that a score knows one span per layer."""
    kinds = sorted({kind for _, kind in run})
    return {kind: [span(measure((layer, kind))) for layer in LAYERS] for kind in kinds}


def alike(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation."""
    return float(spearmanr(first, second).statistic)


def effective(row: np.ndarray) -> float:
    """Participation ratio: how many equal units would share as unequally as these."""
    row = row.astype(np.float64)
    return float(row.sum() ** 2 / np.square(row).sum())


def ninety(row: np.ndarray) -> float:
    """The part of the units that hold 90 % together, the largest first."""
    held = np.cumsum(np.sort(row.astype(np.float64))[::-1])
    return float((np.sum(held < 0.9 * held[-1]) + 1) / len(row))


def of_score(key: str, runs: list[Scores]) -> dict[str, Any]:
    """One score of one model: its sizes, and how alike the two halves of each draw are."""
    pairs, power = list(zip(runs[::2], runs[1::2], strict=True)), 2 if key == "std × norm" else 1

    def each(measure: Callable[[np.ndarray], float]) -> dict[str, Any]:
        return by_layer(runs[0], lambda group: [measure(run[group] ** power) for run in runs])

    told = {
        "two halves": by_layer(runs[0], lambda group: [alike(a[group], b[group]) for a, b in pairs])
    }
    for name, part in (("first quartile", 0.25), ("median", 0.5), ("third quartile", 0.75)):
        told[name] = each(lambda row, part=part: float(np.quantile(row, part)))
    if key in DIVIDED:
        told |= {"effective units": each(effective), "units for 90 %": each(ninety)}
    return told


def between_draws(runs: list[Scores]) -> dict[str, Any]:
    """Rank correlations of whole draws: of the sums of their halves' scores."""
    whole = [{g: a[g] + b[g] for g in a} for a, b in zip(runs[::2], runs[1::2], strict=True)]
    twos = list(combinations(whole, 2))
    return by_layer(runs[0], lambda group: [alike(a[group], b[group]) for a, b in twos])


def before_and_after(before: list[Scores], after: list[Scores]) -> dict[str, Any]:
    """Rank correlations of the pretrained and the fine-tuned model: on the same texts, and of one
    on a half with the other on the draw's other half, which is what noise allows for."""
    other = [half ^ 1 for half in range(len(after))]
    return {
        "same texts": by_layer(
            before[0], lambda g: [alike(a[g], b[g]) for a, b in zip(before, after, strict=True)]
        ),
        "other texts": by_layer(
            before[0],
            lambda g: [alike(a[g], after[o][g]) for a, o in zip(before, other, strict=True)],
        ),
    }


def of_total(runs: list[Scores], without: int = 0) -> dict[str, Any]:
    """Of all that is felt in the network, the part of each layer and kind, and of each layer;
    ``without`` the largest so many units of each layer and kind."""
    parts = []
    for run in runs:
        sums: dict[Group, float] = {
            group: float(np.sort(row.astype(np.float64))[: len(row) - without].sum())
            for group, row in run.items()
        }
        total = sum(sums.values())
        for layer in LAYERS:
            sums[layer, "whole layer"] = sum(sums[group] for group in run if group[0] == layer)
        parts.append({group: value / total for group, value in sums.items()})
    return by_layer(parts[0], lambda group: [part[group] for part in parts])


def quiet(runs: list[Scores]) -> dict[str, Any]:
    """How many units put out the same for all texts, or as good as that."""
    return by_layer(runs[0], lambda g: [np.sum(run[g] < QUIET * np.median(run[g])) for run in runs])


def plans(model: Any, runs: list[Scores]) -> dict[str, Any]:
    """A plan for each half, as the command line makes it by this score: the units that stay, and
    the part of a plan's cut that the plan of the draw's other half cuts too."""
    found = []
    for run in runs:
        keys = {(layer, "key"): row for (layer, kind), row in run.items() if kind == "query"}
        found.append(obce.plan(model, Scores(run | keys, run.info), keep_encoder=KEEP))
    kinds = [kind for kind in ("query", "value", "intermediate") if kind in found[0].info["kinds"]]
    groups = [(layer, kind) for layer in LAYERS for kind in kinds]
    cut = [
        {g: {*range(plan.shape.width(g[1]))} - {*plan.kept[g].tolist()} for g in groups}
        for plan in found
    ]
    both, chance = [], []
    for one, other in zip(cut[::2], cut[1::2], strict=True):
        count = sum(map(len, one.values()))
        both.append(sum(len(one[g] & other[g]) for g in groups) / count)
        # had each plan drawn its units blindly, as many of each layer and kind as it cuts there
        drawn = (len(one[g]) * len(other[g]) / found[0].shape.width(g[1]) for g in groups)
        chance.append(sum(drawn) / count)
    return {
        "cut by both": span(both),
        "cut by both, by chance": span(chance),
        "units that stay": by_layer(
            dict.fromkeys(groups), lambda group: [len(plan.kept[group]) for plan in found]
        ),
    }


def deciding(name: str, folder: str, texts: list[list[str]]) -> list[float]:
    """Of the texts of a half, how many the metric of the loss rests on: the effective number of
    the squared slopes of the prediction by its logit, p (1 - p)."""
    found = []
    for half, part in enumerate(texts):
        model, tokenizer = load(name, folder, half // 2)
        p = softmax(obce.predict(model, tokenizer, Dataset.from_dict({"sentence": part})), axis=1)
        found.append(effective(p.prod(axis=1)))
    return span(found)


def told(model: Any, found: list[dict[str, Scores]]) -> dict[str, Any]:
    """All that the record says of one model."""
    by_key = {key: [half[key] for half in found] for key in found[0]}
    return {
        "scores": {key: of_score(key, by_key[key]) for key in by_key if key != "felt"},
        "of all that is felt": of_total(by_key["felt"]),
        "of all that is felt, largest unit apart": of_total(by_key["felt"], without=1),
        "of second order": of_total(by_key["second order"]),
        "quiet units": quiet(by_key["std"]),
        "plans": {key: plans(model, by_key[key]) for key in PLANNED},
    }


def main(folder: str) -> None:
    texts = halves()
    runs = {
        name: [kept_or_scored(name, folder, half, part) for half, part in enumerate(texts)]
        for name in MODELS
    }
    embedded = [kept_or_scored("embeddings", folder, half, texts[half]) for half in (0, 2, 4)]
    model, before, after = load("pretrained", folder, 0)[0], runs["pretrained"], runs["fine-tuned"]
    keys = [key for key in before[0] if key != "felt"]
    record: dict[str, Any] = {
        "environment": environment(),
        "what": "SST-2, training set, sentences of at least six words",
        "fine-tuned model": model_sha256(folder),
        "draws": len(DRAWS),
        "texts in a half": HALF,
        "points": POINTS,
        "keep_encoder of plans": KEEP,
        "each span": "median, least and greatest",
        "models": {name: told(model, found) for name, found in runs.items()},
        "before and after": {
            key: before_and_after([half[key] for half in before], [half[key] for half in after])
            for key in keys
        },
        "between draws, fine-tuned": {
            key: between_draws([half[key] for half in after]) for key in keys
        },
        "texts that decide": {name: deciding(name, folder, texts) for name in MODELS},
        "of all that embeddings feel": of_total([half["felt"] for half in embedded]),
        "of all that embeddings feel, largest unit apart": of_total(
            [half["felt"] for half in embedded], without=1
        ),
    }
    save_sealed(record, RECORD)


if __name__ == "__main__":
    main(*sys.argv[1:])
