"""The streaming merge radius: what it costs for a value, and beside the forward passes it watches.

For a value: a stream of normal points through a summary, beside sorting the same points as
``numpy.sort`` does on as many threads, and beside the exact merge radius in memory. For a model:
BERT-base's shape (random weights) over texts of 64 tokens, the forward passes alone and with a
summary of all 82,944 units, with the peak of memory above the model.

    python -m benchmarks.streaming [--tokens 20000] [--buckets 512] [--repeats 3] [--out FILE]
"""

from __future__ import annotations

import math
import resource
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

import obce
from benchmarks.timing import arguments, finish, in_turn, table
from obce.running.loading import embedded_folder
from obce.running.streaming import summarize

LENGTH = 64
BATCH = 2048  # points in one update: 32 texts of 64 tokens


class Texts:
    """Texts of more than 64 tokens, made as they are read; they can be read again."""

    def __init__(self, count: int, seed: int = 0):
        sentences = obce.tasks.texts(obce.tasks.load("mini-sentiment", "train"))
        self.words = sorted({word for text in sentences for word in text.split()})
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[str]:
        rng = np.random.default_rng(self.seed)
        for _ in range(self.count):
            yield " ".join(rng.choice(self.words, LENGTH))


def per_value(points: int, units: int, buckets: int, repeats: int) -> dict:
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
    seconds = in_turn(ways, repeats)
    least, most = found["bounds"]
    assert ((least <= exact["radius"]) & (exact["radius"] <= most)).all()
    return table(seconds, "numpy.sort", stream.size)


def peak_bytes() -> int:
    """The most memory that this process has had in use (Linux counts it in KiB)."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def whole_model(tokens: int, buckets: int, repeats: int) -> tuple[dict, dict]:
    """BERT-base over so many tokens, without and with a summary of all its units, in turns.

    With no ``repeats`` the texts are streamed once, and nothing is timed beside it.
    """
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    texts = Texts(math.ceil(tokens / LENGTH))
    torch.manual_seed(0)
    bert = BertModel(BertConfig(), add_pooling_layer=False).eval()
    model_bytes = peak_bytes()
    options = {"buckets": buckets, "passes": 1, "max_length": LENGTH}
    found = {}

    def streaming() -> None:
        found["info"] = obce.stream(bert, tokenizer, texts, progress=not repeats, **options).info

    cases = {
        "forward passes": lambda: summarize(bert, tokenizer, texts, {}, max_length=LENGTH),
        "with streaming": streaming,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the record says what is not certified
        if repeats:
            seconds = in_turn(cases, repeats)
        else:
            start = time.perf_counter()
            streaming()
            seconds = {"with streaming": [time.perf_counter() - start]}
    info = found["info"]
    first = info["passes"][0]
    measured = {
        "texts": info["texts"],
        "tokens": info["tokens"],
        "values": info["tokens"] * first["units"],
        "buckets": buckets,
        "share certified in the first pass": first["certified"] / first["units"],
        "MB of tables": first["units"] * (8 * buckets + 16) / 1e6,
        "MB above the model": (peak_bytes() - model_bytes) / 1e6,
        "MB of the values, if they were kept": 4e-6 * info["tokens"] * first["units"],
    }
    beside = table(seconds, next(iter(seconds)))
    beside["rows"]["with streaming"]["note"] = note(measured)
    return measured, beside


def note(measured: dict) -> str:
    """What a table says beside the seconds: the memory, and how much the first pass proved."""
    above, share = measured["MB above the model"], measured["share certified in the first pass"]
    return f"{above:,.0f} MB above the model, {100 * share:.3f} % certified"


def run(tokens: int = 20_000, buckets: int = 512, repeats: int = 3) -> dict:
    """Everything, as a record."""
    model, beside = whole_model(tokens, buckets, repeats)  # first: it reads the peak of memory
    points, units = 1 << 15, 768
    return {
        "what": "the streaming merge radius beside numpy.sort, and beside BERT-base's passes",
        "points": points,
        "units": units,
        "repeats": repeats,
        "BERT-base": model,
        "tables": {
            f"a value, of {points:,} normal points of {units} units": per_value(
                points, units, buckets, repeats
            ),
            f"BERT-base, {model['tokens']:,} tokens": beside,
        },
    }


def show(measured: dict) -> None:
    for name, value in measured.items():
        print(f"{name}: {value:,.6g}" if isinstance(value, float) else f"{name}: {value:,}")


def main() -> None:
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("--tokens", type=int, default=20_000, help="that BERT-base reads")
    parser.add_argument("--buckets", type=int, default=512)
    options = parser.parse_args()
    record = run(options.tokens, options.buckets, options.repeats)
    show(record["BERT-base"])
    finish(record, options.out)


if __name__ == "__main__":
    main()
