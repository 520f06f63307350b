"""How fast the compressed model is, beside what its multiply-adds promise.

The embedded MiniLM and BERT-base's shape (random weights), cut to 46.5 % of the encoder's
parameters by random scores, which decide nothing here: the widths do. Timed in turns with
transformers' own dense model (SDPA): forward passes of three batches on one and two threads, with
equal and unequal heads, with round widths, with the default kinds cut and with all six. Then
loading, file and memory.

    python -m benchmarks.model_speed [--repeats 7] [--out results/bench_model_speed.json]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.benchmark.utils.timer import timer
from transformers import AutoModel, BertConfig, BertModel
from transformers.utils import logging

import obce
from obce import scores
from obce.running.loading import embedded_folder
from obce.running.records import environment, save_record, spread
from obce.running.speed import SHAPES, in_turns, ratios, times
from obce.running.tables import text_table
from obce.units import KINDS, count_multiply_adds, count_parameters, shape_of

KEEP = 0.465
PAIRS = ("query", "key", "value", "intermediate")

# name -> how the plan is made; those of LARGE are timed on BERT-base's largest batch, too
VARIANTS = {
    "default": {},
    "default, unequal heads": {"heads": "free"},
    "default, multiples of 8": {"multiple_of": 8},
    "query and key too": {"kinds": PAIRS},
    "query and key too, unequal heads": {"kinds": PAIRS, "heads": "free"},
    "all kinds": {"kinds": KINDS},
    "all kinds, unequal heads": {"kinds": KINDS, "heads": "free"},
    "all kinds, multiples of 8": {"kinds": KINDS, "multiple_of": 8},
}
LARGE = ("default", "default, unequal heads", "default, multiples of 8")

RESIDENT = """
import sys
import psutil, torch, transformers, obce
transformers.utils.logging.disable_progress_bar()
ids = torch.ones(1, 32, dtype=torch.long)
process = psutil.Process()
before = process.memory_info().rss
model = transformers.AutoModel.from_pretrained(sys.argv[1])
with torch.inference_mode():
    model(ids)
