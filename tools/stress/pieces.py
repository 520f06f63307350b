"""One piece of the work in a process of its own: ``python -m tools.stress.pieces PART COUNT SEED
FILE``. It begins without threads, so that children of it may be forked."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LOADERS = ("plan", "scores", "record", "config", "glue", "own_data")
PARTS = ("kills", "disks", "pairs", "foreign", "network", *LOADERS)


def run(part: str, count: int, seed: int, keep: Path) -> dict[str, Any]:
    """The counts of one piece; files that went wrong are kept in ``keep``."""
    folder = Path(tempfile.mkdtemp(prefix="obce-stress-"))
    os.environ["HF_HOME"] = str(folder / "huggingface")  # what datasets caches
    os.environ["OMP_NUM_THREADS"] = "1"
    start = time.perf_counter()
    try:
        counts = _run(part, count, seed, folder, keep)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {**counts, "seconds": round(time.perf_counter() - start, 1)}


def _run(part: str, count: int, seed: int, folder: Path, keep: Path) -> dict[str, Any]:
    if part in LOADERS:
        from tools.stress.mutations import loaders, mutate

        return mutate(loaders(folder)[part], count, seed, keep)
    from tools.stress import hostile, kills

    if part == "foreign":
        return hostile.foreign_checkpoints(folder)
    if part == "network":
        return hostile.without_network(folder)
    work = {"kills": kills.kill_jobs, "disks": hostile.fill_disks, "pairs": hostile.pair_jobs}
    return work[part](count, seed, folder)


if __name__ == "__main__":
    part, count, seed, file = sys.argv[1:]
    counts = run(part, int(count), int(seed), Path(file).with_suffix(""))
    Path(file).write_text(json.dumps(counts), encoding="utf-8")
