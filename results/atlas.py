"""The atlas of the embedded model as fine-tuned on SST-2, and what a cut takes of it: the record of
the chapter "The atlas".

    python results/atlas.py FOLDER

FOLDER holds the fine-tuned model, as this makes it: `obce finetune embedded --task sst2 --epochs 2
--learning-rate 1e-4 --bf16`. GLUE comes from the folder OBCE_GLUE_DIR, or else from the Hub. Beside
the model stand the pretrained one, and the model as cut to 46.5 % of the encoder by the default
recipe and repaired. Takes some three minutes of one core. The cut model is kept in out/atlas, with
the page and the cards: it is not made again.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm, spearmanr

import obce
from obce import explain, tasks
from obce.base.corrections import holm
from obce.book.figures import by_share
from obce.explain.roles import shares_of
from obce.pruning import Plan
from obce.running.evaluation import evaluate
from obce.running.records import environment, model_sha256, save_sealed
from obce.units import READS
from tools import browser

RECORD = Path(__file__).parent / "atlas.json"
KEPT = Path("out/atlas")
KEEP, CALIBRATION, TEXTS, WORDS = 0.465, 768, 200, 8
DRAWS, BINS = 10_000, 10
GROUPS = [(layer, kind) for layer in range(6) for kind in READS.values()]


def sentences(split: str) -> tuple[list[str], list[str], list[str]]:
    """Whole sentences with the names of their labels, and as many others; most training rows of
    SST-2 are phrases of a few words."""
    rows = tasks.load("sst2", split, limit=2000 if split == "train" else None, seed=1)
    long = [row for row in rows if len(row["sentence"].split()) >= WORDS]
    one, other = long[:TEXTS], long[TEXTS : 2 * TEXTS]
    names = ["negative" if row["label"] == 0 else "positive" for row in one]
    return [row["sentence"] for row in one], names, [row["sentence"] for row in other]


def smaller(model: Any, tokenizer: Any) -> tuple[Any, Plan]:
    """The model cut by the default recipe and repaired, from out/atlas if it lies there."""
    folder = KEPT / "small"
    if not (folder / "plan.json").is_file():
        texts = tasks.texts(tasks.load("sst2", "train", limit=CALIBRATION, seed=0))
        readings = obce.read(model, tokenizer, texts, moments=True, loss=True)
        plan = obce.plan(model, obce.score(readings), keep_encoder=KEEP)
        small = obce.compress(model, plan, repair="least_squares", texts=texts, tokenizer=tokenizer)
        small.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        plan.save(folder / "plan.json")
    return obce.load_classifier(str(folder), "sst2")[0], Plan.load(folder / "plan.json")


def ranked_alike(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's rank correlation."""
    return float(spearmanr(one, other).statistic)


def accuracy(model: Any, tokenizer: Any) -> float:
    rows = tasks.load("sst2", "dev")
    return float(evaluate(model, tokenizer, "sst2", dataset=rows)["value"])


def opened(page: Path) -> list[float]:
    """Seconds until a browser has drawn the page, five times."""
    found = []
    with browser.launched() as chromium:
        for _ in range(5):
            with chromium.new_context() as context:
                start = time.perf_counter()
                context.new_page().goto(page.resolve().as_uri(), wait_until="load")
                found.append(round(time.perf_counter() - start, 2))
    return sorted(found)


def subject(story: str) -> str:
    """What a story is about, in a word."""
    if story.startswith("the label"):
        return "the label"
    if story.endswith(("[CLS]", "[SEP]")):
        return "[CLS] and [SEP]"
    if story.endswith("in the text"):
        return "the place in the text"
    return "the text's length" if story.endswith("texts") else "words and punctuation"


def tables(charts: list[explain.Chart], bins: int, wanted: Callable[[str], bool]) -> np.ndarray:
    """``(strata, 2, 2)``: units with a wanted story and without any, kept and cut. A stratum is a
    layer and kind, or there one of ``bins`` parts of the units, by their shares."""
    found = []
    for chart in charts:
        told = np.array([bool(story) and wanted(story) for story in chart.stories])
        none = np.array([not story for story in chart.stories])
        for part in np.array_split(np.argsort(-chart.shares, kind="stable"), bins):
            kept = chart.kept[part]
            found.append(
                [[(row & kept).sum(), (row & ~kept).sum()] for row in (told[part], none[part])]
            )
    return np.array(found)


