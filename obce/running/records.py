"""Records: what a number rests on, as plain JSON."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel

from obce.base import distributed
from obce.base.files import read_json, replacing


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
    versions: dict[str, str | None] = {}
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
    """Read a record; ValueError if there is none, or no strict JSON (NaN, say, is none)."""
    try:
        record = read_json(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no record: {error}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path} is no record: it holds no JSON object")
    return record


def save_sealed(record: dict[str, Any], path: str | os.PathLike) -> None:
    """:func:`save_record`, with a hash that tells :func:`load_sealed` of every change since.

    Raises:
        ValueError: the record has an entry ``sha256`` already.
    """
    if "sha256" in record:
        raise ValueError("a record that is to be sealed has an entry 'sha256' already")
    save_record({**record, "sha256": _sha256(record)}, path)


def load_sealed(path: str | os.PathLike) -> dict[str, Any]:
    """Read what :func:`save_sealed` wrote, without the hash.

    Raises:
        ValueError: there is no record, or it is not as it was written.
    """
    record = load_record(path)
    seal = record.pop("sha256", None)
    if seal != _sha256(record):
        raise ValueError(f"{path} is not as obce wrote it: it was changed since, or torn")
    return record


def _sha256(record: dict[str, Any]) -> str:
    """A hash that is the same for a record in memory and for one read from a file."""
    plain = json.loads(json.dumps(record, allow_nan=False))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def recorded(name: str) -> dict[str, Any]:
    """A record of a real run that comes with the project.

    Raises:
        ValueError: there is no record of that name; the message lists those there are.

    >>> recorded("compress_sst2")["task"]
    'sst2'
    """
    package = Path(__file__).parents[1]
    folder = package / "results"  # as installed
    if not folder.is_dir():
        folder = package.parent / "results"  # as in a checkout
    path = folder / f"{name}.json"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in folder.glob("*.json")))
        raise ValueError(f"there is no record {name!r}; there are {names}")
    return load_record(path)


def spread(values: Sequence[float]) -> dict[str, float]:
    """The ``median``, ``min`` and ``max`` of a few measurements.

    >>> spread([0.2, 0.1, 0.6])
    {'median': 0.2, 'min': 0.1, 'max': 0.6}
    """
    return {"median": float(np.median(values)), "min": min(values), "max": max(values)}


STAGES = {
    "dense": "dense",
    "cut": "cut",
    "repaired": "cut, repaired",
    "finetuned": "cut, repaired, fine-tuned",
}


def stages_of(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The stages of a job's record in the order of the job (files sort them by name).

    >>> list(stages_of(recorded("compress_sst2")))
    ['dense', 'cut', 'repaired', 'finetuned']
    """
    return {name: record["stages"][name] for name in STAGES if name in record["stages"]}
