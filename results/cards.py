"""How many units of a model have a story, before and after fine-tuning on SST-2.

    python results/cards.py MODEL   # OBCE_GLUE_DIR, MODEL fine-tuned on SST-2

Cards of all value and intermediate units over SST-2's training sentences, without silence: how
many have more than one group, how many a story, and which ones. Also what a correlation clustering
makes superfluous, as Dalvi et al. (2020) count it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from obce import collect, explain, tasks
from obce.base.settings import EFFECT, LEVEL
from obce.explain.roles import shares_of
from obce.running.loading import load_bert, load_classifier
from obce.running.records import environment, load_record, model_sha256, save_record
from obce.units import READS

TEXTS = 200
THRESHOLDS = (0.3, 0.5, 0.7)


def counts(model, tokenizer, texts, labels):
    """Per layer and kind: units, those with several groups, those with a story, and which."""
    groups = [(layer, kind) for layer in range(6) for kind in READS.values()]
    shares, rows = shares_of(model, tokenizer, texts, groups), []
    for layer, kind in groups:
        found = explain.layer(model, tokenizer, texts, layer, kind, labels, shares=shares)
        told = [card for card in found if card.told]
        about = Counter(card.told[0].follows for card in told)
        sizes = Counter(len(card.groups) for card in found)
        rows.append({
            "layer": layer, "kind": kind, "units": len(found),
            "split": sum(len(card.groups) > 1 for card in found), "told": len(told),
            "share_told": round(sum(card.share for card in told), 4),
            "groups": {str(k): sizes[k] for k in sorted(sizes)},
            "stories": dict(about.most_common(12)),
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def redundant(model, tokenizer, texts):
    """Shares of superfluous units by threshold: [CLS] of what all layers write, and by kind."""
    found = []
    kinds = ("value", "attention_output", "intermediate", "output")
    with collect(model, tokenizer, texts, clouds=("cls", "tokens"), kinds=kinds) as activations:
        every = [activations.cloud(layer, "output", "cls") for layer in range(6)]
        sets = {"[CLS] of all layers' output": np.concatenate(every).T}
        for kind in kinds:
            sets[f"tokens, layer 3, {kind}"] = activations.cloud(3, kind, "tokens").T
    for name, outputs in sets.items():
        for method in ("average", "single"):
            for threshold in THRESHOLDS:
                one = explain.redundancy(outputs, threshold, method)
                found.append({
                    "units": outputs.shape[1], "points": len(outputs), "of": name,
                    "linkage": method, "threshold": threshold, "share": round(float(one.share), 4),
                    "largest": len(one.groups()[0]),
                })  # fmt: skip
                print(found[-1], flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--only", help="one of the two models: pretrained, fine-tuned")
    parser.add_argument("--out", type=Path, default=Path("results/cards.json"))
    arguments = parser.parse_args()
    rows = tasks.load("sst2", "train", limit=2000, seed=1)
    # whole sentences: most of SST-2's training rows are phrases of a few words
    long = [row for row in rows if len(row["sentence"].split()) >= 8][:TEXTS]
    texts, labels = [row["sentence"] for row in long], [row["label"] for row in long]
    models = {
        "pretrained": lambda: load_bert("embedded"),
        "fine-tuned": lambda: load_classifier(arguments.model, "sst2")[:2],
    }
    record = {
        "task": "sst2", "texts": len(texts), "level": LEVEL, "effect": EFFECT,
        "models": {},
    }  # fmt: skip
    if arguments.out.is_file():  # a model that is done is not run again
        record["models"] = load_record(arguments.out)["models"]
    wanted = {arguments.only} if arguments.only else set(models)
    for name in sorted(wanted - record["models"].keys(), reverse=True):
        model, tokenizer = models[name]()
        named = ["negative" if label == 0 else "positive" for label in labels]
        record["models"][name] = {
            "sha256": model_sha256(model),
            "redundant": redundant(model, tokenizer, texts),
            "units": counts(model, tokenizer, texts, named),
        }
        save_record(record | {"environment": environment()}, arguments.out)


if __name__ == "__main__":
    main()