def difference(found: np.ndarray) -> np.ndarray:
    """How many more of 100 units with a story are kept than of those without, at equal stratum:
    the risk difference of Mantel and Haenszel; ``found``: ``(..., strata, 2, 2)``."""
    told, untold = (found[..., row, :].sum(axis=-1) for row in (0, 1))
    weight = told * untold / np.maximum(told + untold, 1)
    rates = found[..., 0] / np.maximum(found.sum(axis=-1), 1)  # kept, of each row
    gaps = rates[..., 0] - rates[..., 1]
    return 100 * (weight * gaps).sum(axis=-1) / weight.sum(axis=-1)


def compared(
    charts: list[explain.Chart], bins: int, wanted: Callable[[str], bool] = bool
) -> dict[str, Any]:
    """Stories that stay, beside those that would stay if the plan drew its units blindly, as many
    of each stratum as it keeps there; and the difference in points, with its interval."""
    found, random = tables(charts, bins, wanted), np.random.default_rng(0)
    told, kept = found[:, 0].sum(axis=1), found[:, :, 0].sum(axis=1)
    every = found.sum(axis=(1, 2))
    blind = random.hypergeometric(told, every - told, kept, size=(DRAWS, len(told))).sum(axis=1)
    expected = told * kept / every
    variance = expected * (every - told) * (every - kept) / every / np.maximum(every - 1, 1)
    z = (found[:, 0, 0].sum() - expected.sum()) / np.sqrt(variance.sum())
    again = np.stack([
        random.multinomial(n, cells / n, size=DRAWS) for n, cells in
        zip(every, found.reshape(-1, 4), strict=True)
    ], axis=1).reshape(DRAWS, -1, 2, 2)  # fmt: skip
    return {
        "stories": int(told.sum()), "kept": int(found[:, 0, 0].sum()),
        "kept blindly": round(float(expected.sum()), 1),
        "kept blindly, 95 %": np.quantile(blind, [0.025, 0.975]).astype(int).tolist(),
        "points more": round(float(difference(found)), 1),
        "points more, 95 %": np.quantile(difference(again), [0.025, 0.975]).round(1).tolist(),
        "p": float(2 * norm.sf(abs(z))),
    }  # fmt: skip


def lost(charts: list[explain.Chart]) -> dict[str, Any]:
    """Of the different stories, how many have no unit left; beside plans that draw as many units
    of each layer and kind blindly."""
    random = np.random.default_rng(0)

    def left(kept: list[np.ndarray]) -> int:
        return len({
            story for chart, stays in zip(charts, kept, strict=True)
            for story, stay in zip(chart.stories, stays, strict=True) if story and stay
        })  # fmt: skip

    every = left([np.ones(len(chart.kept), dtype=bool) for chart in charts])
    blind = [every - left([random.permutation(chart.kept) for chart in charts]) for _ in range(200)]
    return {
        "different": every, "lost": every - left([chart.kept for chart in charts]),
        "lost blindly": float(np.median(blind)),
        "lost blindly, 95 %": np.quantile(blind, [0.025, 0.975]).astype(int).tolist(),
    }  # fmt: skip


def by_subject(charts: list[explain.Chart]) -> dict[str, dict[str, Any]]:
    """Units with a story about each subject: how many, how many stay, and how many would if the
    plan drew as many of each layer and kind blindly; and the layers that they are of."""
    found: dict[str, dict[str, Any]] = {}
    for chart in charts:
        for story, stays in zip(chart.stories, chart.kept.tolist(), strict=True):
            if story:
                row = found.setdefault(
                    subject(story),
                    {"units": 0, "kept": 0, "kept blindly": 0.0, "layers": Counter()},
                )
                row["units"], row["kept"] = row["units"] + 1, row["kept"] + stays
                row["kept blindly"] += float(chart.kept.mean())
                row["layers"][str(chart.layer)] += 1
    for row in found.values():
        row["kept blindly"], row["layers"] = round(row["kept blindly"], 1), dict(row["layers"])
    return dict(sorted(found.items(), key=lambda each: -each[1]["units"]))


