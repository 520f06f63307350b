"""Timing several ways of doing the same thing in turn, so that a busy moment hits all of them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from obce.running.records import environment, save_record, spread
from obce.running.speed import in_turns


def in_turn(cases: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each case in each of ``repeats`` rounds; one round runs untimed before."""
    found = in_turns({name: partial(taken, work) for name, work in cases.items()}, repeats + 1)
    return {name: seconds[1:] for name, seconds in found.items()}


def taken(work: Callable[[], object]) -> float:
    """The seconds that something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def table(seconds: dict[str, list[float]], base: str, count: float = 1) -> dict:
    """Per case the seconds (of one of ``count`` things) and the ratio to ``base``, round by round:
    a ratio of 3 took three times as long."""
    rows = {
        name: {
            "seconds": spread((np.array(values) / count).tolist()),
            "ratio": spread((np.array(values) / np.array(seconds[base])).tolist()),
        }
        for name, values in seconds.items()
    }
    return {"ratio to": base, "rows": rows}


def text(table: dict) -> str:
    """A ``table`` as aligned text."""
    lines = [f"{'':<36} {'seconds':>26} {'ratio to ' + table['ratio to']:>40}"]
    for name, row in table["rows"].items():
        seconds, ratio = (
            f"{found['median']:.3g} ({found['min']:.3g} to {found['max']:.3g})"
            for found in (row["seconds"], row["ratio"])
        )
        lines.append(f"{name:<36} {seconds:>26} {ratio:>40}  {row.get('note', '')}".rstrip())
    return "\n".join(lines)


def arguments(description: str, repeats: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds, after one untimed")
    parser.add_argument("--out", type=Path, help="file for the record (JSON)")
    return parser


def finish(record: dict, out: Path | None) -> None:
    """Print a record's tables; save it with the environment."""
    for name, table in record["tables"].items():
        print(f"\n{name}\n{text(table)}")
    if out is not None:
        save_record({**record, "environment": environment()}, out)
