"""What the analysis of a model costs beside the forward passes that feed it.

BERT-base's shape (random weights), 150 texts of 64 tokens: the forward passes alone, collecting
with hooks, and the merge radius of all 82,944 units for each cloud; and per unit, on the same
clouds, SciPy's single linkage and ripser, called as their users call them.

    python benchmarks/analysis.py [--repeats 3] [--out results/bench_analysis.json]
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from ripser import ripser
from scipy.cluster.hierarchy import linkage
from transformers import AutoTokenizer, BertConfig, BertModel

import obce
from obce.activations import CLOUDS, batches, model_inputs
from obce.evaluation import environment, save_record
from obce.training import embedded_folder


def texts_of_64_tokens(count: int) -> list[str]:
    """Sentences of a built-in task, joined until they are longer than 64 tokens."""
    sentences = obce.glue.texts(obce.glue.load("mini-sentiment", "train"))
    return [" ".join(sentences[i * 10 : i * 10 + 10]) for i in range(count)]


def timed(work, *arguments):
    start = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - start, result


def forward(bert, encodings) -> None:
    with torch.inference_mode():
        for batch in batches(encodings, 32):
            bert(**model_inputs(encodings, batch, "cpu"))


def one_run(bert, tokenizer, texts, sample: int) -> dict[str, float]:
    seconds = {}
    seconds["collect"], found = timed(obce.collect, bert, tokenizer, texts)
    with found:
        assert set(map(len, found.masks)) == {64}
        seconds["forward passes"], _ = timed(forward, bert, found.encodings)
        for cloud in CLOUDS:
            name = f"merge radius, {cloud}"
            seconds[name], _ = timed(lambda c=cloud: obce.score(found, "merge_radius", cloud=c))
        clouds = found.cloud(6, "intermediate", "texts", slice(0, sample))
    clouds = clouds.astype(np.float64)
    ours, radii = timed(obce.homology.merge_radius, clouds)
    scipy, theirs = timed(lambda: [linkage(cloud, "single")[-1, 2] for cloud in clouds])
    np.testing.assert_allclose(radii, theirs, rtol=1e-6)
    few = clouds[: sample // 10]
    ripped, deaths = timed(lambda: [ripser(cloud, maxdim=0)["dgms"][0][:, 1] for cloud in few])
    finite = [d[np.isfinite(d)].max() for d in deaths]
    np.testing.assert_allclose(radii[: len(few)], finite, rtol=1e-5)
    seconds["per unit, texts: ours"] = ours / sample
    seconds["per unit, texts: SciPy single linkage"] = scipy / sample
    seconds["per unit, texts: ripser"] = ripped / len(few)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    bert = BertModel(BertConfig()).eval()
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    texts = texts_of_64_tokens(150)
    runs = [one_run(bert, tokenizer, texts, 500) for _ in range(options.repeats)]
    table = {}
    for name in runs[0]:
        values = [run[name] for run in runs]
        floor = "per unit, texts: ours" if name.startswith("per unit") else "forward passes"
        ratios = [run[name] / run[floor] for run in runs]
        table[name] = {
            "seconds": float(np.median(values)),
            "min": min(values),
            "max": max(values),
            f"ratio to {floor}": float(np.median(ratios)),
        }
        print(
            f"{name:<40} {np.median(values):10.5f} s ({min(values):.5f} to {max(values):.5f})"
            f"   x {np.median(ratios):.2f} of {floor}"
        )
    if options.out:
        record = {
            "what": "merge radius of BERT-base's 82,944 units beside its forward passes",
            "texts": len(texts),
            "tokens": 64,
            "repeats": options.repeats,
            "table": json.loads(json.dumps(table)),
            "environment": environment(),
        }
        save_record(record, options.out)


if __name__ == "__main__":
    main()
