"""BERT-large's shape on two cores: the whole way from texts to a saved and reloaded small model.

Random weights (the shape decides time and memory, not the values), 221,184 units, 150 texts of
64 tokens. Peak memory of the whole process, seconds of each step, and how true the progress bars
were: at a quarter, half and three quarters, the time left that the bar said over the time that it
then took.

    python -m benchmarks.large [--out results/bench_large.json]
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
)

import obce
from benchmarks.analysis import texts_of_64_tokens
from benchmarks.timing import arguments, finish, table
from obce import activations, scores, surgery
from obce.running.loading import embedded_folder

LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}


class Watched(tqdm):
    """A progress bar that remembers what it promised."""

    seen: list[Watched] = []

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{**kwargs, "disable": False})
        self.promised: list[tuple[float, float, float]] = []  # share done, seconds left, when
        Watched.seen.append(self)

    def update(self, n=1):
        shown = super().update(n)
        told = self.format_dict
        if told["rate"] or told["elapsed"]:
            rate = told["rate"] or told["n"] / told["elapsed"]  # as format_meter computes it
            left = (told["total"] - told["n"]) / rate
            self.promised.append((told["n"] / told["total"], left, time.perf_counter()))
        return shown

    def __iter__(self):
        for item in self.iterable:
            yield item
            self.update()
        self.close()

    def truth(self) -> dict[str, float]:
        end = self.promised[-1][2]
        found = {}
        for share in (0.25, 0.5, 0.75):
            done, left, when = next(p for p in self.promised if p[0] >= share)
            if end > when:
                found[f"{share:.0%}"] = left / (end - when)
        return found


def peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def way(steps: dict[str, float], peaks: dict[str, float]) -> dict:
    """The steps and their sum as a table, with the peak of memory so far beside them."""
    whole = "the whole way"
    seconds = {**steps, whole: sum(steps.values())}
    found = table({step: [taken] for step, taken in seconds.items()}, whole)
    for step, peak in {**peaks, whole: max(peaks.values())}.items():
        if step in found["rows"]:
            found["rows"][step]["note"] = f"peak {peak:.2f} GB"
    return found


def run(texts: int = 150) -> dict:
    for module in (activations, scores, surgery):
        module.tqdm = Watched
    torch.manual_seed(0)
    steps: dict[str, float] = {}
    peaks: dict[str, float] = {"libraries": peak_gigabytes()}
    last = time.perf_counter()

    def done(step: str) -> None:
        nonlocal last
        now = time.perf_counter()
        steps[step], peaks[step] = now - last, peak_gigabytes()
        print(f"{step:<28} {steps[step]:8.1f} s, peak {peaks[step]:.2f} GB", flush=True)
        last = now

    model = BertForSequenceClassification(BertConfig(**LARGE)).eval()
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    corpus = texts_of_64_tokens(texts)
    done("model")
    with obce.collect(model, tokenizer, corpus, clouds=("mean", "texts"), progress=True) as found:
        done("collect")
        obce.score(found, "merge_radius", cloud="mean", progress=True)
        done("score, mean")
        found_scores = obce.score(found, "merge_radius", cloud="texts", progress=True)
        done("score, texts")
    plan = obce.plan(model, found_scores, keep_total=0.523)
    done("plan")
    small = obce.compress(
        model, plan, repair="least_squares", texts=corpus, tokenizer=tokenizer, progress=True
    )
    done("cut and repair")
    batch = tokenizer(corpus[:2], return_tensors="pt", truncation=True, max_length=64)
    with torch.inference_mode():
        before = small(**batch).logits.numpy()
    with tempfile.TemporaryDirectory() as folder:
        small.save_pretrained(folder)
        size = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
        done("save")
        loaded = AutoModelForSequenceClassification.from_pretrained(folder)
        done("load")
        with torch.inference_mode():
            after = loaded(**batch).logits.numpy()
    np.testing.assert_array_equal(before, after)
    return {
        "what": "BERT-large's shape from texts to a saved, reloaded small model",
        "units": plan.shape.units,
        "texts": texts,
        "tokens": 64,
        "parameters": {"dense": plan.dense.total, "compressed": plan.parameters.total},
        "file_bytes": size,
        "seconds": steps,
        "peak_gigabytes": peaks,
        "progress_bars": {bar.desc: bar.truth() for bar in Watched.seen},
        "tables": {f"{plan.shape.units:,} units, {texts} texts of 64 tokens": way(steps, peaks)},
    }


def main() -> None:
    options = arguments(__doc__, repeats=1).parse_args()
    record = run()
    for name, truth in record["progress_bars"].items():
        print(f"bar {name}: time left said / true {truth}")
    finish(record, options.out)


if __name__ == "__main__":
    main()
