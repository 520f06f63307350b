"""Rules for a BERT: how well a small tree over the bars of units answers in the model's place. The
record of the chapter "Rules for a BERT".

    python results/rules.py FOLDER [TASK ...]

FOLDER/TASK holds the embedded model as fine-tuned on the task, seed 0, as
`results/study/which-score.toml` says. Each is read as it is and compressed by the default recipe to
46.5 and 31.8 % of the encoder. GLUE comes from the folder OBCE_GLUE_DIR, or else from the Hub.

Three sets of texts, none of which needs a label. The ones that the recipe reads, from *train*, fix
which units are asked and where their outputs are cut. Trees are grown on sentences of *test*, which
the model has never seen, so that the bound holds: five draws. Judged on *dev*. What is read of the
models is kept in out/rules; the trees take a minute.

STS-B has no classes, and to cut its scores into some would be our own doing: it is left out.
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import cohen_kappa_score

import obce
from obce import homology, tasks
from obce.base.corrections import holm
from obce.base.settings import ANALYSIS_TEXTS, LEVEL
from obce.explain.rules import Outputs, grow, log_trees, longest_bar, most_errors, outputs
from obce.explain.splits import FLANK, splits
from obce.running.records import environment, model_sha256, save_sealed

RECORD, KEPT = Path(__file__).with_suffix(".json"), Path("out/rules")
TASKS = ("sst2", "cola", "mrpc")
MODELS = {"dense": None, "46.5 %": 0.465, "31.8 %": 0.318}
CLOUDS, ORDERS = ("mean", "cls"), ("share", "std", "random")
TOP, EARLY = 8, 3  # units of each layer and kind; layers that count as early
DRAWS, GROWN, POOL, HELD_OUT = range(5), 800, 2000, 1000
LEAVES, AT = (2, 4, 8, 16, 32), 8  # sizes of trees; the one that comparisons are made at
CUTS = 32  # quantiles at which a tree over values may cut
# Families that are compared, in both clouds.
RIVALS = [
    ("{0}/splits/share", "majority"), ("{0}/splits/share", "words"),
    ("{0}/splits/share", "{0}/values/share"),
    ("{0}/bars/share", "majority"), ("{0}/bars/share", "words"),
    ("{0}/bars/share", "{0}/bars/std"), ("{0}/bars/share", "{0}/bars/random"),
    ("{0}/bars/share", "{0}/medians/share"), ("{0}/bars/share", "{0}/outer bars/share"),
    ("{0}/bars/share", "{0}/values/share"), ("{0}/bars, early layers/share", "words"),
]  # fmt: skip
FEWEST = 5  # texts with a word, for it to be asked about


def texts_of(task: str) -> tuple[list, list, list, list[int]]:
    """Texts that fix the tests, that trees may grow on, and held out ones with their labels."""
    fixing = tasks.texts(tasks.load(task, "train", limit=ANALYSIS_TEXTS))
    growing = tasks.texts(tasks.load(task, "test", limit=POOL))
    dev = tasks.load(task, "dev", limit=HELD_OUT)
    return fixing, growing, tasks.texts(dev), dev["label"]


def read_model(
    model: Any, tokenizer: Any, texts: tuple[list, list, list, list[int]]
) -> dict[str, np.ndarray]:
    """Predictions, and of the units that any family asks their outputs; which units split."""
    fixing, growing, held_out, _ = texts
    found: dict[str, np.ndarray] = {}
    for cloud, seen in outputs(model, tokenizer, [*fixing, *growing, *held_out], CLOUDS).items():
        found["predicted"] = seen.predicted
        orders = orders_of(seen, len(fixing))
        for key, chosen in orders.items():
            pairs = [(group, unit) for group, units in chosen.items() for unit in units]
            columns = [seen.values[group][:, unit] for group, unit in pairs]
            found[f"{cloud}/{key}"] = np.stack(columns, axis=1)
            found[f"{cloud}/{key}/layer"] = np.array([group[0] for group, _ in pairs])
        split = [
            np.mean([bool(splits(column)) for column in values[: len(fixing)].T])
            for values in seen.values.values()
        ]
        found[f"{cloud}/split"] = np.array(split)
        found[f"{cloud}/units"] = np.array([values.shape[1] for values in seen.values.values()])
    return found


def orders_of(seen: Outputs, fixing: int) -> dict[str, dict]:
    """The first units of each layer and kind, by each order; a random one for each draw."""
    named: dict[str, dict] = {}
    for group, values in seen.values.items():
        if not values.shape[1]:
            continue
        cloud = values[:fixing] * seen.norms[group]
        ranks = {"share": homology.persistence_shares(cloud), "std": cloud.std(axis=0)}
        for draw in DRAWS:
            ranks[f"random{draw}"] = np.random.default_rng(draw).random(cloud.shape[1])
        for key, rank in ranks.items():
            named.setdefault(key, {})[group] = np.argsort(-rank, kind="stable")[:TOP]
    return named


def kept_or_read(folder: Path, task: str) -> dict[str, dict[str, np.ndarray]]:
    """What is read of the three models of a task, from out/rules if it lies there."""
    KEPT.mkdir(parents=True, exist_ok=True)
    places = {name: KEPT / f"{task}-{name.split()[0]}.npz" for name in MODELS}
    if not all(place.is_file() for place in places.values()):
        texts = texts_of(task)
        model, tokenizer, _ = obce.load_classifier(folder, task)
        reading = {"texts": texts[0], "tokenizer": tokenizer}
        scores = None
        for name, place in places.items():
            if place.is_file():
                continue
            small = model
            if MODELS[name] is not None:
                scores = scores or obce.score(
                    None, "second_order", model=model, metric="loss", **reading
                )
                plan = obce.plan(model, scores, keep_encoder=MODELS[name])
                small = obce.compress(model, plan, repair="least_squares", **reading)
            found = read_model(small, tokenizer, texts)
            found["sha256"] = np.array(model_sha256(small))
            with open(place.with_suffix(".part"), "wb") as file:
                np.savez(file, **found)
            place.with_suffix(".part").rename(place)
            print(place, flush=True)
    return {name: dict(np.load(place)) for name, place in places.items()}


def words(texts: list, fixing: int) -> tuple[np.ndarray, int]:
    """Which words a text has. Of a pair also which part of its words both texts have, in steps of
    the quantiles. Vocabulary and steps come from the first texts. And the number of tests."""
    joined = [text if isinstance(text, str) else " ".join(text) for text in texts]
    counted = CountVectorizer(binary=True, min_df=FEWEST).fit(joined[:fixing])
    has = counted.transform(joined).toarray().astype(np.float32)
    if isinstance(texts[0], str):
        return has, has.shape[1]
    sets = [[set(side.lower().split()) for side in text] for text in texts]
    both = np.array([len(a & b) / max(len(a | b), 1) for a, b in sets])
    return np.c_[has, steps(both[:, None], fixing)], has.shape[1] + CUTS - 1


def steps(values: np.ndarray, fixing: int) -> np.ndarray:
    """Each column by the number of quantiles of its first rows that lie below: a tree that cuts
    here has its cuts from these rows alone."""
    levels = np.arange(1, CUTS) / CUTS
    return np.stack(
        [np.searchsorted(np.quantile(column[:fixing], levels), column) for column in values.T], 1
    ).astype(np.float32)


def families(found: dict[str, np.ndarray], fixing: int) -> dict[str, list[tuple[np.ndarray, int]]]:
    """By name, the tests of each draw as columns, and how many tests there are to choose from."""
    named: dict[str, list[tuple[np.ndarray, int]]] = {}

    def cut(columns: np.ndarray, places: list[float]) -> np.ndarray:
        return (columns > np.array(places)).astype(np.float32)

    for cloud in CLOUDS:
        for order in ORDERS:
            keys = [f"random{draw}" for draw in DRAWS] if order == "random" else [order]
            asked = [found[f"{cloud}/{key}"] for key in keys]
            ends = [[longest_bar(column, FLANK) for column in outs[:fixing].T] for outs in asked]
            bars = [cut(*each) for each in zip(asked, ends, strict=True)]
            named[f"{cloud}/bars/{order}"] = [(each, each.shape[1]) for each in bars]
            named[f"{cloud}/values/{order}"] = [
                (steps(outs, fixing), outs.shape[1] * (CUTS - 1)) for outs in asked
            ]
        outs = found[f"{cloud}/share"]
        first = outs[:fixing]
        early = named[f"{cloud}/bars/share"][0][0][:, found[f"{cloud}/share/layer"] < EARLY]
        outer = cut(outs, [longest_bar(column, 1) for column in first.T])
        halves = cut(outs, np.median(first, axis=0).tolist())
        at = [(place, each.at) for place, c in enumerate(first.T) for each in splits(c)]
        tested = np.stack([outs[:, p] > x for p, x in at], axis=1) if at else outs[:, :0]
        for name, columns in {
            "splits": tested.astype(np.float32), "outer bars": outer, "medians": halves,
            "bars, early layers": early,
        }.items():  # fmt: skip
            named[f"{cloud}/{name}/share"] = [(columns, columns.shape[1])]
    return {name: rows * (len(DRAWS) // len(rows)) for name, rows in named.items()}


def draws_of(pool: int) -> list[np.ndarray]:
    """The texts that each tree is grown on."""
    return [np.random.default_rng(d).permutation(pool)[: min(GROWN, pool)] for d in DRAWS]


def trees(
    tests: list[tuple[np.ndarray, int]], predicted: np.ndarray, fixing: int, pool: int
) -> tuple[list[dict[str, Any]], np.ndarray, list[int]]:
    """One family of one model: a row for each size; and of the trees of the size of comparisons
    ``(draws, held out)`` whether they agree, and which columns the first one asks."""
    rows, compared, asked = [], np.empty(0), []
    held_out = slice(fixing + pool, None)
    for leaves in LEAVES:
        agrees, wrong, kappas, used, first = [], [], [], [], None
        for (columns, _), drawn in zip(tests, draws_of(pool), strict=True):
            here = fixing + drawn
            if columns.shape[1]:
                tree = grow(columns[here], predicted[here], leaves)
                say, used_now, first = tree.predict(columns), tree.get_n_leaves(), first or tree
            else:  # nothing to ask
                say, used_now = np.full(len(predicted), np.bincount(predicted[here]).argmax()), 1
            agrees.append(say[held_out] == predicted[held_out])
            wrong.append(int(np.sum(say[here] != predicted[here])))
            kappas.append(cohen_kappa_score(say[held_out], predicted[held_out]))
            used.append(int(used_now))
        grown, count = len(here), tests[0][1]
        # of one tree, the first draw's: an interval for one rule on texts it has not seen
        exact = stats.binomtest(int(agrees[0].sum()), agrees[0].size).proportion_ci(1 - LEVEL)
        log_rules = log_trees(leaves, count)
        rows.append({
            "leaves": leaves, "used": int(np.median(used)), "questions": count,
            "log of trees": round(log_rules, 2),
            "fidelity": rounded([each.mean() for each in agrees]),
            "kappa": round(float(np.median(np.nan_to_num(kappas))), 4),
            "first draw": {
                "grown on": round(1 - wrong[0] / grown, 4),
                "at least, by the bound": round(1 - most_errors(wrong[0], grown, log_rules), 4),
                "held out": round(float(agrees[0].mean()), 4),
                "exact interval": rounded([exact.low, exact.high]),
            },
        })  # fmt: skip
        if leaves == AT:
            compared = np.stack(agrees).astype(float)
            asked = first.tree_.feature.tolist() if first else []
    return rows, compared, [column for column in asked if column >= 0]


def rounded(values: Any) -> list[float]:
    return [round(float(value), 4) for value in values]


def paired(one: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """The difference of two means over the same texts: bootstrap over texts, and Student's t of the
    texts' differences. Draws are averaged first."""
    found = one.mean(axis=0) - other.mean(axis=0)
    if not found.any():
        return {"difference": 0.0, "interval": [0.0, 0.0], "p": 1.0}
    drawn = stats.bootstrap(
        (found,), np.mean, method="percentile", n_resamples=4999, batch=500, rng=0
    )
    low, high = drawn.confidence_interval
    return {
        "difference": round(float(found.mean()), 4), "interval": rounded([low, high]),
        "p": float(f"{stats.ttest_1samp(found, 0).pvalue:.3g}"),
    }  # fmt: skip


