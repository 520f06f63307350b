"""Records as files: plain JSON, written whole or not at all, sealed against changes."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

from obce.base.files import read_json, replacing


def plain_number(value: float) -> float | str:
    """A number as JSON has it, which knows no infinity.

    >>> plain_number(2.0), plain_number(float("inf"))
    (2.0, 'inf')
    """
    return "inf" if value == math.inf else value


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
