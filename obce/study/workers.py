"""Running a study: workers that take free groups, one after the other, until nothing is left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from obce.base.files import reason
from obce.study import store
from obce.study.cells import run_cell
from obce.study.config import Cell, GroupKey, Study, plain
from obce.study.dense import Say, dense_folder, recipe_record, start_of
from obce.study.group import Group

FORMAT = 1


class Worker:
    """One process at work on a study.

    Args:
        out: folder of the records.
        work: folder of the dense models, and of what is needed meanwhile.
        limit: use so many rows of train and dev only, for trials.
        retry_failed: run the cells again that have failed before.
        say: takes a line for each step.
    """

    def __init__(
        self,
        study: Study,
        out: Path,
        work: Path,
        *,
        limit: int | None = None,
        retry_failed: bool = False,
        device: str = "auto",
        say: Say = print,
    ):
        self.study, self.out, self.work = study, out, work
        self.limit, self.retry_failed, self.device, self.say = limit, retry_failed, device, say
        self.given_up: set[GroupKey] = set()
        self.tried: set[tuple[GroupKey, str]] = set()

    def run(self) -> bool:
        """Take groups until no free one has cells left; whether everything went well."""
        check_records(self.study, self.out, self.limit)
        self.out.mkdir(parents=True, exist_ok=True)
        self.work.mkdir(parents=True, exist_ok=True)
        while sum(self._take(key) for key in self.study.groups):
            pass  # what another worker has left when it was killed is taken in the next round
        return not self.given_up and not self._failures()

    def _take(self, key: GroupKey) -> bool:
        """Run what is left of a group, unless another worker is at it."""
        if key in self.given_up or not self._left(key):
            return False
        with store.locked(store.lock_of(self.out, key)) as free:
            cells = self._left(key) if free else []
            if not cells:
                return False
            try:
                self._run_group(key, cells)
            except Exception as error:
                self.given_up.add(key)
                self.say(f"{key[0]} {key[1]}: the group failed: {_line(error)}")
        return True

    def _left(self, key: GroupKey) -> list[Cell]:
        record = store.load_group(self.out, key)
        cells = store.left(self.study.groups[key], record, self.retry_failed)
        return [cell for cell in cells if (key, cell.id) not in self.tried]

    def _failures(self) -> bool:
        return any("error" in cell for key in self.study.groups for cell in self._cells(key))

    def _cells(self, key: GroupKey) -> Sequence[dict[str, Any]]:
        record = store.load_group(self.out, key)
        asked = {cell.id for cell in self.study.groups[key]}
        return [cell for name, cell in (record or {"cells": {}})["cells"].items() if name in asked]

    def _run_group(self, key: GroupKey, cells: list[Cell]) -> None:
        task, seed = key
        options = self.work, self.limit, self.say, self.device
        folder = dense_folder(self.study, task, seed, *options)
        begin = partial(start_of, self.study, task, *options)
        recipe = self.study.recipe(task)
        group = Group(
            task, seed, recipe, folder, begin, self.limit, self.device, self.study.judged_on
        )
        record = store.load_group(self.out, key) or self._new_record(key, group)
        if group.short not in record["dense"]:
            if record["dense"]:
                self.say(
                    f"{task} {seed}: the dense model {group.short} is not the one that finished "
                    f"cells rest on ({', '.join(record['dense'])}): each cell says which is its own"
                )
            record["dense"][group.short] = group.dense_facts()
        done = len(self.study.groups[key]) - len(cells)
        for number, cell in enumerate(cells, done + 1):
            self.tried.add((key, cell.id))
            found = self._run_cell(group, record, cell)
            record["cells"][cell.id] = found
            store.save_group(self.out, key, record)
            about = f"{task} {seed}, cell {number} of {len(self.study.groups[key])}"
            self.say(f"{about}, {name_of(cell)}: {_outcome(found)}")

    def _run_cell(self, group: Group, record: dict[str, Any], cell: Cell) -> dict[str, Any]:
        try:
            dev_limit = cell.settings["dev_limit"]
            if str(dev_limit) not in record["dev"]:
                record["dev"][str(dev_limit)] = group.dev_facts(dev_limit)
            dense = record["dense"][group.short]["dev"]
            if str(dev_limit) not in dense:
                dense[str(dev_limit)] = group.dense_on(dev_limit)
            return run_cell(group, cell, self.work)
        except OSError:  # a full disk: no fault of the cell
            raise
        except Exception as error:
            return {"settings": plain(cell.settings), "dense": group.short, "error": _line(error)}

    def _new_record(self, key: GroupKey, group: Group) -> dict[str, Any]:
        task, seed = key
        return {
            "format": FORMAT,
            "task": task,
            "seed": seed,
            "complete": self.limit is None,
            "limit": self.limit,
            "judged_on": self.study.judged_on,
            "recipe": recipe_record(self.study, task, seed, self.limit),
            "train": group.train_facts(),
            "dev": {},
            "dense": {},
            "cells": {},
        }


def check_records(study: Study, out: Path, limit: int | None) -> None:
    """Refuse a folder whose records and this study's must not stand side by side.

    Raises:
        ValueError: records of a trial beside full ones, another recipe for a dense model, or a
            file that is no record of a study.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: choose a folder to write to")
    for path in sorted(out.glob("*-*.json")):
        record = store.load_sealed(path)
        if record.get("format") != FORMAT:
            raise ValueError(f"{path} is no record of a study: choose another folder")
        if record["limit"] != limit:
            kinds = [f"--limit {n}" if n else "all rows" for n in (record["limit"], limit)]
            raise ValueError(
                f"{path.name} was made with {kinds[0]}, this run is with {kinds[1]}: they do not "
                "mix, choose another --out"
            )
        if store.judged_on_of(record) != study.judged_on:
            raise ValueError(
                f"{path.name} was judged on {store.judged_on_of(record)}, this study is on "
                f"{study.judged_on}: they do not mix, choose another --out"
            )
        task, seed = record["task"], record["seed"]
        recipe = recipe_record(study, task, seed, limit)
        if (task, seed) in study.groups and record["recipe"] != recipe:
            changed = [name for name in recipe if record["recipe"].get(name) != recipe[name]]
            raise ValueError(
                f"{path.name} rests on a dense model of another recipe ({', '.join(changed)}): "
                "choose another --out"
            )


def one_thread() -> None:
    """Workers side by side share the cores; each has one thread."""
    torch.set_num_threads(1)
    threadpool_limits(1)


def start_workers(arguments: Sequence[str], count: int) -> int:
    """The same command in ``count`` processes of one thread each; the worst exit status."""
    command = [sys.executable, "-m", "obce", *arguments]
    running = [subprocess.Popen(command) for _ in range(count)]
    try:
        return max(abs(process.wait()) for process in running)
    except BaseException:
        for process in running:
            process.terminate()
        for process in running:
            with suppress(BaseException):
                process.wait()
        raise


def name_of(cell: Cell) -> str:
    """A cell for people: its score and how much stays."""
    settings = cell.settings
    words = [str(settings[n]) for n in ("score", "metric", "cloud") if n in settings]
    keep = settings.get("keep_encoder", settings.get("level"))
    return f"{' '.join(words)}, {keep} kept" + (", fine-tuned" if settings["again"] else "")


def _outcome(found: dict[str, Any]) -> str:
    if "error" in found:
        return f"failed: {found['error']}"
    value = found["metrics"][found["metric"]]
    seconds = found["seconds"]["total"]
    return (
        f"divergence {found['divergence']:.4f}, {found['metric']} {100 * value:.1f} %, "
        f"{seconds:.0f} s"
    )


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {reason(error)}"[:300]
