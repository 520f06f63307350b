"""A user's own rows, up to a million of them: seconds and memory from the file to a task.

Each size runs in a process of its own, since peak memory is a process's. The file is parsed into
the cache of ``datasets`` (an empty one, in a temporary folder), every text and label is checked,
and 2,048 rows are taken out and hashed, as obce compress does. Memory is what the peak is above
that of a file of ten rows.

    python benchmarks/own_data.py [--rows 1000000] [--out results/bench_own_data.json]
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timing import arguments, finish, table

from obce import tasks
from obce.jobs.arguments import Data

WORDS = "a the film story was is not very good bad dull bright moving slow and or but".split()
LABELS = ("apart", "close", "far", "near", "same")
SIZES = (10, 10_000, 100_000, 1_000_000)
SAMPLE = 2048


def write(path: Path, rows: int) -> None:
    """A CSV file of pairs of some twenty words each."""
    draw = random.Random(0)
    sentences = [" ".join(draw.choices(WORDS, k=20)) for _ in range(1000)]
    with open(path, "w", encoding="utf-8") as file:
        file.write("first,second,label\n")
        for i in range(rows):
            pair = f"{draw.choice(sentences)},{draw.choice(sentences)}"
            file.write(f"{i} {pair},{LABELS[i % 5]}\n")


def measure(path: Path) -> dict[str, float]:
    """Read a file as a task and take the rows of a job out of it."""
    start = time.perf_counter()
    data = Data(train_file=str(path), text_column="first", text_pair_column="second")
    task = data.find_task()
    rows = data.sample(data.rows(task, "train"), SAMPLE)
    tasks.data_sha256(rows)
    seconds = time.perf_counter() - start
    # in kilobytes on Linux: what other programs may not have, mapped files included
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    with open("/proc/self/status", encoding="utf-8") as status:
        own = [line.split()[1] for line in status if line.startswith("RssAnon")]
    return {"seconds": seconds, "peak_mb": peak, "own_mb": float(own[0]) / 1e3}


def in_a_process(path: Path, cache: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", str(path)]
    environment = os.environ | {"HF_DATASETS_CACHE": str(cache)}
    return json.loads(subprocess.check_output(command, env=environment, text=True))


def run(largest: int, repeats: int) -> dict:
    sizes = [size for size in SIZES if size <= largest]
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            path = Path(folder) / f"{size}.csv"
            write(path, size)
            found[f"{size:>9,} rows"] = [
                {**in_a_process(path, Path(folder) / f"{size}-{turn}"),
                 "file_mb": path.stat().st_size / 1e6}
                for turn in range(repeats)
            ]  # fmt: skip
    base = f"{sizes[0]:>9,} rows"  # so that files sort them by size
    least = min(one["peak_mb"] for one in found[base])
    seconds = table({name: [one["seconds"] for one in runs] for name, runs in found.items()}, base)
    for name, row in seconds["rows"].items():
        peak = max(one["peak_mb"] for one in found[name])
        own = max(one["own_mb"] for one in found[name])
        row["note"] = (
            f"file {found[name][0]['file_mb']:.1f} MB, peak {peak - least:.0f} MB above, "
            f"{own:.0f} MB its own at the end"
        )
    return {
        "what": "own rows from a CSV file to a checked task and the rows of a job",
        "runs": found,
        "tables": {"from the file to the task, parsing included": seconds},
    }


def main() -> None:
    parser = arguments(__doc__, repeats=2)
    parser.add_argument("--rows", type=int, default=SIZES[-1], help="of the largest file")
    parser.add_argument("--measure", type=Path, help="read this file, print what it took")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    finish(run(options.rows, options.repeats), options.out)


if __name__ == "__main__":
    main()
