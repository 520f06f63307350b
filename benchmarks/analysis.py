"""What the analysis of BERT-base costs beside the forward passes that feed it.

BERT-base's shape (random weights), 150 texts of 64 tokens: the forward passes alone, collecting
with hooks and files, and the merge radius of all 82,944 units for each cloud.

    python -m benchmarks.analysis [--repeats 3] [--out results/bench_analysis.json]
"""

from __future__ import annotations

import torch
from transformers import AutoTokenizer, BertConfig, BertModel

import obce
from benchmarks.timing import arguments, finish, in_turn, table
from obce.activations import CLOUDS
from obce.running.loading import embedded_folder
from obce.texts import batches, model_inputs


def texts_of_64_tokens(count: int) -> list[str]:
    """Sentences of a built-in task, joined until they are longer than 64 tokens."""
    sentences = obce.tasks.texts(obce.tasks.load("mini-sentiment", "train"))
    return [" ".join(sentences[i * 10 : i * 10 + 10]) for i in range(count)]


def forward(bert, encodings) -> None:
    with torch.inference_mode():
        for batch in batches(encodings, 32):
            bert(**model_inputs(encodings, batch, bert.device))


def run(repeats: int = 3) -> dict:
    torch.manual_seed(0)
    bert = BertModel(BertConfig()).eval()
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    texts = texts_of_64_tokens(150)
    with obce.collect(bert, tokenizer, texts) as found:
        assert set(map(len, found.masks)) == {64}
        cases = {
            "forward passes": lambda: forward(bert, found.encodings),
            "collect": lambda: obce.collect(bert, tokenizer, texts).close(),
        }
        for cloud in CLOUDS:
            cases[f"merge radius, {cloud}"] = lambda c=cloud: obce.score(found, cloud=c)
        seconds = in_turn(cases, repeats)
    return {
        "what": "merge radius of BERT-base's 82,944 units beside its forward passes",
        "texts": len(texts),
        "tokens": 64,
        "repeats": repeats,
        "tables": {"BERT-base, 150 texts of 64 tokens": table(seconds, "forward passes")},
    }


def main() -> None:
    options = arguments(__doc__, repeats=3).parse_args()
    finish(run(options.repeats), options.out)


if __name__ == "__main__":
    main()
