"""``python -m tools.stress``: count for minutes; results/stress.json is the record.

Two processes share the work. What is done is saved part by part, and the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

LOADERS = ("plan", "scores", "record", "config", "glue", "own_data")
PARTS = ("kills", "disks", "pairs", "foreign", "network", *LOADERS)
KEPT = Path("_build") / "stress"
RECORD = Path("results") / "stress.json"


def run(part: str, count: int, seed: int) -> dict[str, Any]:
    """One part, in a folder of its own, which also holds what ``datasets`` caches."""
    folder = Path(tempfile.mkdtemp(prefix="obce-stress-"))
    os.environ["HF_HOME"] = str(folder / "huggingface")
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")
    start = time.perf_counter()
    try:
        counts = _run(part, count, seed, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {**counts, "seconds": round(time.perf_counter() - start, 1)}


def _run(part: str, count: int, seed: int, folder: Path) -> dict[str, Any]:
    if part in LOADERS:
        from tools.stress.mutations import loaders, mutate

        return mutate(loaders(folder)[part], count, seed, keep=KEPT / part)
    from tools.stress import hostile, kills

    if part == "foreign":
        return hostile.foreign_checkpoints(folder)
    if part == "network":
        return hostile.without_network(folder)
    work = {"kills": kills.kill_jobs, "disks": hostile.fill_disks, "pairs": hostile.pair_jobs}
    return work[part](count, seed, folder)


def shares(options: argparse.Namespace) -> list[tuple[str, int, int]]:
    """(part, count, seed) of each piece of work, the longest first."""
    pieces = []
    for name, total, pieces_of in (("kills", options.kills, 50), ("disks", options.disks, 10),
                                   ("pairs", options.pairs, 10)):  # fmt: skip
        for start in range(0, total, pieces_of):
            pieces.append((name, min(pieces_of, total - start), options.seed + start))
    pieces += [("foreign", 1, options.seed), ("network", 1, options.seed)]
    for loader in reversed(LOADERS):
        for start in range(0, options.mutations, 2500):
            pieces.append((loader, min(2500, options.mutations - start), options.seed + start))
    return [piece for piece in pieces if piece[0] in options.only]


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
                total[name] = total.get(name, 0) + value
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
    KEPT.mkdir(parents=True, exist_ok=True)
    done: dict[str, list[dict[str, Any]]] = {}
    # Each piece in a new process: children of the kills are forked from one without threads.
    context = get_context("spawn")
    with ProcessPoolExecutor(options.processes, context, max_tasks_per_child=1) as pool:
        waiting = {}
        for piece in shares(options):
            kept = KEPT / f"{'-'.join(map(str, piece))}.json"
            if kept.is_file():
                done.setdefault(piece[0], []).append(json.loads(kept.read_text(encoding="utf-8")))
            else:
                waiting[pool.submit(run, *piece)] = piece, kept
        for future in as_completed(waiting):
            piece, kept = waiting[future]
            counts = future.result()
            kept.write_text(json.dumps(counts), encoding="utf-8")
            done.setdefault(piece[0], []).append(counts)
            print(*piece, json.dumps(counts), flush=True)
    record(done, options)
    sys.exit(report(options.out))


def record(done: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    from obce.running.records import environment, save_record

    parts = {part: added(results) for part, results in sorted(done.items())}
    found = {"seed": options.seed, "processes": options.processes, "environment": environment()}
    save_record({**found, "parts": parts}, options.out)
    shutil.rmtree(KEPT)


def report(path: Path) -> int:
    from obce.running.records import load_record
    from tools.stress.table import bad, table

    found = load_record(path)
    print(table(found))
    for line in bad(found):
        print(f"stress: {line}", file=sys.stderr)
    return 1 if bad(found) else 0


if __name__ == "__main__":
    main()
