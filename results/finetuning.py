"""What fine-tuning changes in the outputs of units, over five seeds: the record of the chapter
"After fine-tuning".

    python results/finetuning.py

The same short training as on the page, with five seeds, each with a new head. Takes some ten
minutes on two cores. Seeds that the record holds are not run again.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets

import obce
from obce import tasks
from obce.running.records import environment, load_record, save_record
from obce.units import KINDS

RECORD = Path(__file__).parent / "finetuning.json"
TASK, SEEDS, LAYERS, CUT = "mini-sentiment", range(5), 6, ("value", "intermediate")
SETTINGS = {"epochs": 3, "learning_rate": 2e-4, "batch_size": 16}


def short(split: str) -> Dataset:
    """The reviews of fewer than ten words."""
    rows = tasks.load(TASK, split)
    texts = tasks.texts(rows)
    return rows.select([i for i, text in enumerate(texts) if len(text.split()) < 10])


def correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of each row of ``x`` with the same row of ``y``."""
    x, y = (z - z.mean(axis=1, keepdims=True) for z in (x, y))
    return (x * y).sum(axis=1) / np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))


def separation(cloud: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Distance of the two classes' means of each unit, in standard deviations."""
    bad, good = cloud[:, labels == 0], cloud[:, labels == 1]
    return np.abs(good.mean(axis=1) - bad.mean(axis=1)) / np.sqrt(
        (good.var(axis=1) + bad.var(axis=1)) / 2
    )


def lower_half(radii: np.ndarray) -> set[int]:
    """The units that a plan at the 50th percentile would cut."""
    return set(np.argsort(radii, kind="stable")[: len(radii) // 2].tolist())


def measured(seed: int) -> dict[str, Any]:
    """One training: what it changed, layer by layer and kind by kind."""
    train, unseen = short("train"), concatenate_datasets([short("dev"), short("test")])
    model, tokenizer, _ = obce.load_classifier("embedded", TASK, seed=seed)
    texts, labels = tasks.texts(unseen), np.array(unseen["label"])
    before = obce.collect(model, tokenizer, texts)
    with TemporaryDirectory() as folder:
        training = obce.finetune(
            model,
            tokenizer,
            TASK,
            train=train,
            dev=unseen,
            output_dir=folder,
            seed=seed,
            **SETTINGS,
        )
    after = obce.collect(model, tokenizer, texts)
    alike, cut_in_both = {}, {}
    for kind in KINDS:
        pairs = [[a.cloud(i, kind, "tokens") for a in (before, after)] for i in range(LAYERS)]
        alike[kind] = [round(float(np.median(correlation(*pair))), 3) for pair in pairs]
    scores = [obce.score(a, "merge_radius", cloud="mean") for a in (before, after)]
    for kind in CUT:
        halves = [[lower_half(s[i, kind]) for s in scores] for i in range(LAYERS)]
        cut_in_both[kind] = [round(len(old & new) / len(old), 3) for old, new in halves]
    only = {"clouds": ["mean"], "layers": [5], "kinds": ["output"]}
    learnt = obce.collect(model, tokenizer, tasks.texts(train), **only)
    unit = int(separation(learnt.cloud(5, "output", "mean"), np.array(train["label"])).argmax())
    means = [a.cloud(5, "output", "mean")[[unit]] for a in (before, after)]
    at_cls = [np.median(a.cloud(5, "output", "cls").std(axis=1)) for a in (before, after)]
    return {
        "seed": seed,
        "accuracy": round(training.metrics["accuracy"], 3),
        "median correlation": alike,
        "cut before and after": cut_in_both,
        "variation at [CLS], after over before": round(float(at_cls[1] / at_cls[0]), 1),
        "unit 856 at [CLS], least": round(
            float(after.cloud(0, "intermediate", "cls")[856].min()), 1
        ),
        "classes apart, before and after": [
            round(float(separation(mean, labels)[0]), 2) for mean in means
        ],
    }


def main() -> None:
    record = load_record(RECORD) if RECORD.is_file() else {"rows": []}
    rows = {row["seed"]: row for row in record["rows"]}
    for seed in SEEDS:
        if seed not in rows:
            rows[seed] = measured(seed)
            told = [rows[each] for each in sorted(rows)]
            settings = {"task": TASK, "texts": "reviews of fewer than ten words", **SETTINGS}
            save_record({"environment": environment(), "settings": settings, "rows": told}, RECORD)
            print(f"seed {seed}: accuracy {rows[seed]['accuracy']}", flush=True)


if __name__ == "__main__":
    main()
