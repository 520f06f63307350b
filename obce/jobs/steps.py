"""The single steps as jobs: analyze, plan, finetune, evaluate, export, each with its record.

Many processes do a job together (:mod:`obce.base.distributed`). The main one alone reads and writes
the job's records; the folder must be one that all of them see.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
from tqdm import tqdm
from transformers import PreTrainedModel

from obce import plots
from obce.base import distributed
from obce.base.lock import alone_in_out
from obce.base.settings import BATCH_SIZE
from obce.jobs.arguments import Analysis, Cut, Data, Tuning, contents_sha256, named
from obce.jobs.folders import check_out, finished
from obce.jobs.judges import check_enough, judge_of, training_record
from obce.jobs.labels import load_labelled, model_labels
from obce.jobs.progress import bars, stage
from obce.jobs.scoring import score_units
from obce.pruning import Plan
from obce.running.evaluation import evaluate
from obce.running.export import OnnxClassifier, export
from obce.running.loading import Classifier, load_bert, load_classifier, load_model
from obce.running.records import (
    environment,
    model_name,
    model_sha256,
    save_record,
    save_sealed,
)
from obce.running.speed import Benchmark, benchmark
from obce.running.training import finetune
from obce.scores import Scores
from obce.tasks import Task
from obce.tasks.glue import labels_of
from obce.units import KINDS


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
    """Score all units of a model over a task's training texts, or over texts without labels.

    Writes ``scores.safetensors``, ``scores.png`` and ``analysis.json`` into ``out``.

    Returns:
        the record: per kind and layer the quartiles of the score.
    """
    analysis.check()
    data.check()
    check_out(name, out, ("scores.safetensors", "scores.png"))
    judge = judge_of(name, data, Tuning(), device, progress)
    loaded = judge.load(name)
    with stage("analyze", progress):
        scores = score_units(loaded, judge, analysis, device, bars(progress))
    record = {
        "task": judge.title,
        "arguments": analysis_arguments(name, data, analysis),
        "model": model_name(loaded.model),
        "model_sha256": model_sha256(loaded.model),
        "fine_tuned": judge.is_ready(loaded),
        **scores.info,
        "quartiles": {
            kind: {
                layer: np.percentile(scores[layer, kind], [0, 25, 50, 75, 100]).round(6).tolist()
                for layer in sorted(layer for layer, of in scores if of == kind)
            }
            for kind in KINDS
            if any(of == kind for _, of in scores)
        },
        "environment": environment(),
    }

    def save() -> None:
        out.mkdir(parents=True, exist_ok=True)
        scores.save(out / "scores.safetensors")
        plots.save(plots.scores_by_layer(scores), out / "scores.png")
        save_sealed(record, out / "analysis.json")

    distributed.by_main(save)
    return record


def analysis_arguments(name: str, data: Data, analysis: Analysis) -> dict[str, Any]:
    return {
        "model": named(name),
        "model_sha256": contents_sha256(name),
        "data": data.as_record(),
        "analysis": analysis.as_record(True),
    }


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

    def save() -> None:
        out.parent.mkdir(parents=True, exist_ok=True)
        made.save(out)

    distributed.by_main(save)
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
    data.check()
    check_out(name, out, ("config.json", "model.safetensors"))
    arguments = {
        "model": named(name),
        "model_sha256": contents_sha256(name),
        **data.as_record(),
        **tuning.as_record(),
    }
    if resume and (done := finished(out / "finetune.json", arguments)):
        return done
    task = data.find_task(model_labels(name, data))
    train, dev = data.rows(task, "train"), data.rows(task, "dev")
    check_enough(task, dev)
    model, tokenizer, _ = load_labelled(name, task, data)
    teacher = _teacher(tuning.teacher, task)
    with stage("fine-tune", progress):
        training = finetune(
            model,
            tokenizer,
            task,
            train=train,
            output_dir=out,
            seed=data.seed,
            resume=resume,
            device=device,
            progress=bars(progress),
            teacher=teacher,
            hidden_weight=tuning.hidden_weight,
            **tuning.options(),
        )
    with stage("evaluate", progress):
        record = evaluate(
            model,
            tokenizer,
            task,
            dataset=dev,
            seed=data.seed,
            max_length=tuning.max_length,
            device=device,
            progress=bars(progress),
            context={
                "arguments": arguments,
                "order": "fine-tune",
                "model": model_name(model),
                "training": training_record(training, train, task),
            },
        )
    distributed.by_main(lambda: save_sealed(record, out / "finetune.json"))
    return record


def _teacher(name: str | None, task: Task) -> PreTrainedModel | None:
    if name is None:
        return None
    model, _, fine_tuned = load_classifier(name, task)
    if not fine_tuned:
        raise ValueError(f"teacher {name} has no head for {task.name}: run obce finetune first")
    return model


def evaluate_job(
    name: str,
    data: Data,
    *,
    split: str = "dev",
    max_length: int | None = None,
    batch_size: int = BATCH_SIZE,
    tokenizer: str | None = None,
    out: Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Any]:
    """Evaluate a fine-tuned model, or an ONNX file of one, on a split of a task; writes the record
    to ``out``, if given."""
    data.check()
    task, classifier = classifier_for(name, data, tokenizer)
    with stage("evaluate", progress):
        record = evaluate(
            classifier.model,
            classifier.tokenizer,
            task,
            split=split,
            dataset=data.rows(task, split),
            seed=data.seed,
            max_length=max_length,
            batch_size=batch_size,
            device="cpu" if is_onnx(name) else device,
            progress=bars(progress),
        )
    save_if_asked(record, out)
    return record


def is_onnx(name: str) -> bool:
    return name.endswith(".onnx")


def classifier_for(name: str, data: Data, tokenizer: str | None = None) -> tuple[Task, Classifier]:
    """A fine-tuned model, and the task with its labels in the model's order.

    Args:
        name: a folder, a name on the Hub, or an ONNX file that ``obce export`` has written.
        tokenizer: see :func:`load_onnx`.
    """
    if not data.labelled:
        raise ValueError("texts alone cannot be evaluated against: give a task, or a dev-file")
    if is_onnx(name):
        if data.label_map:
            raise ValueError("label-map renames the labels of a model, not those of an ONNX file")
        classifier = load_onnx(name, tokenizer)
        labels = tuple(labels_of(classifier.model.config))
        return data.find_task(labels if len(labels) > 1 else None), classifier
    if tokenizer is not None:
        raise ValueError("tokenizer is for an ONNX file: a model's folder has its own")
    task = data.find_task(model_labels(name, data))
    classifier = load_labelled(name, task, data)
    if not classifier.fine_tuned:
        raise ValueError(f"{name} has no head for {task.name}: run obce finetune first")
    return task, classifier


def load_onnx(name: str, tokenizer: str | None = None) -> Classifier:
    """An ONNX file as a classifier. ``tokenizer`` is a folder: by default that in which the file
    lies, or the one beside it that is called as the file is."""
    model = cast(PreTrainedModel, OnnxClassifier(name))  # it is called like one
    return Classifier(model, load_bert(tokenizer or beside(Path(name))).tokenizer, True)


def beside(file: Path) -> str:
    """The folder with the tokenizer of an ONNX file."""
    for folder in (file.parent, file.with_suffix("")):
        if (folder / "config.json").is_file():
            return str(folder)
    raise ValueError(
        f"neither {file.parent} nor {file.with_suffix('')} holds the tokenizer of {file.name}: "
        "name its folder by --tokenizer"
    )


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
    """Write a model as the ONNX file ``out``, and beside it its record, ``out.json``.

    Returns:
        the record, see :func:`obce.running.export.export`.
    """
    if out.suffix != ".onnx":
        raise ValueError(f"{out} does not end in .onnx: name a file to write to")
    with tqdm(total=2, desc="export", unit="step", leave=False, disable=not bars(progress)) as bar:
        loaded = load_model(name)
        bar.update()
        record = export(loaded, out, int8=int8)
        bar.update()
    save_record(record, out.with_name(f"{out.name}.json"))
    return record
