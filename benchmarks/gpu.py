"""The same on a GPU: the homology, the streaming and the compressed model.

BERT-base's shape (random weights). 150 texts of 64 tokens: the forward passes, collecting, and
the merge radius of all 82,944 units on the GPU and on the CPU beside it. Then the streaming
beside the forward passes that feed it, and the model cut to 46.5 % of its encoder beside the
dense one, in float32 and in bfloat16. Where there is no GPU, a line says so.

    python -m benchmarks.gpu [--repeats 3] [--out results/bench_gpu.json]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

import obce
from benchmarks.analysis import forward, texts_of_64_tokens
from benchmarks.model_speed import LARGE, compressed
from benchmarks.model_speed import tables as speed_tables
from benchmarks.streaming import LENGTH, Texts
from benchmarks.timing import arguments, finish, in_turn, table, text
from obce.running.loading import embedded_folder
from obce.running.records import spread
from obce.running.speed import SHAPES, ratios, times
from obce.running.streaming import summarize
from obce.units import KINDS, count_multiply_adds, shape_of


def waited_for(work: Callable[[], object]) -> Callable[[], None]:
    """A GPU works on while Python goes on: wait for it."""

    def run() -> None:
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return run


def homology(bert: BertModel, tokenizer, texts: Sequence[str], repeats: int) -> tuple[dict, dict]:
    """The analysis on the GPU, its scores on the CPU too; how far the two are from one another."""
    devices, found = {"GPU": bert.device.type, "CPU": "cpu"}, {}
    with obce.collect(bert, tokenizer, texts) as outputs:
        cases = {
            "forward passes": lambda: forward(bert, outputs.encodings),
            "collect": lambda: obce.collect(bert, tokenizer, texts).close(),
        }
        for cloud in ("texts", "tokens"):
            for where, device in devices.items():

                def score(cloud=cloud, where=where, device=device) -> None:
                    found[cloud, where] = obce.score(outputs, cloud=cloud, device=device)

                cases[f"merge radius, {cloud}, {where}"] = score
        seconds = in_turn({name: waited_for(work) for name, work in cases.items()}, repeats)
    apart = {}
    for cloud in ("texts", "tokens"):
        there, here = found[cloud, "GPU"], found[cloud, "CPU"]
        apart[cloud] = max(
            float(np.max(np.abs(there[key] - here[key]) / np.maximum(here[key], 1e-30)))
            for key in here
        )
    return table(seconds, "forward passes"), apart


def streaming(bert: BertModel, tokenizer, texts: Texts, repeats: int) -> dict:
    """All units streamed, beside the forward passes alone."""
    shape = shape_of(bert)
    every = {(i, kind): np.arange(shape.width(kind)) for i in range(shape.layers) for kind in KINDS}
    cases = {
        "forward passes": lambda: summarize(bert, tokenizer, texts, {}, max_length=LENGTH),
        "with streaming": lambda: summarize(bert, tokenizer, texts, every, max_length=LENGTH),
    }
    return table(
        in_turn({name: waited_for(work) for name, work in cases.items()}, repeats),
        "forward passes",
    )


def speed(dense: BertModel, device: str, repeats: int, shapes=SHAPES) -> list[dict]:
    """The compressed model beside the dense one, a row for each type, batch and variant."""
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        base = dense.to("cpu", dtype)
        small = compressed(base, LARGE)
        for texts, tokens in shapes:
            found = times({"dense": base, **small}, texts, tokens, 1, repeats, device)
            for variant, model in small.items():
                ratio = count_multiply_adds(base, texts, tokens)
                ratio /= count_multiply_adds(model, texts, tokens)
                faster = spread(ratios(found["dense"], found[variant]))
                rows.append(
                    {
                        "model": f"BERT-base, {str(dtype).removeprefix('torch.')}",
                        "variant": variant,
                        "texts": texts,
                        "tokens": tokens,
                        "threads": 1,
                        "dense_seconds": spread(found["dense"]),
                        "seconds": spread(found[variant]),
                        "multiply_add_ratio": ratio,
                        "speed_up": faster,
                        "share": faster["median"] / ratio,
                    }
                )
    return rows


def run(repeats: int = 3, device: str = "cuda", texts: int = 150, tokens: int = 100_000) -> dict:
    """Everything, as a record; ``device`` and the sizes for trying it where there is no GPU."""
    torch.manual_seed(0)
    bert = BertModel(BertConfig()).eval().to(device)
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    analysis, apart = homology(bert, tokenizer, texts_of_64_tokens(texts), repeats)
    print(text(analysis), flush=True)
    many = Texts(tokens // LENGTH)
    streamed = streaming(bert, tokenizer, many, repeats)
    print(text(streamed), flush=True)
    rows = speed(bert, device, max(repeats, 7))
    return {
        "what": "homology, streaming and the compressed BERT-base on a GPU",
        "texts": texts,
        "tokens": LENGTH,
        "repeats": repeats,
        "largest relative difference of scores, GPU and CPU": apart,
        "passes": rows,
        "tables": {
            f"BERT-base, {texts} texts of {LENGTH} tokens": analysis,
            f"BERT-base, {LENGTH * len(many):,} tokens streamed": streamed,
            **speed_tables(rows),
        },
    }


def main() -> None:
    options = arguments(__doc__, repeats=3).parse_args()
    if not torch.cuda.is_available():
        print("PyTorch sees no CUDA GPU here: nothing is measured, and a record stays as it is")
        return
    finish(run(options.repeats), options.out)


if __name__ == "__main__":
    main()
