"""The embedded sentence encoder, smaller, without any training: the README's table of it.

    python results/encoder.py [--table]

Scores and repair read raw sentences of five GLUE tasks' training sets, no labels, none of STS-B.
Judged on STS-B's dev pairs: Spearman's correlation of cosines with people's scores, and for every
sentence the cosine of its old and its new vector. Rows that the record holds are not made again.
``--table`` only writes the README's table from the record. GLUE comes from the folder
OBCE_GLUE_DIR, or else from the Hub.
"""

from __future__ import annotations

import argparse
import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

import obce
from obce import tasks
from obce.base.files import replacing
from obce.running.encoders import embed
from obce.running.loading import Classifier, Loaded
from obce.running.records import environment, load_record, model_name, model_sha256, save_record
from obce.running.speed import time_side_by_side
from obce.running.tables import markdown_table

HERE = Path(__file__).parent
RECORD, README = HERE / "encoder.json", HERE.parent / "README.md"
SIZES = (0.75, 0.6, 0.465)
SCORES = (("merge_radius", "mean"), ("rms", "tokens"))
CORPUS = ("sst2", "cola", "mrpc", "rte", "qnli")
TIMED = 1000  # sentences
SCORED, REPAIRED = 512, 2048


def corpus(count: int) -> list[str]:
    """Raw sentences, as many of each task, shuffled with seed 0."""
    found = []
    for task in CORPUS:
        rows = tasks.texts(tasks.load(task, "train", limit=-(-count // len(CORPUS))))
        found += [text if isinstance(text, str) else text[0] for text in rows]
    return random.Random(0).sample(found, count)


def sha256(texts: list[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def similarities(vectors: np.ndarray, wanted: list[float]) -> float:
    """Spearman's correlation of the cosines of neighbouring rows (vectors of length 1)."""
    cosines = (vectors[0::2] * vectors[1::2]).sum(1)
    return float(spearmanr(cosines, wanted).statistic)


def run(progress: bool = True) -> dict[str, Any]:
    """Make the rows that the record lacks; it is saved after each."""
    dense = obce.load_model()
    dev = tasks.load("stsb", "dev")
    sentences = [text for pair in tasks.texts(dev) for text in pair]
    texts = corpus(SCORED + REPAIRED)
    scored, repaired = texts[:SCORED], texts[SCORED:]
    before = embed(dense, sentences, progress=progress)
    record = load_record(RECORD) if RECORD.is_file() else {"rows": []}
    record |= {
        "task": "stsb",
        "split": "dev",
        "metric": "spearman",
        "value": similarities(before, dev["label"]),
        "rows_used": len(dev),
        "rows_official": tasks.get_task("stsb").rows["dev"],
        "order": "analyze -> cut -> repair (least_squares)",
        "seed": 0,
        "model": model_name(dense.model),
        "model_sha256": model_sha256(dense.model),
        "data_sha256": tasks.data_sha256(dev),
        "corpus": {"tasks": CORPUS, "scored": len(scored), "repaired": len(repaired)},
        "corpus_sha256": sha256(texts),
        "parameters": obce.count_parameters(dense.model)._asdict(),
        "environment": environment(),
    }
    record["corpus"]["tasks"] = list(CORPUS)
    done = [(row["score"], row["keep_encoder"]) for row in record["rows"]]
    for name, cloud in SCORES:
        sizes = [size for size in SIZES if (name, size) not in done]
        if not sizes:
            continue
        with obce.collect(dense.model, dense.tokenizer, scored, clouds=(cloud,)) as found:
            scores = obce.score(found, name, cloud=cloud)
        for size in sizes:
            plan = obce.plan(dense.model, scores, keep_encoder=size)
            row = {"score": name, "cloud": cloud, "keep_encoder": size, "plan": plan.summary()}
            small = dense._replace(model=obce.cut(dense.model, plan))
            row["cut"] = judged(small, sentences, before, dev["label"])
            fits = obce.repair(
                dense.model,
                small.model,
                plan,
                texts=repaired,
                tokenizer=dense.tokenizer,
                weighting="none",
            )
            row["fits"] = len(fits)
            row["repaired"] = judged(small, sentences, before, dev["label"])
            row["model_sha256"] = model_sha256(small.model)
            row["parameters"] = obce.count_parameters(small.model)._asdict()
            row["seconds"] = seconds(dense, small, sentences[:TIMED])
            record["rows"].append(row)
            save_record(record, RECORD)
            print(name, size, row["cut"], row["repaired"], flush=True)
    return record


def judged(
    small: Loaded, sentences: list[str], before: np.ndarray, wanted: list[float]
) -> dict[str, Any]:
    """Spearman's correlation, and the cosine of old and new vectors."""
    after = embed(small, sentences)
    cosines = (before * after).sum(1)
    return {
        "spearman": similarities(after, wanted),
        "cosine": {name: float(getattr(np, name)(cosines)) for name in ("median", "min", "max")},
    }


def seconds(dense: Loaded, small: Loaded, texts: list[str]) -> dict[str, Any]:
    """Seconds per 1,000 sentences, dense and compressed by turns."""
    models = {
        name: Classifier(loaded.model, loaded.tokenizer, True)
        for name, loaded in (("dense", dense), ("compressed", small))
    }
    return time_side_by_side(models, texts)


def table(record: dict[str, Any]) -> str:
    """The record as Markdown, one row per score and size."""
    rows = [
        [
            "encoder kept", "score, cloud", "Spearman, cut", "Spearman, repaired",
            "cosine old to new: median (least)", "s / 1,000 sentences",
        ],
        ["100 %", "", f"{100 * record['value']:.1f}", f"{100 * record['value']:.1f}", "1", ""],
    ]  # fmt: skip
    for row in record["rows"]:
        cosine, timing = row["repaired"]["cosine"], row["seconds"]
        rows.append(
            [
                f"{100 * row['keep_encoder']:g} %",
                f"{row['score'].replace('_', ' ')}, {row['cloud']}",
                f"{100 * row['cut']['spearman']:.1f}",
                f"{100 * row['repaired']['spearman']:.1f}",
                f"{cosine['median']:.2f} ({cosine['min']:.2f})",
                " → ".join(f"{timing[name]['median']:.2f}" for name in ("dense", "compressed")),
            ]
        )
    where, how = record["environment"], record["rows"][0]["seconds"]["dense"]
    facts = (
        f"{record['rows_used']:,} sentence pairs of STS-B's dev split, Spearman in %, one run, no "
        f"training and no labels. Scored over {record['corpus']['scored']} raw sentences, repaired "
        f"over {record['corpus']['repaired']:,} others, of the training sets of "
        f"{', '.join(record['corpus']['tasks'])}. Seconds: median of {how['repeats']} passes, "
        f"batches of {how['batch_size']}, threads: {how['threads']}, {where['cpu']}. "
        "Similarities stay, positions move: vectors of the dense and of the compressed encoder do "
        "not belong into one index. Made by `results/encoder.py`."
    )
    return "\n".join([markdown_table(rows), "", facts, ""])


def readme(text: str) -> str:
    """A README with the table made anew."""
    begin, end = "<!-- encoder:begin -->\n", "<!-- encoder:end -->"
    before, rest = text.split(begin)
    made = table(load_record(RECORD)) if RECORD.is_file() else ""
    return before + begin + made + end + rest.split(end)[1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="write the table only")
    if not parser.parse_args().table:
        run()
    with replacing(README) as part:
        part.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