def of_task(folder: Path, task: str) -> dict[str, Any]:
    """The rows of a task's models, and comparisons between families and between models."""
    read, texts = kept_or_read(folder, task), texts_of(task)
    fixing, pool = len(texts[0]), len(texts[1])
    held_out = slice(fixing + pool, None)
    said = [*texts[0], *texts[1], *texts[2]]
    bag = [words(said, fixing)] * len(DRAWS)
    told: dict[str, Any] = {
        "texts": {"fixing": fixing, "pool": pool, "grown on": min(GROWN, pool),
                  "held out": len(texts[2])},
        "models": {},
    }  # fmt: skip
    agreed: dict[tuple[str, str], np.ndarray] = {}
    for name, found in read.items():
        predicted = found["predicted"]
        rows, asked = {}, {}
        for family, tests in {**families(found, fixing), "words": bag}.items():
            rows[family], agreed[name, family], asked[family] = trees(
                tests, predicted, fixing, pool
            )
        common = [np.bincount(predicted[fixing + drawn]).argmax() for drawn in draws_of(pool)]
        agreed[name, "majority"] = np.stack([predicted[held_out] == c for c in common]) * 1.0
        told["models"][name] = {
            "sha256": str(found["sha256"]),
            "accuracy": round(float(np.mean(predicted[held_out] == np.array(texts[3]))), 4),
            "majority": rounded(agreed[name, "majority"].mean(axis=1)),
            "agrees with dense": round(
                float(np.mean(predicted[held_out] == read["dense"]["predicted"][held_out])), 4
            ),
            "units": {cloud: found[f"{cloud}/units"].tolist() for cloud in CLOUDS},
            "units that split": {cloud: rounded(found[f"{cloud}/split"]) for cloud in CLOUDS},
            "layers asked": {
                cloud: found[f"{cloud}/share/layer"][asked[f"{cloud}/bars/share"]].tolist()
                for cloud in CLOUDS
            },
            "families": rows,
        }
    told["families against each other"] = {
        f"{one} - {other}".format(cloud): {
            name: paired(agreed[name, one.format(cloud)], agreed[name, other.format(cloud)])
            for name in read
        }
        for cloud, (one, other) in product(CLOUDS, RIVALS)
    }
    told["smaller - dense"] = {
        f"{cloud}/{what}": {
            name: {
                "fidelity": paired(agreed[name, family], agreed["dense", family]),
                "above the majority": paired(
                    agreed[name, family] - agreed[name, "majority"],
                    agreed["dense", family] - agreed["dense", "majority"],
                ),
            }
            for name in read if name != "dense"
        }
        for cloud, what in product(CLOUDS, ("splits/share", "bars/share", "values/share"))
        for family in [f"{cloud}/{what}"]
    } | {
        "words": {
            name: {"fidelity": paired(agreed[name, "words"], agreed["dense", "words"]),
                   "above the majority": paired(
                       agreed[name, "words"] - agreed[name, "majority"],
                       agreed["dense", "words"] - agreed["dense", "majority"])}
            for name in read if name != "dense"
        }
    }  # fmt: skip
    return told


def correct(told: dict[str, Any]) -> int:
    """Put Holm's correction beside each p-value, over all that the record compares."""
    found: list[dict[str, Any]] = []

    def collect(part: Any) -> None:
        if isinstance(part, dict):
            if "p" in part:
                found.append(part)
            else:
                for each in part.values():
                    collect(each)

    for task in told.values():
        collect(task["families against each other"])
        collect(task["smaller - dense"])
    for part, p in zip(found, holm([part["p"] for part in found]), strict=True):
        part["p, corrected"] = float(f"{p:.3g}")
    return len(found)


def main(folder: str, *only: str) -> None:
    told = {}
    for task in only or TASKS:
        told[task] = of_task(Path(folder) / task, task)
        print(task, "done", flush=True)
    record = {
        "environment": environment(), "tasks": told, "comparisons": correct(told),
        "level": LEVEL, "draws": len(DRAWS), "units of each layer and kind": TOP,
        "early layers": EARLY, "cuts": CUTS, "leaves": list(LEAVES), "leaves compared": AT,
        "made again by": "results/study/which-score.toml, seed 0, dense; then this script",
    }  # fmt: skip
    save_sealed(record, RECORD)


if __name__ == "__main__":
    main(*sys.argv[1:])
