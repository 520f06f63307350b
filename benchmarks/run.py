"""All benchmarks, or those named: a record each in results/, and their tables in the README here.

    python -m benchmarks.run [NAME ...] [--list] [--tables]

Each runs in a process of its own, since peak memory is a process's. Nothing else should run on
the machine meanwhile. A record that is there is made anew.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.timing import text
from obce.running.records import load_record

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results"
# name -> what it answers; the order is that of the README
BENCHMARKS = {
    "homology": "merge radius of clouds, beside other programs and the floor",
    "analysis": "BERT-base's 82,944 units beside its forward passes",
    "layers": "scores of a layer beside the forward passes",
    "recipe": "the default recipe from texts to a small model, in seconds",
    "streaming": "clouds in R past memory",
    "million": "a million tokens, streamed through BERT-base",
    "processes": "one corpus on 1, 2 and 4 processes",
    "model_speed": "the compressed model beside the dense one",
    "first_token": "a classifier's last layer for [CLS] alone, dense and compressed",
    "export": "out of the framework: ONNX, int8, and both with the compression",
    "large": "BERT-large's shape from texts to a small model",
    "own_data": "a user's own rows, up to a million of them",
    "gpu": "homology, streaming and the compressed model on a GPU, where there is one",
}
BEGIN, END = "<!-- tables:begin -->\n", "<!-- tables:end -->"


def record_of(name: str) -> Path:
    return RESULTS / f"bench_{name}.json"


def tables() -> str:
    """The tables of all records that are there, as Markdown."""
    parts = []
    for name, about in BENCHMARKS.items():
        if not record_of(name).is_file():
            continue
        record = load_record(record_of(name))
        where = record["environment"]
        parts.append(f"### {name}: {about}\n")
        for title, table in record.get("tables", {}).items():
            parts.append(f"{title}\n\n```text\n{text(table)}\n```\n")
        parts.append(
            f"{where['cpu']}, {where['cores']} cores, threads: {where['threads']} unless said, "
            f"torch {where['versions']['torch']}, commit `{(where['git_commit'] or '-')[:10]}`. "
            f"Record: `results/bench_{name}.json`.\n"
        )
    return "\n".join(parts)


def write_tables() -> None:
    readme = HERE / "README.md"
    head, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    readme.write_text(head + BEGIN + tables() + END + rest.partition(END)[2], encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--list", action="store_true", help="say what there is, and stop")
    parser.add_argument("--tables", action="store_true", help="only write the tables anew")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    if options.list:
        print(*(f"{name:<12} {about}" for name, about in BENCHMARKS.items()), sep="\n")
        return
    failed = []
    for name in [] if options.tables else options.names or BENCHMARKS:
        print(f"\n== {name}: {BENCHMARKS[name]}", flush=True)
        start = time.perf_counter()
        command = [sys.executable, "-m", f"benchmarks.{name}", "--out", str(record_of(name))]
        if subprocess.run(command, cwd=HERE.parent).returncode:
            failed.append(name)
        print(f"== {name}: {time.perf_counter() - start:.0f} s", flush=True)
    write_tables()
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
