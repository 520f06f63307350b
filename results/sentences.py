"""What the four readings of a cloud give on real sentences: the record of "From outputs to clouds".

    python results/sentences.py

The first 800 sentences of SST-2's training set of at least six words, in two halves of 400, read
by the embedded model. GLUE comes from the folder OBCE_GLUE_DIR, or else from the Hub. Takes a few
minutes. No sentence is stored, only counts, and single words.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.stats import spearmanr

import obce
from obce import tasks
from obce.running.records import environment, save_record

RECORD = Path(__file__).parent / "sentences.json"
READINGS = ("texts", "tokens", "cls", "mean")
KINDS, LAYERS, HALF, BALANCED = ("intermediate", "value"), (1, 3), 400, 30


def sentences() -> list[str]:
    """Two halves of 400 sentences; the training set also holds phrases of one or two words."""
    texts = tasks.texts(tasks.load("sst2", "train", limit=6000))
    return [text for text in dict.fromkeys(texts) if len(text.split()) >= 6][: 2 * HALF]


def smaller(points: np.ndarray) -> np.ndarray:
    """Which points lie on the smaller side of the last merge, as a mask."""
    if points.ndim > 1:
        above = fcluster(linkage(points, "single"), 2, "maxclust") == 2
    else:
        line = np.sort(points)
        above = points > line[np.diff(line).argmax()]
    return above if above.mean() < 0.5 else ~above


def scored(model, tokenizer, texts: list[str]) -> dict[str, dict]:
    """The merge radius in all four readings, and the standard deviation over tokens."""
    with obce.collect(model, tokenizer, texts, kinds=list(KINDS), layers=list(LAYERS)) as found:
        radii = {name: obce.score(found, "merge_radius", cloud=name) for name in READINGS}
        return radii | {"std": obce.score(found, "std", cloud="tokens")}


def best_word(side: np.ndarray, texts: list[str]) -> dict[str, Any]:
    """The word whose presence agrees best with one side of a split (Jaccard's index)."""
    words = [set(text.split()) for text in texts]
    inside = Counter(word for has, of in zip(side, words, strict=True) if has for word in of)
    everywhere = Counter(word for of in words for word in of)
    rate = {w: k / (side.sum() + everywhere[w] - k) for w, k in inside.items()}
    word = max(rate, key=lambda w: (rate[w], w))
    return {"word": word, "having it": everywhere[word], "both": inside[word]}


def main() -> None:
    texts = sentences()
    model, tokenizer = obce.load_bert()
    halves = [scored(model, tokenizer, texts[part::2]) for part in (0, 1)]
    reliability = {
        kind: {
            name: {
                f"layer {layer}": round(
                    float(spearmanr(*(half[name][layer, kind] for half in halves)).statistic), 3
                )
                for layer in LAYERS
            }
            for name in halves[0]
        }
        for kind in KINDS
    }
    first = texts[0::2]
    sides: dict[str, Any] = {}
    found = []
    with obce.collect(model, tokenizer, first, layers=[1], kinds=["intermediate"]) as activations:
        for name in READINGS:
            units = activations.cloud(1, "intermediate", name)
            units = units[::8] if name == "texts" else units
            sizes = np.array([smaller(points).sum() for points in units])
            sides[name] = {
                "units": len(sizes),
                "a single point": int((sizes == 1).sum()),
                "more than 30": int((sizes > BALANCED).sum()),
            }
    with obce.collect(model, tokenizer, first, clouds=["mean"]) as everywhere:
        for layer, kind in everywhere.groups:
            for unit, points in enumerate(everywhere.cloud(layer, kind, "mean")):
                side = smaller(points)
                if side.sum() > BALANCED:
                    told = {"layer": layer, "kind": kind, "unit": unit, "texts": int(side.sum())}
                    found.append(told | best_word(side, first))
        units = everywhere.shape.units
    save_record(
        {
            "environment": environment(),
            "what": "SST-2, training set, sentences of at least six words",
            "texts in a half": HALF,
            "rank correlation of two halves": reliability,
            "smaller side, layer 1, intermediate": sides,
            "units": units,
            "balanced splits in the reading mean": found,
        },
        RECORD,
    )
    print(len(found), "balanced splits of", units)


if __name__ == "__main__":
    main()
