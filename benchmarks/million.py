"""A million tokens through BERT-base's shape, all of its units streamed: the memory that it takes.

Random weights, made-up texts of 64 tokens, one pass. Takes half an hour and more on two cores.

    python -m benchmarks.million [--tokens 1000000] [--out results/bench_million.json]
"""

from __future__ import annotations

from benchmarks.streaming import show, whole_model
from benchmarks.timing import arguments, finish


def run(tokens: int = 1_000_000, buckets: int = 512) -> dict:
    measured, table = whole_model(tokens, buckets, repeats=0)
    return {
        "what": "the merge radius of the tokens clouds of BERT-base's units, streamed",
        "BERT-base": measured,
        "tables": {f"BERT-base, {measured['tokens']:,} tokens, once": table},
    }


def main() -> None:
    parser = arguments(__doc__, repeats=1)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--buckets", type=int, default=512)
    options = parser.parse_args()
    record = run(options.tokens, options.buckets)
    show(record["BERT-base"])
    finish(record, options.out)


if __name__ == "__main__":
    main()
