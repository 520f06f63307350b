"""The files of a study: one per group, rewritten whole after each cell, and their locks.

A killed worker loses the cell that it was running and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from obce.base.records import load_sealed, save_sealed
from obce.study.config import DEV, Cell, GroupKey

Record = dict[str, Any]
PATIENCE = 0.5  # seconds; obce study status holds a lock for an instant


def path_of(out: Path, key: GroupKey) -> Path:
    return out / f"{key[0]}-{key[1]}.json"


def load_group(out: Path, key: GroupKey) -> Record | None:
    """A group's record, or None if nothing has been recorded yet.

    Raises:
        ValueError: the file is torn, or was changed by hand.
    """
    path = path_of(out, key)
    return load_sealed(path) if path.is_file() else None


def save_group(out: Path, key: GroupKey, record: Record) -> None:
    save_sealed(record, path_of(out, key))


def load_groups(out: Path) -> list[Record]:
    """All groups that a folder holds, by task and seed.

    Raises:
        ValueError: no such folder, none in it, or a broken file.
    """
    paths = sorted(out.glob("*-*.json"))
    if not paths:
        raise ValueError(f"{out} holds no records of a study")
    return [load_sealed(path) for path in paths]


def judged_on_of(record: Record) -> str:
    """Whether a group's cells were judged on dev, or on rows of train (first records: on dev)."""
    return str(record.get("judged_on", DEV))


def left(cells: list[Cell], record: Record | None, retry_failed: bool = False) -> list[Cell]:
    """The cells that have not been run; with ``retry_failed``, those that failed as well."""
    done = {} if record is None else record["cells"]
    return [
        cell for cell in cells if cell.id not in done or (retry_failed and "error" in done[cell.id])
    ]


@contextmanager
def locked(path: Path, wait: float = PATIENCE) -> Iterator[bool]:
    """Whether nobody else holds the lock of that name; this block does then.

    The system frees the lock of a process that ends, however it ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def lock_of(out: Path, key: GroupKey) -> Path:
    return out / f".{key[0]}-{key[1]}.lock"


def is_busy(out: Path, key: GroupKey) -> bool:
    """Whether a worker is at work on a group."""
    if not lock_of(out, key).exists():
        return False
    with locked(lock_of(out, key), wait=0) as free:
        return not free
