"""Evaluation on a task, and the record of it."""

from __future__ import annotations

import os
import time
from datetime import datetime, timezone
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from obce import tasks
from obce.base import distributed
from obce.base.checks import check_positive
from obce.base.devices import inference, pick_device
from obce.base.settings import BATCH_SIZE, LENGTH
from obce.running.records import environment, model_name, model_sha256
from obce.texts import encode, length_limit, padded, sorted_batches
from obce.units import count_parameters


def predict(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    *,
    max_length: int | None = None,
    batch_size: int = BATCH_SIZE,
    device: str = "auto",
    progress: bool = True,
) -> np.ndarray:
    """The model's logits, float32 of shape (rows, num_labels), in the order of the data set.

    Texts run sorted by length, so that little is spent on padding; those of more than
    ``max_length`` tokens (128 by default, less if the model takes less) are cut.
    Many processes share the batches out, and each returns all logits.

    Raises:
        ValueError: no rows, an argument out of range, a ``max_length`` the model can't take.
    """
    check_positive(batch_size=batch_size)
    target = pick_device(device)
    length = length_limit(model, max_length, LENGTH)
    rows = encode(tokenizer, tasks.texts(dataset), length)
    groups = sorted_batches(rows, batch_size)
    shares = [distributed.mine(groups, process) for process in range(distributed.size())]
    counts = [sum(map(len, share)) for share in shares]
    own, total = shares[distributed.rank()], counts[distributed.rank()]
    labels: int = model.config.num_labels or 0
    found = [torch.empty(0, labels)]
    bar = distributed.bar(progress, total=total, desc="evaluate", unit="text", leave=False)
    with distributed.together(), bar, inference(model, device):
        for places, batch in padded(tokenizer, rows, own, target):
            found.append(model(**batch).logits.float().cpu())
            bar.update(len(places))
    logits = np.empty((len(rows), labels), dtype=np.float32)
    order = [place for share in shares for places in share for place in places]
    logits[order] = distributed.gather(torch.cat(found), counts).numpy()
    return logits


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: str,
    *,
    split: str = "dev",
    dataset: Dataset | None = None,
    folder: str | os.PathLike | None = None,
    limit: int | None = None,
    seed: int = 0,
    max_length: int | None = None,
    batch_size: int = BATCH_SIZE,
    device: str = "auto",
    progress: bool = True,
    context: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluate a classifier on a task and return the record, as plain JSON values.

    Args:
        dataset: the rows of ``split`` to use; without it they are loaded (``folder``, ``limit``,
            ``seed``: see ``tasks.load``). A record of fewer rows than the official split has says
            ``"complete": false``.
        context: what else the record is to say: the order of steps, score, cloud, corpus, plan
            summary, a name for the ``model``.

    Raises:
        ValueError: an unlabelled split, a model whose labels are not the task's, predictions
            that are not finite, a context that would overwrite what is measured.
    """
    info = tasks.get_task(task)
    tasks.check_labels(info.name, model.config)
    if dataset is None:
        dataset = tasks.load(info.name, split, folder=folder, limit=limit, seed=seed)
    if "label" not in dataset.column_names:
        raise ValueError(f"the {split} split of {info.name} has no labels to evaluate against")
    start = time.perf_counter()
    logits = predict(
        model, tokenizer, dataset,
        max_length=max_length, batch_size=batch_size, device=device, progress=progress,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    metrics = tasks.compute_metrics(info.name, logits, dataset["label"])
    parameters = count_parameters(model)
    official = info.rows.get(split)
    measured = {
        "task": info.name,
        "split": split,
        "metric": info.main_metric,
        "value": metrics[info.main_metric],
        "metrics": metrics,
        "rows_used": len(dataset),
        "rows_official": official,
        "complete": len(dataset) == official,
        "seed": seed,
        "max_length": length_limit(model, max_length, LENGTH),
        "batch_size": batch_size,
        "parameters": {"total": parameters.total, "encoder": parameters.encoder},
        "model_sha256": model_sha256(model),
        "data_sha256": tasks.data_sha256(dataset),
        "seconds": round(seconds, 3),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": pick_device(device).type,
        "environment": environment(),
    }
    context = {"model": model_name(model), **(context or {})}
    if clash := sorted(context.keys() & measured.keys()):
        raise ValueError(f"context may not overwrite what is measured: {', '.join(clash)}")
    return context | measured
