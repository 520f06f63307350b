"""How far a study is. Nothing heavy is imported, so that the answer comes at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from obce.study import store
from obce.study.config import Study

COUNTS = ("cells", "done", "running", "failed", "left")


def status_of(study: Study, out: Path) -> dict[str, Any]:
    """How far a study is: counts, per group and in all, and the time that is left.

    The time is an estimate from the seconds of finished cells (of the same task, where there are
    any), shared by the workers that are at work now.
    """
    groups: list[dict[str, Any]] = []
    seconds: dict[str, list[float]] = {}
    failures = []
    for key, cells in study.groups.items():
        record = store.load_group(out, key)
        done = {} if record is None else record["cells"]
        mine = [done[cell.id] for cell in cells if cell.id in done]
        failed = [cell for cell in mine if "error" in cell]
        group = {"task": key[0], "seed": key[1]}
        failures += [group | {n: cell[n] for n in ("settings", "error")} for cell in failed]
        times = [cell["seconds"]["total"] for cell in mine if "error" not in cell]
        seconds.setdefault(key[0], []).extend(times)
        running = int(len(mine) < len(cells) and store.is_busy(out, key))
        counts = {"cells": len(cells), "done": len(mine) - len(failed), "running": running}
        counts |= {"failed": len(failed), "left": len(cells) - len(mine) - running}
        groups.append(group | counts)
    total = {name: sum(group[name] for group in groups) for name in COUNTS}
    return {
        "name": study.name,
        **total,
        "seconds_left": _seconds_left(groups, seconds),
        "groups": groups,
        "failures": failures,
    }


def _seconds_left(groups: list[dict[str, Any]], seconds: dict[str, list[float]]) -> float | None:
    """None while no cell has been finished."""
    every = [value for values in seconds.values() for value in values]
    if not every:
        return None
    left = 0.0
    for group in groups:
        times = seconds[group["task"]] or every
        left += (group["left"] + group["running"]) * sum(times) / len(times)
    return left / max(1, sum(group["running"] for group in groups))
