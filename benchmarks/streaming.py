"""The streaming merge radius: what it costs for a value, and beside the forward passes it watches.

For a value: a stream of normal points through a summary, beside sorting the same points as
``numpy.sort`` does on as many threads, and beside the exact merge radius in memory. For a model:
BERT-base's shape (random weights) over texts of 64 tokens, the forward passes alone and with a
summary of all 82,944 units, with the peak of memory above the model.

    python benchmarks/streaming.py [--tokens 20000] [--buckets 512] [--repeats 3] [--out FILE]
"""

from __future__ import annotations

import argparse
import math
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

import obce
from obce.evaluation import environment, save_record
from obce.streaming import summarize
from obce.training import embedded_folder

LENGTH = 64
BATCH = 2048  # points in one update: 32 texts of 64 tokens


class Texts:
    """Texts of more than 64 tokens, made as they are read; they can be read again."""

    def __init__(self, count: int, seed: int = 0):
        sentences = obce.glue.texts(obce.glue.load("mini-sentiment", "train"))
        self.words = sorted({word for text in sentences for word in text.split()})
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[str]:
        rng = np.random.default_rng(self.seed)
        for _ in range(self.count):
            yield " ".join(rng.choice(self.words, LENGTH))


def timed(work: Callable) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def summary(seconds: list[float], floor: list[float], name: str) -> dict[str, float]:
    """Median and spread, and the median of the ratios to what ran beside it in the same round."""
    ratios = [one / other for one, other in zip(seconds, floor, strict=True)]
    return {
        "seconds": float(np.median(seconds)),
        "min": min(seconds),
        "max": max(seconds),
        f"ratio to {name}": float(np.median(ratios)),
        "least ratio": min(ratios),
        "largest ratio": max(ratios),
    }


def per_value(points: int, units: int, buckets: int, repeats: int) -> dict[str, dict[str, float]]:
    """Streaming, sorting and the exact merge radius of the same normal points, in turns."""
    rng = np.random.default_rng(0)
    stream = rng.standard_normal((points, units), dtype=np.float32)
    clouds = np.ascontiguousarray(stream.T)
    threads = torch.get_num_threads()
    step = math.ceil(units / threads / 8)
    found, exact = {}, {}

    def streaming() -> None:
        kept = obce.GapSummary(units, buckets)
        for start in range(0, points, BATCH):
            kept.update(stream[start : start + BATCH])
        found["bounds"] = kept.bounds()

    def sorting() -> None:
        with ThreadPoolExecutor(threads) as pool:
            rows = range(0, units, step)
            list(pool.map(lambda row: np.sort(clouds[row : row + step], axis=1), rows))

    def in_memory() -> None:
        exact["radius"] = obce.homology.merge_radius(clouds)

    ways = {"numpy.sort": sorting, "streaming": streaming, "exact, in memory": in_memory}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, work in ways.items():
            seconds[name].append(timed(work))
    least, most = found["bounds"]
    assert ((least <= exact["radius"]) & (exact["radius"] <= most)).all()
    table = {}
    for name, values in seconds.items():
        table[name] = summary(values, seconds["numpy.sort"], "numpy.sort")
        table[name]["ns per value"] = 1e9 * table[name]["seconds"] / stream.size
    return table


def peak_bytes() -> int:
    """The most memory that this process has had in use (Linux counts it in KiB)."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def whole_model(tokens: int, buckets: int, passes: int, repeats: int) -> dict:
    """BERT-base over so many tokens, without and with a summary of all its units, in turns."""
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    texts = Texts(math.ceil(tokens / LENGTH))
    torch.manual_seed(0)
    bert = BertModel(BertConfig(), add_pooling_layer=False).eval()
    model_bytes = peak_bytes()
    few = Texts(32)
    forward_bytes = 0
    alone, watched = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the record says what is not certified
        summarize(bert, tokenizer, few, {}, max_length=LENGTH)
        for _ in range(repeats):
            alone.append(timed(lambda: summarize(bert, tokenizer, texts, {}, max_length=LENGTH)))
            forward_bytes = forward_bytes or peak_bytes()
            scores = {}

            def streaming(scores=scores) -> None:
                found = obce.stream(
                    bert, tokenizer, texts, buckets=buckets, passes=1, max_length=LENGTH
                )
                scores["info"] = found.info

            watched.append(timed(streaming))
        peak = peak_bytes()
        if passes > 1 and scores["info"]["uncertified"]:
            found = obce.stream(
                bert, tokenizer, texts, buckets=buckets, passes=passes, max_length=LENGTH
            )
            scores["info"] = found.info
            peak = peak_bytes()
    info = scores["info"]
    first = info["passes"][0]
    return {
        "texts": info["texts"],
        "tokens": info["tokens"],
        "values": info["tokens"] * first["units"],
        "buckets": buckets,
        "passes": info["passes"],
        "share certified in the first pass": first["certified"] / first["units"],
        "units left uncertified": sum(map(len, info["uncertified"].values())),
        "MB of tables": first["units"] * (8 * buckets + 16) / 1e6,
        "MB above the model, forward passes alone": (forward_bytes - model_bytes) / 1e6,
        "MB above the model": (peak - model_bytes) / 1e6,
        "MB of the values, if they were kept": 4e-6 * info["tokens"] * first["units"],
        "table": {
            "forward passes": summary(alone, alone, "forward passes"),
            "with streaming": summary(watched, alone, "forward passes"),
        },
    }


def run(
    tokens: int = 20_000,
    buckets: int = 512,
    passes: int = 1,
    repeats: int = 3,
    points: int = 1 << 15,
    units: int = 768,
) -> dict:
    """Everything, as a record."""
    model = whole_model(tokens, buckets, passes, repeats)  # first: it reads the peak of memory
    return {
        "what": "the streaming merge radius beside numpy.sort, and beside BERT-base's passes",
        "points": points,
        "units": units,
        "repeats": repeats,
        "per value": per_value(points, units, buckets, repeats),
        "BERT-base": model,
        "environment": environment(),
    }


def show(record: dict) -> None:
    for table in (record["per value"], record["BERT-base"]["table"]):
        for name, row in table.items():
            ratio, value = next((n, v) for n, v in row.items() if n.startswith("ratio"))
            print(
                f"{name:<18} {row['seconds']:9.3f} s ({row['min']:.3f} to {row['max']:.3f})   "
                f"{ratio}: {value:.2f} ({row['least ratio']:.2f} to {row['largest ratio']:.2f})"
                + (f"   {row['ns per value']:.2f} ns per value" if "ns per value" in row else "")
            )
    for name, value in record["BERT-base"].items():
        if name != "table":
            print(f"{name}: {value:,.4g}" if isinstance(value, float) else f"{name}: {value}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=20_000, help="that BERT-base reads")
    parser.add_argument("--buckets", type=int, default=512)
    parser.add_argument("--passes", type=int, default=1, help="at most, for units not certified")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file for the record (JSON)")
    options = parser.parse_args()
    record = run(options.tokens, options.buckets, options.passes, options.repeats)
    show(record)
    if options.out:
        save_record(record, options.out)


if __name__ == "__main__":
    main()
