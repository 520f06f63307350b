"""What the scores of a layer cost beside the forward passes that feed them.

BERT-base's shape (random weights), 64 texts of 64 tokens, which are the 4,096 points of a layer's
cloud: the forward passes of the whole model, reading them, and one layer's scores: the spanning
trees of its two groups of units (768 and 3,072), persistence shares with the trees at hand, the
second order, homology between units. The floor of a tree is the product that gives the distances.

    python -m benchmarks.layers [--repeats 3] [--out results/bench_layers.json]
"""

from __future__ import annotations

import numpy as np
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

import obce
from benchmarks.analysis import forward, texts_of_64_tokens
from benchmarks.timing import arguments, finish, in_turn, table
from obce.layer_scores import persistence_share, second_order, unit_homology
from obce.running.loading import embedded_folder
from obce.texts import encode

GROUPS = ((0, "value"), (0, "intermediate"))


def run(repeats: int = 3) -> dict:
    torch.manual_seed(0)
    bert = BertModel(BertConfig()).eval()
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    texts = texts_of_64_tokens(64)
    encodings = encode(tokenizer, texts, 64, model=bert)
    readings = obce.read(bert, tokenizer, texts)
    clouds = [readings.cloud(group).astype(np.float64) for group in GROUPS]
    assert readings.points[GROUPS[0]].shape == (4096, 768)

    def trees() -> None:
        readings._trees.clear()
        for group in GROUPS:
            readings.tree(group)

    def of_layer(score) -> None:
        for group in GROUPS:
            score(readings, group, metric="norm")

    trees()
    cases = {
        "forward passes, 12 layers": lambda: forward(bert, encodings),
        "reading, 12 layers": lambda: obce.read(bert, tokenizer, texts),
        "floor of the trees: x x^T, 1 layer": lambda: [cloud @ cloud.T for cloud in clouds],
        "persistence shares, trees known, 1 layer": lambda: of_layer(persistence_share),
        "second order, 1 layer": lambda: of_layer(second_order),
        "homology between units, 1 layer": lambda: of_layer(unit_homology),
        "spanning trees, 1 layer": trees,
    }
    seconds = in_turn(cases, repeats)
    return {
        "what": "scores of a layer of BERT-base beside the model's forward passes",
        "texts": len(texts),
        "tokens": 64,
        "points": 4096,
        "repeats": repeats,
        "tables": {"BERT-base, 64 texts of 64 tokens": table(seconds, "forward passes, 12 layers")},
    }


def main() -> None:
    options = arguments(__doc__, repeats=3).parse_args()
    finish(run(options.repeats), options.out)


if __name__ == "__main__":
    main()
