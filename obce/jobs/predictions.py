"""Predictions: a table for a user's own file, and GLUE's submission files."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from obce import tasks
from obce.base import distributed
from obce.base.files import replacing
from obce.base.settings import BATCH_SIZE
from obce.jobs.arguments import Data
from obce.jobs.labels import load_labelled
from obce.jobs.progress import bars, stage
from obce.jobs.steps import is_onnx, load_onnx
from obce.running.evaluation import predict
from obce.running.loading import Classifier, load_classifier
from obce.tasks.glue import labels_of
from obce.tasks.own import check_column, texts_of

# What the GLUE site calls the files of a submission: gluebenchmark.com, under "Submit".
SUBMISSIONS = {
    ("cola", "test"): "CoLA.tsv",
    ("sst2", "test"): "SST-2.tsv",
    ("mrpc", "test"): "MRPC.tsv",
    ("stsb", "test"): "STS-B.tsv",
    ("qqp", "test"): "QQP.tsv",
    ("mnli", "test"): "MNLI-m.tsv",
    ("mnli", "test_mismatched"): "MNLI-mm.tsv",
    ("qnli", "test"): "QNLI.tsv",
    ("rte", "test"): "RTE.tsv",
    ("wnli", "test"): "WNLI.tsv",
    ("ax", "test"): "AX.tsv",
}


def submission_name(task: str, split: str) -> str:
    """The file of GLUE's submission for a task and split."""
    name = tasks.get_task(task).name
    if (name, split) not in SUBMISSIONS:
        known = sorted({task for task, _ in SUBMISSIONS})
        raise ValueError(
            f"GLUE takes no predictions of {name} {split}: the split is test (or test_mismatched "
            f"for mnli), the task one of {', '.join(known)}"
        )
    return SUBMISSIONS[name, split]


def submission_job(
    name: str, out: Path, data: Data, *, split: str = "test", **options: Any
) -> dict[str, Any]:
    """Write a model's predictions of a test split as the GLUE site takes them: a line per row,
    ``index`` (from 0) and ``prediction``, as the official files write the label."""
    task = data.find_task()
    submission_name(task.name, split)
    rows = tasks.load(task, split, data.glue_dir)
    classifier = load_labelled(name, task, data)  # an MNLI model has the labels of ax
    if not classifier.fine_tuned:
        source = "mnli" if task.name == "ax" else task.name
        raise ValueError(f"{name} has no head for {source}: run obce finetune first")
    logits = _logits(classifier, rows, **options)
    if task.is_regression:
        answers = [f"{score:.3f}" for score in logits[:, 0].clip(0, 5)]
    else:
        answers = [task.file_labels[number] for number in logits.argmax(axis=1)]
    table = [["index", "prediction"], *([str(i), answer] for i, answer in enumerate(answers))]
    _write(table, out, "\t")
    official = task.rows[split]
    return {"rows": len(rows), "rows_official": official, "complete": len(rows) == official}


def predict_job(
    name: str,
    out: Path,
    file: str,
    data: Data,
    *,
    id_column: str | None = None,
    tokenizer: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Write a model's predictions of a user's own file as a table, CSV or TSV by its suffix.

    A line per row: its ``id_column``, or its number from 1; the predicted label (or score); and
    the probability of each label.
    """
    if out.suffix.lower() not in (".csv", ".tsv"):
        raise ValueError(f"{out}: predictions are written as .csv or .tsv")
    if is_onnx(name):
        classifier = load_onnx(name, tokenizer)
        options["device"] = "cpu"
    else:
        classifier = load_classifier(name, None)
    table = tasks.read_table(file)
    rows = texts_of(table, data.text_column, data.text_pair_column, file)
    if id_column is not None:
        check_column(table, id_column, file)
    logits = _logits(classifier, rows, **options)
    ids = table[id_column] if id_column else range(1, len(rows) + 1)
    lines = _lines(classifier, ids, logits, id_column or "row", data)
    _write(lines, out, "\t" if out.suffix.lower() == ".tsv" else ",")
    return {"rows": len(rows)}


def _lines(
    classifier: Classifier, ids: Any, logits: np.ndarray, name: str, data: Data
) -> Iterator[list[str]]:
    renamed = data.label_map or {}
    labels = [renamed.get(label, label) for label in labels_of(classifier.model.config)]
    if logits.shape[1] == 1:
        yield [name, "prediction"]
        for key, score in zip(ids, logits[:, 0], strict=True):
            yield [str(key), f"{score:.6g}"]
        return
    several = classifier.model.config.problem_type == "multi_label_classification"
    yield [name, "prediction", *(f"p({label})" for label in labels)]
    for key, row in zip(ids, logits.astype(np.float64), strict=True):
        if several:
            shares = 1 / (1 + np.exp(-row))
            answer = "|".join(labels[i] for i in np.flatnonzero(shares > 0.5))
        else:
            shares = np.exp(row - row.max())
            shares, answer = shares / shares.sum(), labels[int(row.argmax())]
        yield [str(key), answer, *(f"{share:.6f}" for share in shares)]


def _logits(
    classifier: Classifier,
    rows: Dataset,
    *,
    max_length: int | None = None,
    batch_size: int = BATCH_SIZE,
    device: str = "auto",
    progress: bool = True,
) -> np.ndarray:
    with stage("predict", progress):
        logits = predict(
            classifier.model, classifier.tokenizer, rows,
            max_length=max_length, batch_size=batch_size, device=device, progress=bars(progress),
        )  # fmt: skip
    if not np.isfinite(logits).all():
        raise ValueError("the model's predictions hold NaN or infinite values")
    return logits


def _write(lines: Any, out: Path, delimiter: str) -> None:
    def save() -> None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as part, open(part, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(lines)

    distributed.by_main(save)
