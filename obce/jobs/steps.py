"""The single steps as jobs: analyze, plan, finetune, evaluate, export, each with its record.

Many processes do a job together (:mod:`obce.base.distributed`). The main one alone reads and writes
the job's records; the folder must be one that all of them see.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from tqdm import tqdm

from obce import plots, tasks
from obce.activations import collect
from obce.base import distributed
from obce.base.devices import on_device
from obce.base.files import Scratch
from obce.base.lock import alone_in_out
from obce.base.settings import BATCH_SIZE
from obce.jobs.arguments import Analysis, Cut, Data, Tuning, named
from obce.pruning import Plan
from obce.running.evaluation import evaluate
from obce.running.export import quantize, to_onnx
from obce.running.loading import Classifier, load_bert, load_classifier
from obce.running.records import (
    environment,
    load_sealed,
    model_name,
    model_sha256,
    save_record,
    save_sealed,
)
from obce.running.speed import Benchmark, benchmark
from obce.running.streaming import check_buckets, stream
from obce.running.training import Training, finetune
from obce.scores import Scores, score
from obce.units import KINDS, dense_bert


@alone_in_out
def analyze_job(
    name: str,
    out: Path,
    data: Data,
    analysis: Analysis,
    *,
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Any]:
    """Score all units of a model over a task's training texts.

    Writes ``scores.safetensors``, ``scores.png`` and ``analysis.json`` into ``out``.

    Returns:
        the record: per kind and layer the quartiles of the score.
    """
    analysis.check()
    check_out(name, out)
    classifier = load_classifier(name, data.task, data.seed)
    scores = score_units(classifier, data, analysis, device, progress)
    record = {
        "task": data.task,
        "model": model_name(classifier.model),
        "model_sha256": model_sha256(classifier.model),
        "fine_tuned": classifier.fine_tuned,
        **scores.info,
        "quartiles": {
            kind: {
                layer: np.percentile(scores[layer, kind], [0, 25, 50, 75, 100]).round(6).tolist()
                for layer in sorted({layer for layer, _ in scores})
            }
            for kind in KINDS
        },
        "environment": environment(),
    }

    def save() -> None:
        out.mkdir(parents=True, exist_ok=True)
        scores.save(out / "scores.safetensors")
        plots.save(plots.scores_by_layer(scores), out / "scores.png")
        save_record(record, out / "analysis.json")

    distributed.by_main(save)
    return record


def score_units(
    classifier: Classifier, data: Data, analysis: Analysis, device: str, progress: bool
) -> Scores:
    """Score all units over training texts; ``info["corpus"]`` says which."""
    model, tokenizer, _ = classifier
    dense_bert(model)
    rows = data.train(analysis.texts)
    texts = tasks.texts(rows)
    corpus = {
        "task": data.task,
        "split": "train",
        "texts": len(rows),
        "data_sha256": tasks.data_sha256(rows),
    }
    reading: dict[str, Any] = {"max_length": analysis.max_length, "progress": progress}
    with on_device(model, device):
        if analysis.score in ("random", "magnitude"):
            scores = score(None, analysis.score, model=model, seed=data.seed)
        elif analysis.score == "taylor":
            scores = score(
                None, "taylor", model=model, labels=rows["label"], texts=texts,
                tokenizer=tokenizer, max_length=analysis.max_length,
            )  # fmt: skip
        elif analysis.buckets is not None:
            check_buckets(analysis.buckets)
            reading |= {"special_tokens": analysis.special_tokens, "buckets": analysis.buckets}
            scores = stream(model, tokenizer, texts, **reading)
            corpus["tokens"] = scores.info["tokens"]
        else:
            reading |= {"special_tokens": analysis.special_tokens, "clouds": (analysis.cloud,)}
            with collect(model, tokenizer, texts, **reading) as activations:
                scores = score(
                    activations, analysis.score, cloud=analysis.cloud, device=device,
                    progress=progress,
                )  # fmt: skip
                corpus["tokens"] = int(activations.counted.sum())
    scores.info["corpus"] = corpus
    return scores


def plan_job(name: str, out: Path, cut: Cut) -> Plan:
    """Choose the units that stay, from a file of scores; writes the plan, JSON, to ``out``.

    Raises:
        ValueError: scores that are not this model's, or bad arguments.
    """
    cut.check()
    if cut.scores_file is None:
        raise ValueError("a plan needs scores: a file that obce analyze has written")
    if out.is_dir():
        raise ValueError(f"{out} is a folder: name a file to write to")
    made = cut.plan(load_bert(name).model, Scores.load(cut.scores_file))
    distributed.by_main(lambda: made.save(out))
    return made


@alone_in_out
def finetune_job(
    name: str,
    out: Path,
    data: Data,
    tuning: Tuning,
    *,
    resume: bool = True,
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Any]:
    """Fine-tune a model on a task into ``out``, evaluate it, write ``finetune.json``."""
    check_out(name, out)
    arguments = {"model": named(name), **data.as_record(), **asdict(tuning)}
    if done := record_at(out / "finetune.json"):
        if done["arguments"] == arguments:
            return done
        raise ValueError(f"{out} holds the result of other arguments: choose another folder")
    classifier = load_classifier(name, data.task, data.seed)
    dev, train = data.dev(), data.train()
    model, tokenizer, _ = classifier
    training = finetune(
        model,
        tokenizer,
        data.task,
        train=train,
        output_dir=out,
        seed=data.seed,
        resume=resume,
        device=device,
        progress=progress,
        **asdict(tuning),
    )
    record = evaluate(
        model,
        tokenizer,
        data.task,
        dataset=dev,
        seed=data.seed,
        max_length=tuning.max_length,
        device=device,
        progress=progress,
        context={
            "arguments": arguments,
            "order": "fine-tune",
            "model": model_name(model),
            "training": training_record(training, train, data.task),
        },
    )
    distributed.by_main(lambda: save_sealed(record, out / "finetune.json"))
    return record


def record_at(path: Path) -> dict[str, Any] | None:
    """What a job has recorded there, as it recorded it, or None."""
    return distributed.by_main(lambda: load_sealed(path) if path.is_file() else None)


def check_out(name: str, out: Path) -> None:
    if Path(name).is_dir() and out.resolve() == Path(name).resolve():
        raise ValueError(f"{out} is the model's own folder: choose another one to write to")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: choose a folder to write to")


def training_record(training: Training, train: Dataset, task: str) -> dict[str, Any]:
    return {
        **asdict(training),
        "rows_used": len(train),
        "rows_official": tasks.get_task(task).rows["train"],
        "data_sha256": tasks.data_sha256(train),
    }


def evaluate_job(
    name: str,
    data: Data,
    *,
    split: str = "dev",
    max_length: int | None = None,
    batch_size: int = BATCH_SIZE,
    out: Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Any]:
    """Evaluate a fine-tuned model on a split of a task; writes the record to ``out``, if given."""
    model, tokenizer, fine_tuned = load_classifier(name, data.task, data.seed)
    if not fine_tuned:
        raise ValueError(f"{name} has no head for {data.task}: run obce finetune first")
    record = evaluate(
        model,
        tokenizer,
        data.task,
        split=split,
        folder=data.glue_dir,
        limit=data.dev_limit,
        seed=data.seed,
        max_length=max_length,
        batch_size=batch_size,
        device=device,
        progress=progress,
    )
    save_if_asked(record, out)
    return record


def benchmark_job(
    name: str, against: str | None, *, out: Path | None = None, **options: Any
) -> Benchmark:
    """:func:`obce.benchmark <obce.running.speed.benchmark>` of models by name; writes its record
    to ``out``, if given."""
    second = load_bert(against).model if against else None
    record = benchmark(load_bert(name).model, against=second, **options)
    save_if_asked(record, out)
    return record


def save_if_asked(record: dict[str, Any], out: Path | None) -> None:
    if out is not None:
        distributed.by_main(lambda: save_record(record, out))


def export_job(
    name: str, out: Path, *, int8: bool = False, progress: bool = True
) -> dict[str, Any]:
    """Write a fine-tuned model as the ONNX file ``out``, and beside it its record, ``out.json``.

    Returns:
        the record: whose weights, as what, bytes of the file, and ``difference``, the largest of
        a logit of the float32 file from PyTorch's.
    """
    if out.suffix != ".onnx":
        raise ValueError(f"{out} does not end in .onnx: name a file to write to")
    bar = tqdm(total=2 + int8, desc="export", unit="step", leave=False, disable=not progress)
    with bar, Scratch() as folder:
        model = load_classifier(name, task=None).model
        bar.update()
        whole = folder / out.name if int8 else out
        difference = to_onnx(model, whole)
        bar.update()
        if int8:
            quantize(whole, out)
            bar.update()
        files = [path for path in (out, out.with_name(f"{out.name}.data")) if path.is_file()]
        record = {
            "model": model_name(model),
            "model_sha256": model_sha256(model),
            "weights": "int8" if int8 else "float32",
            "bytes": sum(path.stat().st_size for path in files),
            "difference": difference,
            "environment": environment(),
        }
    save_record(record, out.with_name(f"{out.name}.json"))
    return record