def verdicts(charts: list[explain.Chart]) -> dict[str, Any]:
    """The comparison for all units, for some of the layers and kinds, and for stories about the
    label and about anything else; the p-values of each way to compare are corrected for the number
    of these parts."""

    def of_label(story: str) -> bool:
        return subject(story) == "the label"

    parts: dict[str, tuple[Any, ...]] = {"all": (charts,)}
    for kind in READS.values():
        parts[kind] = ([chart for chart in charts if chart.kind == kind],)
    parts["layer 0"] = ([chart for chart in charts if chart.layer == 0],)
    parts["layers above"] = ([chart for chart in charts if chart.layer > 0],)
    parts["about the label"] = (charts, of_label)
    parts["about else"] = (charts, lambda story: not of_label(story))
    found: dict[str, Any] = {}
    for how, bins in (("as many at random", 1), ("as many of each tenth by share", BINS)):
        rows = {name: compared(part, bins, *wanted) for name, (part, *wanted) in parts.items()}
        for row, p in zip(rows.values(), holm([row["p"] for row in rows.values()]), strict=True):
            row["p (Holm)"] = float(f"{p:.2g}")
            del row["p"]
        found[how] = rows
    return found


def main(folder: str) -> None:
    texts, labels, others = sentences("train")
    model, tokenizer = obce.load_classifier(folder, "sst2")[:2]
    small, plan = smaller(model, tokenizer)
    start, worked = time.perf_counter(), time.process_time()
    found = explain.atlas(
        model, tokenizer, texts, labels, plan=plan, folder=KEPT,
        others={"pretrained": obce.load_bert()[0], "compressed": small},
        title="BERT fine-tuned on SST-2",
    )  # fmt: skip
    seconds, worked = time.perf_counter() - start, time.process_time() - worked
    fresh, their_labels, _ = sentences("dev")
    unseen = explain.atlas(model, tokenizer, fresh, their_labels, plan=plan).charts
    noise = shares_of(model, tokenizer, others, GROUPS)
    before, after = (obce.read(each, tokenizer, texts) for each in (model, small))
    rows = []
    for chart in found.charts:
        group = chart.layer, chart.kind
        other, kept = noise[group], chart.kept
        told = Counter(story for story in chart.stories if story)
        most = np.sort(chart.shares)[::-1][: kept.sum()].sum()
        rows.append(chart.numbers | by_share(chart) | {
            "persistence kept, at most": float(most),
            "ranks as over other texts": ranked_alike(chart.shares, other),
            "ranks as over other texts, kept": ranked_alike(chart.shares[kept], other[kept]),
            # a share is large by what the unit puts out, or by the weights that read it
            "outputs as in compressed": ranked_alike(
                before.points[group].var(axis=0)[kept], after.points[group].var(axis=0)
            ),
            "weights as in compressed": ranked_alike(
                before.squared_norms(group)[kept], after.squared_norms(group)
            ),
            "stories": dict(told.most_common(5)),
        })  # fmt: skip
    files = [path for path in (KEPT / "cards").glob("*.js")]
    record: dict[str, Any] = {
        "environment": environment(),
        "what": f"SST-2, training set, sentences of at least {WORDS} words",
        "texts": len(texts),
        "calibration texts": CALIBRATION,
        "fine-tuned model": model_sha256(model),
        "plan": plan.summary(),
        "accuracy": {
            "rows": len(tasks.load("sst2", "dev")),
            "dense": accuracy(model, tokenizer),
            "compressed": accuracy(small, tokenizer),
        },
        "seconds for the atlas": {
            "of a busy machine": round(seconds),
            "of one core": round(worked),
        },
        "bytes of the page": (KEPT / "atlas.html").stat().st_size,
        "bytes of the cards": sum(path.stat().st_size for path in files),
        "files of cards": len(files),
        "seconds to open the page": opened(KEPT / "atlas.html"),
        "charts": rows,
        "kept more than": verdicts(found.charts),
        "different stories": lost(found.charts),
        "by subject": by_subject(found.charts),
        # the model was trained on the sentences above, with their labels; not on these
        "dev set": {
            "texts": len(fresh),
            "with a story": [chart.numbers["with a story"] for chart in unseen],
            "kept more than": verdicts(unseen),
            "by subject": by_subject(unseen),
        },
    }
    save_sealed(record, RECORD)


if __name__ == "__main__":
    main(*sys.argv[1:])
