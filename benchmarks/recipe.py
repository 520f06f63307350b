"""The default recipe from texts to a small model: the embedded model, and BERT-base's shape.

With as many texts as a job takes by default, of 64 tokens each (a task's are shorter): the forward
passes over them once, reading them with the slopes of the loss, scores and plan, cut and repair.
BERT-base has random weights and a new head: the shape decides time and memory, not the values.

    python -m benchmarks.recipe [--shape large] [--out results/bench_recipe.json]

``--shape large`` takes the shape of BERT-large in place of BERT-base's, to see that all of it runs.
"""

from __future__ import annotations

import collections
import itertools
import resource
import time
from collections.abc import Iterator

import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, PreTrainedModel

import obce
from benchmarks.analysis import forward
from benchmarks.large import LARGE
from benchmarks.timing import arguments, finish, table
from obce.base.settings import ANALYSIS_TEXTS, REPAIR_TEXTS
from obce.running.loading import embedded_folder, load_classifier
from obce.texts import encode
from obce.units import find_bert

MOST = max(ANALYSIS_TEXTS, REPAIR_TEXTS)
WHOLE = "analysis, cut and repair"


def windows(sentences: list[str]) -> Iterator[list[str]]:
    """Ten sentences in a row, longer than 64 tokens, from each one on; around the end."""
    twice = itertools.cycle(sentences)
    row = collections.deque(itertools.islice(twice, 10), maxlen=10)
    while True:
        yield list(row)
        row.append(next(twice))


def way(model: PreTrainedModel, tokenizer) -> tuple[dict[str, list[float]], float]:
    """The seconds of each step, and the peak of memory so far in GB."""
    sentences = obce.tasks.texts(obce.tasks.load("mini-sentiment", "train"))
    texts = [" ".join(row) for row in itertools.islice(windows(sentences), MOST)]
    scored, repaired = texts[:ANALYSIS_TEXTS], texts[:REPAIR_TEXTS]
    encodings = encode(tokenizer, scored, 64, model=find_bert(model))
    seconds: dict[str, list[float]] = {}

    def timed(step: str, work):
        start = time.perf_counter()
        result = work()
        seconds[step] = [time.perf_counter() - start]
        print(f"{step:<28} {seconds[step][0]:8.1f} s", flush=True)
        return result

    timed("forward passes", lambda: forward(find_bert(model), encodings))
    readings = timed("read", lambda: obce.read(model, tokenizer, scored, moments=True, loss=True))
    scores = timed("score", lambda: obce.score(readings))
    plan = timed("plan", lambda: obce.plan(model, scores, keep_encoder=0.465))
    small = timed("cut", lambda: obce.cut(model, plan))
    timed(
        "repair",
        lambda: obce.repair(model, small, plan, texts=repaired, tokenizer=tokenizer),
    )
    seconds[WHOLE] = [sum(each[0] for name, each in seconds.items() if name != "forward passes")]
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def run(shape: str = "base") -> dict:
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    models = {
        "the embedded model": lambda: load_classifier("embedded", "sst2").model,
        f"BERT-{shape}'s shape": lambda: BertForSequenceClassification(
            BertConfig(**(LARGE if shape == "large" else {}))
        ).eval(),
    }
    tables, peaks = {}, {}
    for name, made in models.items():
        print(name, flush=True)
        seconds, peaks[name] = way(made(), tokenizer)
        title = f"{name}, {ANALYSIS_TEXTS:,} texts scored, {REPAIR_TEXTS:,} for the repair"
        tables[title] = table(seconds, "forward passes")
    return {
        "what": "the default recipe from texts to a small model",
        "tokens": 64,
        "peak_gigabytes": peaks,
        "tables": tables,
    }


def main() -> None:
    parser = arguments(__doc__, repeats=1)
    parser.add_argument("--shape", choices=("base", "large"), default="base")
    options = parser.parse_args()
    finish(run(options.shape), options.out)


if __name__ == "__main__":
    main()
