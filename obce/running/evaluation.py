"""Evaluation on a task, and the record of it."""

from __future__ import annotations

import os
import time
import warnings
from datetime import datetime, timezone
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from obce import tasks
from obce.base import distributed
from obce.base.checks import check_positive
from obce.base.devices import inference, pick_device
from obce.base.settings import BATCH_SIZE, LENGTH
from obce.running.export import OnnxClassifier
from obce.running.records import environment, model_name, model_sha256
from obce.running.rows import encoded_blocks
from obce.tasks import Task
from obce.tasks.glue import labels_of
from obce.texts import Encoding, length_limit, padded, sorted_batches
from obce.units import count_parameters


def predict(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    *,
    max_length: int | None = None,
    batch_size: int = BATCH_SIZE,
    device: str = "auto",
    progress: bool = False,
) -> np.ndarray:
    """The model's logits, float32 of shape (rows, num_labels), in the order of the data set.

    Texts run sorted by length (within blocks of many rows, which bound the memory), so that little
    is spent on padding; those of more than ``max_length`` tokens (128 by default, less if the model
    takes less) are cut.
    Many processes share the batches out, and each returns all logits.

    Raises:
        ValueError: no rows, an argument out of range, a ``max_length`` the model can't take.
    """
    check_positive(batch_size=batch_size)
    target = pick_device(device)
    length = length_limit(model, max_length, LENGTH)
    if not len(dataset):
        raise ValueError("the data set is empty: there are no rows to predict")
    blocks = []
    bar = distributed.bar(progress, total=len(dataset), desc="evaluate", unit="text", leave=False)
    with distributed.together(), bar, inference(model, device):
        for rows in encoded_blocks(tokenizer, dataset, length, model):
            blocks.append(_logits(model, tokenizer, rows, batch_size, target, bar))
    return np.concatenate(blocks)


def _logits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[Encoding],
    batch_size: int,
    target: torch.device,
    bar: tqdm,
) -> np.ndarray:
    """The logits of one block of rows, of which this process runs its share."""
    groups = sorted_batches(rows, batch_size)
    shares = [distributed.mine(groups, process) for process in range(distributed.size())]
    counts = [sum(map(len, share)) for share in shares]
    width = len(labels_of(model.config))
    found = [torch.empty(0, width)]
    for places, batch in padded(tokenizer, rows, shares[distributed.rank()], target):
        found.append(model(**batch).logits.float().cpu())
        bar.update(len(places) * distributed.size())
    logits = np.empty((len(rows), width), dtype=np.float32)
    order = [place for share in shares for places in share for place in places]
    logits[order] = distributed.gather(torch.cat(found), counts).numpy()
    return logits


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: str | Task,
    *,
    split: str = "dev",
    dataset: Dataset | None = None,
    folder: str | os.PathLike | None = None,
    limit: int | None = None,
    seed: int = 0,
    max_length: int | None = None,
    batch_size: int = BATCH_SIZE,
    device: str = "auto",
    progress: bool = False,
    context: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluate a classifier on a task and return the record, as plain JSON values.

    Args:
        dataset: the rows of ``split`` to use; without it they are loaded (``folder``, ``limit``,
            ``seed``: see ``tasks.load``). A record of fewer rows than the official split has says
            ``"complete": false``.
        context: what else the record is to say: the order of steps, score, cloud, corpus, plan
            summary, a name for the ``model``.

    The record's ``remarks``, if it has any, say what a reader should not overlook: a result no
    better than chance, one answer for all rows, texts that the tokenizer does not know.

    Raises:
        ValueError: an unlabelled split, a model whose labels are not the task's, predictions
            that are not finite, a context that would overwrite what is measured.
    """
    info = tasks.get_task(task)
    tasks.check_labels(info, model.config)
    if dataset is None:
        dataset = tasks.load(info, split, folder=folder, limit=limit, seed=seed)
    if "label" not in dataset.column_names:
        raise ValueError(f"the {split} split of {info.name} has no labels to evaluate against")
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UserWarning)
        logits = predict(
            model, tokenizer, dataset,
            max_length=max_length, batch_size=batch_size, device=device, progress=progress,
        )  # fmt: skip
    seconds = time.perf_counter() - start
    metrics = tasks.compute_metrics(info, logits, dataset["label"])
    main = next(iter(metrics))
    official = info.rows.get(split)
    measured = {
        "task": info.name,
        "split": split,
        "metric": main,
        "value": metrics[main],
        "metrics": metrics,
        "rows_used": len(dataset),
        "rows_official": official,
        "complete": len(dataset) == official,
        "max_length": length_limit(model, max_length, LENGTH),
        "batch_size": batch_size,
        **circumstances(model, dataset, device, seed, seconds),
    }
    unknown = {str(each.message) for each in warned if "tokenizer" in str(each.message)}
    if remarks := _remarks(info, logits, dataset, metrics, sorted(unknown)):
        measured["remarks"] = remarks
    context = {"model": model_name(model), **(context or {})}
    if clash := sorted(context.keys() & measured.keys()):
        raise ValueError(f"context may not overwrite what is measured: {', '.join(clash)}")
    return context | measured


def circumstances(
    model: PreTrainedModel | OnnxClassifier,
    dataset: Dataset,
    device: str,
    seed: int,
    seconds: float,
) -> dict[str, Any]:
    """What a measurement rests on beside its arguments, for a record."""
    return {
        **_identity(model),
        "seed": seed,
        "data_sha256": tasks.data_sha256(dataset),
        "seconds": round(seconds, 3),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": pick_device(device).type,
        "environment": environment(),
    }


def _identity(model: PreTrainedModel | OnnxClassifier) -> dict[str, Any]:
    if isinstance(model, OnnxClassifier):  # its weights are inside the file
        return {"parameters": None, "model_sha256": model.sha256}
    parameters = count_parameters(model)
    return {
        "parameters": {"total": parameters.total, "encoder": parameters.encoder},
        "model_sha256": model_sha256(model),
    }


def _remarks(
    task: Task,
    logits: np.ndarray,
    dataset: Dataset,
    metrics: dict[str, float],
    warned: list[str],
) -> list[str]:
    """What a reader should not overlook; ``warned``: warnings given while predicting."""
    found = list(warned)
    labels = np.asarray(dataset["label"])
    if task.is_regression:
        if max(metrics.values()) <= 0:
            found.append("no better than chance: the predictions do not rise with the labels")
    else:
        answers = logits.argmax(axis=1)
        right, counts = np.mean(answers == labels), np.bincount(labels, minlength=task.num_labels)
        often = counts.max() / len(labels)
        if len(np.unique(answers)) == 1 and (counts > 0).sum() > 1:
            found.append(f"every row gets the same answer, {task.labels[answers[0]]!r}")
        if right <= often < 1:
            found.append(
                f"no better than chance: {right:.1%} of the answers are right, and always "
                f"answering {task.labels[counts.argmax()]!r} would be right in {often:.1%}"
            )
    return found
