"""Which recipe makes a good dense model? Tried on rows of *train* that are held out, never on dev.

    python results/recipes.py TASK --epochs 5 --learning-rate 1e-4 [--start FOLDER] [--seed 0]

A tenth of the training rows (1,000 at most) is held out, drawn with seed 0. One fine-tuning on the
rest in bfloat16, then the official metric on the held-out rows: one row of ``recipes.json``. A row
that is there is not computed again. FOLDER holds a model to start from with a new head.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from filelock import FileLock

import obce
from obce import tasks
from obce.running.loading import load_classifier
from obce.running.records import environment, load_record, save_record

PATH = Path(__file__).with_suffix(".json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task")
    parser.add_argument("--epochs", type=float, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--start", default="embedded")
    parser.add_argument("--train-limit", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tried = {**vars(options), "start": Path(options.start).name}
    if any(tried == row["tried"] for row in rows()):
        return
    train = tasks.load(options.task, "train", limit=options.train_limit)
    order = np.random.default_rng(0).permutation(len(train))
    held = min(1000, len(train) // 10)
    model, tokenizer, _ = load_classifier(
        options.start, options.task, options.seed, new_head=options.start != "embedded"
    )
    with tempfile.TemporaryDirectory() as scratch:
        done = obce.finetune(
            model, tokenizer, options.task, train=train.select(order[held:]),
            output_dir=Path(scratch) / "model", epochs=options.epochs,
            learning_rate=options.learning_rate, seed=options.seed, bf16=True,
        )  # fmt: skip
    found = obce.evaluate(
        model, tokenizer, options.task, split="train", dataset=train.select(order[:held])
    )
    row = {
        "tried": tried,
        "metrics": found["metrics"],
        "rows": {"train": len(train) - held, "held_out": held},
        "steps": done.steps,
        "seconds": round(done.seconds, 1),
        "environment": environment(),
    }
    with FileLock(Path(tempfile.gettempdir()) / "obce-recipes.lock"):
        save_record({"rows": [*rows(), row]}, PATH)
    print(tried, found["metrics"], row["seconds"], flush=True)


def rows() -> list[dict]:
    return load_record(PATH)["rows"] if PATH.is_file() else []


if __name__ == "__main__":
    main()
