"""``python -m tools.stress``: count for minutes; results/stress.json is the record.

Two processes share the work. What is done is kept, piece by piece, and the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from obce.book.counts import bad, table
from obce.running.records import environment, load_record, save_record
from tools.stress.pieces import LOADERS, PARTS

KEPT = Path("_build") / "stress"
RECORD = Path("results") / "stress.json"
SIZES = {"kills": 50, "disks": 10, "pairs": 10} | dict.fromkeys(LOADERS, 2500)

Piece = tuple[str, int, int]
"""A part, how often, and its seed."""


def pieces(counts: dict[str, int], seed: int) -> list[Piece]:
    """The work in pieces of some minutes at most, those that take longest first."""
    return [
        (part, min(size, counts[part] - start), seed + start)
        for part in counts
        for size in [SIZES.get(part, 1)]
        for start in range(0, counts[part], size)
    ]


def run(piece: Piece) -> dict[str, Any]:
    """A piece's counts, from a process of its own, or from an earlier call."""
    words = list(map(str, piece))
    kept = KEPT / f"{'-'.join(words)}.json"
    if not kept.is_file():
        command = [sys.executable, "-m", "tools.stress.pieces", *words, str(kept)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)} failed: {done.stderr[-2000:]}")
        print(*words, kept.read_text(encoding="utf-8"), flush=True)
    return json.loads(kept.read_text(encoding="utf-8"))


def added(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The counts of several pieces as one."""
    total: dict[str, Any] = {}
    for result in results:
        for name, value in result.items():
            if isinstance(value, dict):
                total[name] = added([total.get(name, {}), value])
            elif name in ("longest_message", "seconds_uninterrupted"):
                total[name] = max(total.get(name, 0), value)
            else:
                total[name] = round(total.get(name, 0) + value, 1)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.stress", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--mutations", type=int, default=10_000, help="of each loader's files")
    parser.add_argument("--disks", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=10, help="of jobs in one folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RECORD)
    options = parser.parse_args()
    counts = {"kills": options.kills, "disks": options.disks, "pairs": options.pairs}
    counts |= {"foreign": 1, "network": 1} | dict.fromkeys(LOADERS, options.mutations)
    work = pieces({part: counts[part] for part in counts if part in options.only}, options.seed)
    KEPT.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(options.processes) as pool:
        results = list(pool.map(run, work))
    parts = {
        part: added([result for (name, *_), result in zip(work, results, strict=True)
                     if name == part])
        for part in options.only
    }  # fmt: skip
    found = {"seed": options.seed, "processes": options.processes, "environment": environment()}
    save_record({**found, "parts": parts}, options.out)
    for piece in work:
        (KEPT / f"{'-'.join(map(str, piece))}.json").unlink()
    print(table(load_record(options.out)))
    for line in bad(load_record(options.out)):
        print(f"stress: {line}; files that went wrong are in {KEPT}", file=sys.stderr)
    sys.exit(1 if bad(load_record(options.out)) else 0)


if __name__ == "__main__":
    main()
