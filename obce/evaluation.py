"""Evaluation on a task, the record of it, and how fast a model is."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from safetensors import safe_open
from torch import nn
from tqdm import tqdm
from transformers import DataCollatorWithPadding, PreTrainedModel, PreTrainedTokenizerBase

from obce import distributed, glue
from obce.activations import Text, evaluating, length_limit
from obce.activations import encode as tokenize
from obce.distributed import pick_device
from obce.files import replacing
from obce.units import count_parameters

MAX_LENGTH = 128
"""Tokens to which texts are cut by default, special tokens included, if the model takes as many."""


def check_positive(**values: float) -> None:
    """ValueError for the first argument that is not a finite number above 0."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name}={value}: it must be above 0")


def encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], max_length: int
) -> list[dict[str, list[int]]]:
    """Each text's (or pair's) ``input_ids`` and ``token_type_ids``, cut to ``max_length`` (a pair
    loses tokens of its longer text first), without padding."""
    names = ("input_ids", "token_type_ids")
    return [{n: row[n] for n in names} for row in tokenize(tokenizer, texts, max_length)]


def _groups(rows: list[dict], batch_size: int) -> list[list[int]]:
    """The places of the rows that run together, longest texts first."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]), reverse=True)
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def _batches(
    tokenizer: PreTrainedTokenizerBase,
    rows: list[dict],
    groups: Sequence[list[int]],
    device: torch.device,
) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
    """Padded batches on ``device``, each with its rows' places."""
    collate = DataCollatorWithPadding(tokenizer)
    for places in groups:
        yield places, collate([rows[i] for i in places]).to(device)


@contextmanager
def inference(model: PreTrainedModel, device: torch.device) -> Iterator[None]:
    """Evaluation mode on ``device``, no gradients; the model goes back to its mode and device."""
    home = model.device
    try:
        with evaluating(model.to(device)), torch.inference_mode():
            yield
    finally:
        model.to(home)


