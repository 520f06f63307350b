"""Folders that jobs write to: whose they are, and what an earlier job has left there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from obce.base import distributed
from obce.jobs.arguments import differences
from obce.running.records import load_sealed

# What obce leaves in a folder that it writes to. Where one of these is, the rest is its own too.
OURS = (
    "state.json",
    "record.json",
    "finetune.json",
    "analysis.json",
    "budgets.json",
    "explanation.json",
    "checkpoints",
)


def check_out(name: str, out: Path, files: tuple[str, ...] = ()) -> None:
    """ValueError if ``out`` is the model's own folder, a file, or holds one of ``files`` that
    obce has not written: nothing of somebody else's is overwritten."""
    if Path(name).is_dir() and out.resolve() == Path(name).resolve():
        raise ValueError(f"{out} is the model's own folder: choose another one to write to")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: choose a folder to write to")
    foreign = [file for file in files if (out / file).exists()]
    if foreign and not any((out / file).exists() for file in OURS):
        raise ValueError(
            f"{out} holds a {foreign[0]} that obce has not written: choose another folder"
        )
    card = out / "README.md"
    if "README.md" in files and card.is_file() and not _is_our_card(card):
        raise ValueError(f"{card} was not written by obce: choose another folder")


def _is_our_card(path: Path) -> bool:
    return "tags: [obce" in path.read_text(encoding="utf-8", errors="replace")[:2000]


def record_at(path: Path) -> dict[str, Any] | None:
    """What a job has recorded there, as it wrote it; None if there is nothing."""
    return distributed.by_main(lambda: load_sealed(path) if path.is_file() else None)


def state_at(path: Path) -> dict[str, Any] | None:
    """Like :func:`record_at`, but a torn file counts as none, and a line says so."""
    try:
        return record_at(path)
    except ValueError as error:
        distributed.say(f"{error}; the job starts over")
        return None


def finished(path: Path, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of a job that ended here before, with ``nothing_was_run``; None if there is none.

    Raises:
        ValueError: it was a job with other arguments.
    """
    done = record_at(path)
    if done is None:
        return None
    check_same(done, arguments, path.parent, "the result of other arguments")
    return done | {"nothing_was_run": True}


def check_same(
    before: Mapping[str, Any], arguments: Mapping[str, Any], out: Path, what: str
) -> None:
    """ValueError that lists what differs, if a job before this one had other arguments."""
    if before.get("arguments") == arguments:
        return
    changed = "; ".join(differences(before.get("arguments"), arguments))
    dense = (out / "dense" / "config.json").is_file()
    model = f" ({out / 'dense'} is the fine-tuned dense model, which can be the next job's)"
    raise ValueError(
        f"{out} holds {what}: {changed}: choose another folder{model * dense}, or start over with "
        "--no-resume"
    )