print(process.memory_info().rss - before)
"""


def models() -> dict[str, BertModel]:
    """The dense models, in evaluation mode."""
    torch.manual_seed(0)
    minilm = BertModel.from_pretrained(embedded_folder())  # with its pooler
    return {"MiniLM": minilm.eval(), "BERT-base": BertModel(BertConfig()).eval()}


def compressed(dense: BertModel, names: Sequence[str] = tuple(VARIANTS)) -> dict[str, BertModel]:
    """``dense``, cut to 46.5 % of its encoder in several ways."""
    chance = scores.random(shape_of(dense))
    return {
        name: obce.cut(dense, obce.plan(dense, chance, keep_encoder=KEEP, **VARIANTS[name]))
        for name in names
    }


def passes(
    name: str,
    dense: BertModel,
    small: dict[str, BertModel],
    shapes: Sequence[tuple[int, int]],
    threads: Sequence[int],
    repeats: int,
) -> list[dict[str, Any]]:
    """One row for each variant, batch and number of threads."""
    rows = []
    for number in threads:
        for texts, tokens in shapes:
            slow = name == "BERT-base" and texts * tokens > 2000
            timed = {key: small[key] for key in small if key in LARGE or not slow}
            # a single text takes little time, of which noise is a larger part
            rounds = min(repeats, 3) if slow else repeats * (3 if texts == 1 else 1)
            found = times({"dense": dense, **timed}, texts, tokens, number, rounds)
            for variant, model in timed.items():
                ratio = count_multiply_adds(dense, texts, tokens)
                ratio /= count_multiply_adds(model, texts, tokens)
                speed_up = spread(ratios(found["dense"], found[variant]))
                row = {
                    "model": name,
                    "variant": variant,
                    "texts": texts,
                    "tokens": tokens,
                    "threads": number,
                    "repeats": len(found["dense"]),
                    "dense_seconds": spread(found["dense"]),
                    "seconds": spread(found[variant]),
                    "multiply_adds": count_multiply_adds(model, texts, tokens),
                    "multiply_add_ratio": ratio,
                    "speed_up": speed_up,
                    "share": speed_up["median"] / ratio,
                }
                equal = variant.removesuffix(", unequal heads")
                if equal != variant:  # seconds of unequal heads to those of equal ones
                    row["to_equal"] = spread(ratios(found[variant], found[equal]))
                rows.append(row)
                print(line(row), flush=True)
    return rows


def tables(rows: list[dict[str, Any]]) -> dict[str, dict]:
    """The passes as tables, one for each model, batch and number of threads."""
    found: dict[str, dict] = {}
    for row in rows:
        title = f"{row['model']}, {row['texts']} x {row['tokens']}, threads: {row['threads']}"
        one = {"median": 1.0, "min": 1.0, "max": 1.0}
        dense = {"dense": {"seconds": row["dense_seconds"], "ratio": one}}
        table = found.setdefault(title, {"ratio to": "dense", "rows": dense})
        faster = row["speed_up"]
        table["rows"][row["variant"]] = {
            "seconds": row["seconds"],
            "ratio": {
                "median": 1 / faster["median"],
                "min": 1 / faster["max"],
                "max": 1 / faster["min"],
            },
            "note": f"by multiply-adds {1 / row['multiply_add_ratio']:.2f}",
        }
    return found


def line(row: dict[str, Any]) -> str:
    unequal = f", {row['to_equal']['median']:.2f} of equal heads" if "to_equal" in row else ""
    return (
        f"{row['model']:<9} {row['texts']}x{row['tokens']}, {row['threads']} threads, "
        f"{row['variant']}: {row['speed_up']['median']:.2f} times as fast "
        f"({row['speed_up']['min']:.2f} to {row['speed_up']['max']:.2f}), "
        f"{row['multiply_add_ratio']:.2f} by multiply-adds: {row['share']:.2f}{unequal}"
    )


def on_disk(name: str, dense: BertModel, small: dict[str, BertModel], repeats: int) -> list[dict]:
    """File, resident memory and loading of the dense model and two compressed ones."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        kept = {"dense": dense, **{key: small[key] for key in LARGE[:2]}}
        paths = {key: Path(folder) / str(number) for number, key in enumerate(kept)}
        for key, model in kept.items():
            model.save_pretrained(paths[key])
        runs = {key: partial(load_seconds, path) for key, path in paths.items()}
        for run in runs.values():
            run()
        seconds = in_turns(runs, repeats)
        for key, model in kept.items():
            rows.append(
                {
                    "model": name,
                    "variant": key,
                    "parameters": count_parameters(model)._asdict(),
                    "file_bytes": (paths[key] / "model.safetensors").stat().st_size,
                    "resident_bytes": resident(paths[key]),
                    "load_seconds": spread(seconds[key]),
                    "load_to_dense": spread(ratios(seconds[key], seconds["dense"])),
                }
            )
    return rows


def load_seconds(path: Path) -> float:
    start = timer()
    AutoModel.from_pretrained(path)
    return timer() - start


def resident(path: Path) -> int:
    """Bytes by which a new process grows when it loads the model and runs it once."""
    command = [sys.executable, "-c", RESIDENT, str(path)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def run(
    repeats: int = 7,
    threads: Sequence[int] = (1, 2),
    shapes: Sequence[tuple[int, int]] = SHAPES,
) -> dict[str, Any]:
    """All measurements, as a record. Prints a line for each."""
    logging.disable_progress_bar()
    rows, disk = [], []
    for name, dense in models().items():
        small = compressed(dense)
        rows += passes(name, dense, small, shapes, threads, repeats)
        disk += on_disk(name, dense, small, repeats)
    table = [["model", "", "file MB", "4 x parameters", "resident MB", "load ms", "to dense"]]
    for row in disk:
        table.append(
            [
                row["model"],
                row["variant"],
                f"{row['file_bytes'] / 1e6:.1f}",
                f"{4 * row['parameters']['total'] / 1e6:.1f}",
                f"{row['resident_bytes'] / 1e6:.0f}",
                f"{1e3 * row['load_seconds']['median']:.0f}",
                f"{row['load_to_dense']['median']:.2f}",
            ]
        )
    print(text_table(table))
    return {
        "what": "seconds of the compressed BERT beside the dense one and beside multiply-adds",
        "keep_encoder": KEEP,
        "repeats": repeats,
        "passes": rows,
        "disk": disk,
        "tables": tables(rows),
        "environment": environment(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    record = run(options.repeats, options.threads)
    if options.out:
        save_record(record, options.out)


if __name__ == "__main__":
    main()