def predict(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    *,
    max_length: int | None = None,
    batch_size: int = 32,
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
    length = length_limit(model, max_length, MAX_LENGTH)
    rows = encode(tokenizer, glue.texts(dataset), length)
    groups = _groups(rows, batch_size)
    shares = [distributed.mine(groups, process) for process in range(distributed.size())]
    counts = [sum(map(len, share)) for share in shares]
    own, total = shares[distributed.rank()], counts[distributed.rank()]
    found = [torch.empty(0, model.config.num_labels)]
    off = not (progress and distributed.is_main())
    bar = tqdm(total=total, desc="evaluate", unit="text", leave=False, disable=off)
    with distributed.together(), bar, inference(model, target):
        for places, batch in _batches(tokenizer, rows, own, target):
            found.append(model(**batch).logits.float().cpu())
            bar.update(len(places))
    logits = np.empty((len(rows), model.config.num_labels), dtype=np.float32)
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
    batch_size: int = 32,
    device: str = "auto",
    progress: bool = True,
    context: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluate a classifier on a task and return the record, as plain JSON values.

    Args:
        dataset: the rows of ``split`` to use; without it they are loaded (``folder``, ``limit``,
            ``seed``: see ``glue.load``). A record of fewer rows than the official split has says
            ``"complete": false``.
        context: what else the record is to say: the order of steps, score, cloud, corpus, plan
            summary, a name for the ``model``.

    Raises:
        ValueError: an unlabelled split, a model whose labels are not the task's, predictions
            that are not finite, a context that would overwrite what is measured.
    """
    info = glue.get_task(task)
    glue.check_labels(info.name, model.config)
    if dataset is None:
        dataset = glue.load(info.name, split, folder=folder, limit=limit, seed=seed)
    if "label" not in dataset.column_names:
        raise ValueError(f"the {split} split of {info.name} has no labels to evaluate against")
    start = time.perf_counter()
    logits = predict(
        model, tokenizer, dataset,
        max_length=max_length, batch_size=batch_size, device=device, progress=progress,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    metrics = glue.compute_metrics(info.name, logits, dataset["label"])
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
        "max_length": length_limit(model, max_length, MAX_LENGTH),
        "batch_size": batch_size,
        "parameters": {"total": parameters.total, "encoder": parameters.encoder},
        "model_sha256": model_sha256(model),
        "data_sha256": glue.data_sha256(dataset),
        "seconds": round(seconds, 3),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": pick_device(device).type,
        "environment": environment(),
    }
    context = {"model": model_name(model), **(context or {})}
    if clash := sorted(context.keys() & measured.keys()):
        raise ValueError(f"context may not overwrite what is measured: {', '.join(clash)}")
    return context | measured


def model_name(model: PreTrainedModel) -> str:
    """The name on the Hub, or a folder's last part: a record names nobody's disk."""
    name = model.config.name_or_path or type(model).__name__
    return Path(name).name if os.path.isabs(name) or os.path.isdir(name) else name


def model_sha256(model: nn.Module | str | os.PathLike) -> str:
    """SHA-256 over the names, types, shapes and bytes of all tensors, sorted by name: the same for
    a classifier in memory and for the folder it was saved to, whatever the files are.

    Raises:
        ValueError: a folder that holds no safetensors file.
    """
    if isinstance(model, nn.Module):
        tensors = {name: tensor.detach for name, tensor in model.state_dict().items()}
    else:
        files = [safe_open(path, "pt") for path in sorted(Path(model).glob("*.safetensors"))]
        tensors = {name: partial(file.get_tensor, name) for file in files for name in file.keys()}
    if not tensors:
        raise ValueError(f"{model} holds no weights in safetensors files")
    digest = hashlib.sha256()
    for name, read in sorted(tensors.items()):
        tensor = read().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def environment() -> dict[str, Any]:
    """Versions, commit, hardware, threads, processes: what a number depends on beside inputs."""
    versions = {}
    for package in ("obce", "torch", "transformers", "datasets", "numpy", "onnxruntime"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # an extra, or obce, run from its source folder
            versions[package] = None
    return {
        "python": platform.python_version(),
        "versions": versions,
        "git_commit": _git_commit(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": distributed.size(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _git_commit() -> str | None:
    """The commit of the checkout that this package lies in, if it lies in one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    here = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (*names, platform.processor(), platform.machine())[0]


def save_record(record: dict[str, Any], path: str | os.PathLike) -> None:
    """Write a record as JSON, whole or not at all; its folder is made if it is missing.

    Raises:
        ValueError: it holds NaN, an infinity or what is no JSON.
        OSError: the file cannot be written.
    """
    path = Path(path)
    try:
        text = json.dumps(record, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the record {path.name} cannot be written as JSON: {error}") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def load_record(path: str | os.PathLike) -> dict[str, Any]:
    """Read a record; ValueError if there is none."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no record: {error}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path} is no record: it holds no JSON object")
    return record


def recorded(name: str) -> dict[str, Any]:
    """A record of a real run that comes with the project: ``recorded("compress_sst2")``.

    Raises:
        ValueError: there is no record of that name; the message lists those there are.
    """
    package = Path(__file__).parent
    folder = package / "results"  # as installed
    if not folder.is_dir():
        folder = package.parent / "results"  # as in a checkout
    path = folder / f"{name}.json"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in folder.glob("*.json")))
        raise ValueError(f"there is no record {name!r}; there are {names}")
    return load_record(path)


def spread(values: Sequence[float]) -> dict[str, float]:
    """The ``median``, ``min`` and ``max`` of a few measurements."""
    return {"median": float(np.median(values)), "min": min(values), "max": max(values)}


def time_per_1000(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    *,
    max_length: int | None = None,
    batch_size: int = 32,
    repeats: int = 3,
    device: str = "auto",
) -> dict[str, Any]:
    """Seconds of forward passes per 1,000 texts: the ``median`` of ``repeats``, ``min``, ``max``.

    The texts are tokenized, sorted by length and batched beforehand, and one batch runs untimed.
    Batch size, threads and device, without which the number means little, are in the answer.

    Raises:
        ValueError: no texts, an argument out of range.
    """
    check_positive(batch_size=batch_size, repeats=repeats)
    target = pick_device(device)
    rows = encode(tokenizer, texts, length_limit(model, max_length, MAX_LENGTH))
    groups = _groups(rows, batch_size)
    batches = [batch for _, batch in _batches(tokenizer, rows, groups, target)]

    def run(batches: list[dict[str, torch.Tensor]]) -> float:
        start = time.perf_counter()
        for batch in batches:
            model(**batch).logits.cpu()  # the copy waits for the GPU
        return (time.perf_counter() - start) * 1000 / len(rows)

    with inference(model, target):
        run(batches[:1])
        seconds = [run(batches) for _ in range(repeats)]
    return {
        **spread(seconds),
        "repeats": repeats,
        "texts": len(rows),
        "batch_size": batch_size,
        "device": target.type,
        "threads": torch.get_num_threads(),
    }
