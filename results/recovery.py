"""What a short training brings back of a small model, by labels and by a teacher, over five seeds:
the record of the chapter "Recovery".

    python results/recovery.py

As on the page: a dense model of short reviews, a plan by chance, cut and repaired; then students of
the labels and of the dense model, from few rows and from all. Each seed has its own new head, plan
and order of rows. Some five minutes of one core. Seeds that the record holds are not run again.
"""

from __future__ import annotations

import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets
from finetuning import TASK, short  # beside this file
from transformers import PreTrainedModel

import obce
from obce import tasks
from obce.running.evaluation import predict
from obce.running.records import environment, load_record, save_record
from obce.study.measures import divergences

RECORD = Path(__file__).parent / "recovery.json"
SEEDS, KEEP = range(5), 0.2
DENSE_RATE, RATE, BATCH = 2e-4, 1e-4, 16
EPOCHS = {60: 6, 360: 2}  # of students, by the rows that they learn from
TEACHERS = ("labels", "teacher")


def measured(seed: int) -> dict[str, Any]:
    """One dense model, one plan, four students: accuracy and divergence of each."""
    train, unseen = short("train"), concatenate_datasets([short("dev"), short("test")])
    train = train.shuffle(seed=seed)
    model, tokenizer, _ = obce.load_classifier("embedded", TASK, seed=seed)
    answers = np.array(unseen["label"])

    def train_more(pupil: PreTrainedModel, rows: Dataset, epochs: int, **settings: Any) -> None:
        with TemporaryDirectory() as folder:
            obce.finetune(
                pupil, tokenizer, TASK, train=rows, output_dir=folder, epochs=epochs, seed=seed,
                batch_size=BATCH, **settings,
            )  # fmt: skip

    train_more(model, train, 2, learning_rate=DENSE_RATE)
    dense = predict(model, tokenizer, unseen)

    def judged(pupil: PreTrainedModel) -> dict[str, float]:
        given = predict(pupil, tokenizer, unseen)
        return {
            "accuracy": round(float(np.mean(given.argmax(axis=1) == answers)), 4),
            "divergence": round(float(divergences(dense, given).mean()), 4),
        }

    plan = obce.plan(model, obce.score(None, "random", model=model, seed=seed), keep_encoder=KEEP)
    small = obce.compress(
        model, plan, repair="least_squares", texts=tasks.texts(train), tokenizer=tokenizer
    )
    found: dict[str, Any] = {"seed": seed, "dense": judged(model), "repaired": judged(small)}
    for rows, epochs in EPOCHS.items():
        for name in TEACHERS:
            pupil = copy.deepcopy(small)
            teaching = {"teacher": model, "teacher_weight": 1.0} if name == "teacher" else {}
            train_more(pupil, train.select(range(rows)), epochs, learning_rate=RATE, **teaching)
            found[f"{name}, {rows} rows"] = judged(pupil)
    return found


def main() -> None:
    record = load_record(RECORD) if RECORD.is_file() else {"rows": []}
    rows = {row["seed"]: row for row in record["rows"]}
    for seed in SEEDS:
        if seed not in rows:
            rows[seed] = measured(seed)
            settings = {"task": TASK, "texts": "reviews of fewer than ten words", "keep": KEEP,
                        "epochs": {str(k): v for k, v in EPOCHS.items()}, "batch_size": BATCH,
                        "learning_rate": RATE, "dense learning_rate": DENSE_RATE}  # fmt: skip
            told = [rows[each] for each in sorted(rows)]
            save_record({"environment": environment(), "settings": settings, "rows": told}, RECORD)
            print(rows[seed], flush=True)


if __name__ == "__main__":
    main()
