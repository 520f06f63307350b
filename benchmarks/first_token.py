"""What a classifier saves by computing its last layer for [CLS] alone, dense and compressed alike.

The embedded MiniLM (six layers) in the compressed model's form, uncut and cut to 46.5 and 31.8 % of
the encoder's parameters by random scores, which decide nothing here: the widths do. Timed on one
thread in turns: forward passes with the last layer for all tokens and for the first. Seconds are
the processor's own, which other programs on the machine disturb less than those of a clock.

    python -m benchmarks.first_token [--repeats 7] [--out results/bench_first_token.json]
"""

from __future__ import annotations

import time
from functools import partial

import torch
from transformers import BertModel

import obce
from benchmarks.timing import arguments, finish, table
from obce import scores
from obce.running.loading import embedded_folder
from obce.running.speed import SHAPES, alike, in_turns, running_threads
from obce.units import count_multiply_adds, shape_of

KEEP = (0.465, 0.318)


def models() -> dict[str, BertModel]:
    """The dense model in a compressed one's form, and two that are smaller."""
    dense = BertModel.from_pretrained(embedded_folder()).eval()  # with its pooler
    chance = scores.random(shape_of(dense))
    smaller = {
        f"{keep:.1%} kept": obce.cut(dense, obce.plan(dense, chance, keep_encoder=keep))
        for keep in KEEP
    }
    return {"dense": alike(dense), **smaller}


def run(repeats: int = 7) -> dict:
    torch.manual_seed(0)
    found = {}
    with running_threads(1), torch.inference_mode():
        for name, model in models().items():
            for texts, tokens in SHAPES:
                ids = torch.randint(1000, 20000, (texts, tokens))
                passes = max(1, 512 // (texts * tokens))  # short ones are timed together
                cases = {
                    each: partial(seconds, model, ids, passes, first_only=first)
                    for each, first in (("first token", True), ("all tokens", False))
                }
                taken = in_turns(cases, repeats + 1)
                taken = {each: values[1:] for each, values in taken.items()}
                timed = table(taken, "first token", count=passes)
                work = [count_multiply_adds(model, texts, tokens, first) for first in (True, False)]
                timed["rows"]["all tokens"]["note"] = (
                    f"{work[1] / work[0]:.3f} times the multiply-adds"
                )
                found[f"{name}, {texts} x {tokens}"] = timed
    return {
        "what": "forward passes with the last layer for all tokens and for the first",
        "threads": 1,
        "repeats": repeats,
        "tables": found,
    }


def seconds(model: BertModel, ids: torch.Tensor, passes: int, first_only: bool) -> float:
    """Of the processor, for so many passes."""
    start = time.process_time()
    for _ in range(passes):
        model(ids, first_only=first_only)
    return time.process_time() - start


def main() -> None:
    options = arguments(__doc__, repeats=7).parse_args()
    finish(run(options.repeats), options.out)


if __name__ == "__main__":
    main()
