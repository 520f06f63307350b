"""Whether an explanation holds: the record of the chapter "Does the explanation hold?".

    python results/holds.py FOLDER FOLDER FOLDER

The folders hold the embedded model as fine-tuned on SST-2, CoLA and STS-B, in this order; they are
the dense models of the study, seed 0: `python -m obce.study results/study/which-score.toml` makes
them. GLUE comes from the folder OBCE_GLUE_DIR, or else from the Hub. What is done lies in out/holds
and is not computed again. Takes some fifteen minutes of one core.

Of each task: the model, units of the kinds `value` and `intermediate`, and five parts. A unit's
story is told by one half of the task's texts (A) and judged by the other half (B), and by the texts
of another task. The claims at the end, and the smallest effect that each needs, were written down
before the full run. Three changes came after a first look at SST-2: the mixture is fitted to all
units that the barcode divides, and not only to a few, of which hardly any were divided by both;
stories of the label, which were to be left out, have tests of their own, since the last layers have
hardly any other; and stories of [SEP], which is never masked, do not count for gradients.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import LayerIntegratedGradients
from datasets import Dataset
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import adjusted_rand_score, f1_score
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import obce
from obce import tasks
from obce.activations import hooked
from obce.base.devices import evaluating, inference
from obce.explain.points import LEAST, Points, points_of
from obce.explain.silencing import compare_predictions, matched
from obce.explain.splits import Split, branches, groups, splits
from obce.explain.stories import Story, stories
from obce.running.records import environment, load_record, model_sha256, save_record, save_sealed
from obce.study.statistics import resampled
from obce.texts import Encoding, Text, batches, model_inputs
from obce.units import OUTPUTS, Group, find_bert

RECORD = Path(__file__).parent / "holds.json"
KEPT = Path("out/holds")
OTHERS = {"sst2": "cola", "cola": "sst2", "stsb": "mrpc"}
KINDS = ("value", "intermediate")
GROUPS: list[Group] = [(layer, kind) for layer in range(6) for kind in KINDS]
HALF = 150  # texts: A and B of the task, and as many of another
POINTS = 1024  # tokens in a layer's cloud, for shares
SILENCED_ROWS, FRACTIONS, DRAWS = 200, (0.1, 0.25, 0.5, 0.75), 3
TOLD_UNITS = 12  # with a story, of each layer and kind
MATCHED = 5
COUNTED_UNITS, MIXED_UNITS, COUNTED_POINTS, COMPONENTS = 64, 10, 1200, 6
PROBED_TRAIN, PROBED_DEV, PROBED_UNITS, KNOWING = 600, 300, (8, 32, 128), 128
IG_TEXTS, IG_STEPS, IG_GROUPS, IG_UNITS, IG_LEAST = 48, 8, 4, 24, 3
MASKED_TEXTS, WORDS = 100, 3
PARTS = ("silencing", "stories", "groups", "probes", "attribution")


@dataclass
class Case:
    """A task with its model and its texts."""

    task: str
    model: Any
    tokenizer: Any
    own: Dataset  # rows: A, then B
    other: list[Text]  # of another task
    dev: Dataset

    @property
    def texts(self) -> list[Text]:
        return [*tasks.texts(self.own), *self.other]

    @property
    def classes(self) -> list[str] | list[float]:
        """The labels of A and B as a story tells them."""
        labels = self.own["label"]
        names = tasks.get_task(self.task).labels
        return [names[label] for label in labels] if names else list(labels)


def rows_of(task: str, count: int) -> Dataset:
    """Rows of train, for SST-2 without its phrases of a few words."""
    rows = tasks.load(task, "train", limit=6 * count, seed=1)
    words = [len(str(text).split()) for text in tasks.texts(rows)]
    return rows.select(np.flatnonzero(np.array(words) >= 8)[:count])


def case_of(task: str, folder: str) -> Case:
    model, tokenizer, _ = obce.load_classifier(folder, task)
    other = tasks.texts(rows_of(OTHERS[task], HALF))
    return Case(
        task, model, tokenizer, rows_of(task, 2 * HALF), other, tasks.load(task, "dev", seed=0)
    )


def estimate(value: float, draws: np.ndarray) -> dict[str, float]:
    """A number and its bootstrap standard error."""
    return {"value": float(value), "se": float(np.std(draws, ddof=1))}


def mean_of(values: Sequence[float]) -> dict[str, float]:
    """The mean over units, its standard error, and how many units there were."""
    row = np.asarray(values, dtype=float)
    if len(row) < 2:
        return {"value": float(row.mean()) if len(row) else 0.0, "se": float("inf"), "n": len(row)}
    return {"value": float(row.mean()), "se": float(stats.sem(row)), "n": len(row)}


# --- silencing, from the bottom and from the top ------------------------------------------------


def scores_of(case: Case, texts: list[Text]) -> dict[str, Any]:
    """What units are ranked by, within each layer and kind; no labels are used."""
    readings = obce.read(case.model, case.tokenizer, texts, points=POINTS)
    with obce.collect(
        case.model, case.tokenizer, texts, kinds=KINDS, clouds=["mean"]
    ) as activations:
        radius = obce.score(activations, "merge_radius", cloud="mean")
    return {
        "persistence share": obce.score(readings, "persistence_share", metric="norm"),
        "merge radius": radius,
        "std": obce.score(readings, "std", metric="norm"),
    }


def without(case: Case, rows: Dataset, silent: dict[Group, np.ndarray], fill: dict) -> np.ndarray:
    """The logits of a model in which some units put out their medians."""

    def receive(group: Group, output: torch.Tensor) -> None:
        units = torch.from_numpy(silent[group])
        output[..., units] = fill[group][units]

    with hooked(find_bert(case.model), list(silent), receive):
        return obce.predict(case.model, case.tokenizer, rows)


def silencing(case: Case) -> dict[str, Any]:
    """Curves of the metric and the divergence over the part of units that is silent."""
    rows = case.dev.shuffle(seed=0).select(range(SILENCED_ROWS))
    labels, texts = np.array(rows["label"]), tasks.texts(case.own)
    with obce.collect(
        case.model, case.tokenizer, texts, kinds=KINDS, clouds=["tokens"]
    ) as activations:
        fill = {group: torch.from_numpy(activations.medians(*group)) for group in GROUPS}
    dense = torch.from_numpy(without(case, rows, {}, fill)).double()
    random = np.random.default_rng(0)
    orders: dict[str, dict[Group, np.ndarray]] = {}
    for name, score in scores_of(case, texts).items():
        up = {group: np.argsort(score[group], kind="stable") for group in GROUPS}
        orders[f"{name}, bottom"] = up
        orders[f"{name}, top"] = {group: row[::-1].copy() for group, row in up.items()}
    for draw in range(DRAWS):
        orders[f"random {draw}"] = {
            group: random.permutation(len(row)) for group, row in up.items()
        }
    curves: dict[str, list[dict[str, Any]]] = {name: [] for name in orders}
    moved: dict[tuple[str, float], np.ndarray] = {}
    for name, order in orders.items():
        for part in FRACTIONS:
            silent = {group: row[: round(part * len(row))] for group, row in order.items()}
            logits = without(case, rows, silent, fill)
            rowwise, _ = compare_predictions(dense, torch.from_numpy(logits).double())
            moved[name, part] = resampled(rowwise)
            curves[name].append({
                "silent": part, "metric": metric_of(case.task, logits, labels),
                "log divergence": estimate(np.log(rowwise.mean()), moved[name, part]),
            })  # fmt: skip
            print(case.task, name, part, curves[name][-1]["metric"]["value"], flush=True)
    for part in FRACTIONS:
        each = [moved[f"random {draw}", part] for draw in range(DRAWS)]
        moved["random", part] = np.mean(each, axis=0)

    def ratio(one: str, other: str) -> dict[str, dict[str, float]]:
        """How many times the divergence, in logarithms, at each part of silent units."""
        found = {}
        for part in FRACTIONS:
            draws = moved[one, part] - moved[other, part]
            found[str(part)] = estimate(draws.mean(), draws)
        return found

    return {
        "rows": SILENCED_ROWS,
        "dense": metric_of(case.task, dense.numpy(), labels),
        "curves": curves,
        "random over bottom": ratio("random", "persistence share, bottom"),
        "top over random": ratio("persistence share, top", "random"),
        "std over share": ratio("std, bottom", "persistence share, bottom"),
        "merge radius over share": ratio("merge radius, bottom", "persistence share, bottom"),
    }


def metric_of(task: str, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    main = tasks.get_task(task).main_metric
    random, n = np.random.default_rng(0), len(labels)
    draws = [
        tasks.compute_metrics(task, logits[drawn], labels[drawn])[main]
        for drawn in random.integers(n, size=(100, n))
    ]
    return estimate(tasks.compute_metrics(task, logits, labels)[main], np.array(draws))


# --- stories, told by half A --------------------------------------------------------------------


@dataclass
class Corpora:
    """All texts of a case, read once: the points of all clouds, and of which corpus they are."""

    activations: obce.Activations
    points: Points

    def where(self, number: int) -> np.ndarray:
        """Which points are of A (0), B (1), the other task (2)."""
        return self.points.text // HALF == number

    def part(self, number: int) -> Points:
        """The points of one corpus, and the features that occur in it often enough to ask."""
        inside, points = self.where(number), self.points
        has = points.has[:, inside]
        asked = (has.sum(axis=1) >= LEAST) & ((~has).sum(axis=1) >= LEAST)
        return replace(
            points, text=points.text[inside], position=points.position[inside],
            length=points.length[inside], has=has[asked],
            features=[name for name, yes in zip(points.features, asked, strict=True) if yes],
        )  # fmt: skip


@dataclass
class Told:
    """A unit with a story: what half A has told, as a rule for any token."""

    group: Group
    unit: int
    story: Story
    found: list[Split]
    share: float
    has: np.ndarray  # (points,), or (texts,) of A and B: where the rule expects it on the side

    def side(self, values: np.ndarray) -> np.ndarray:
        parts = groups(values, self.found)
        return (self.story.first <= parts) & (parts <= self.story.last)


def rule(points: Points, told: Story, inside: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Which points a story expects on its side: those with the feature, or beyond the best cut of
    a position or a length on half A."""
    if told.follows in points.features:
        return points.has[points.features.index(told.follows)]
    word = told.follows.split()[0]
    number = points.position if word in ("early", "late") else points.length
    sign = 1 if word in ("late", "long") else -1
    cuts = np.unique(sign * number)
    best = max(cuts, key=lambda cut: f1_score(inside, (sign * number >= cut)[a]))
    return sign * number >= best


def of_label(case: Case, told: Story, there: np.ndarray) -> np.ndarray | None:
    """Which texts of A and B a story of a label expects to have a token on its side; None for the
    stories of tokens. ``there``: which of A have one."""
    if not told.follows.endswith("labels") and not told.follows.startswith("the label"):
        return None
    if not told.follows.endswith("labels"):
        return np.array([f"the label {name}" == told.follows for name in case.classes])
    labels = np.array(case.classes) * (1 if told.follows.startswith("high") else -1)
    best = max(np.unique(labels), key=lambda cut: f1_score(there, labels[:HALF] >= cut))
    return labels >= best


def tell(
    case: Case, corpora: Corpora, shares: Any
) -> tuple[list[Told], list[Told], list[dict[str, Any]]]:
    """The units of each layer and kind whose first story on half A is of tokens; those whose first
    is of the label; and how many there are."""
    a, part = corpora.where(0), corpora.part(0)
    draws = [np.random.default_rng(0) for _ in range(2)]
    told: tuple[list[Told], list[Told]] = ([], [])
    counts = []
    for group in GROUPS:
        outputs = corpora.activations.cloud(*group, "tokens")
        of_group: tuple[list[Told], list[Told]] = ([], [])
        for unit, values in enumerate(outputs[:, a]):
            found = splits(values)
            if not found:
                continue
            parts = groups(values, found)
            first = stories(part, parts, branches(found), case.classes[:HALF])[0]
            if not first.passes:
                continue
            inside = (first.first <= parts) & (parts <= first.last)
            share = float(shares[group][unit] / shares[group].sum())
            has = of_label(case, first, np.bincount(part.text, inside, minlength=HALF) > 0)
            if has is not None:
                of_group[1].append(Told(group, unit, first, found, share, has))
            else:
                has = rule(corpora.points, first, inside, a)
                of_group[0].append(Told(group, unit, first, found, share, has))
        for random, all_of_them, sample in zip(draws, of_group, told, strict=True):
            drawn = random.permutation(len(all_of_them))[:TOLD_UNITS]
            sample += [all_of_them[i] for i in sorted(drawn)]
        counts.append({
            "layer": group[0], "kind": group[1], "units": len(outputs),
            "of tokens": len(of_group[0]), "of the label": len(of_group[1]),
        })  # fmt: skip
        print(case.task, counts[-1], flush=True)
    return *told, counts


def stretches(
    each: Told, outputs: np.ndarray, spread: np.ndarray, a: np.ndarray
) -> list[np.ndarray]:
    """Where units of like std are in the same stretch of their clouds, by quantiles of half A."""
    parts = groups(outputs[each.unit, a], each.found)
    ends = [(parts < each.story.first).mean(), (parts <= each.story.last).mean()]
    found = []
    for (like,) in matched(spread, [each.unit], MATCHED):
        low, high = np.quantile(outputs[like, a], ends)
        found.append((low <= outputs[like]) & (outputs[like] <= high))
    return found


def held_out(corpora: Corpora, told: list[Told], hard: Hard) -> dict[str, Any]:
    """F1 of each rule on half B, with hard negatives, and on the other task's texts."""
    a, b, other = (corpora.where(number) for number in range(3))
    units = []
    for group in dict.fromkeys(each.group for each in told):
        outputs = corpora.activations.cloud(*group, "tokens")
        spread = outputs[:, a].std(axis=1)
        for each in [each for each in told if each.group == group]:
            values = outputs[each.unit]
            inside = each.side(values)
            found: dict[str, Any] = {
                "layer": group[0], "kind": group[1], "unit": each.unit,
                "follows": each.story.follows, "A": f1(inside[a], each.has[a]),
                "B": f1(inside[b], each.has[b]), "other": f1(inside[other], each.has[other]),
                "expected on other": float(each.has[other].mean()),
            }  # fmt: skip
            for name, where in (("B, matched", b), ("other, matched", other)):
                likes = stretches(each, outputs, spread, a)
                found[name] = float(np.mean([f1(side[where], each.has[where]) for side in likes]))
            found["B, hard"] = hard.f1(inside, each.has)
            units.append(found)
    return {"units": units, **summary(units)}


def labelled(corpora: Corpora, told: list[Told], hard: Hard) -> dict[str, Any]:
    """The same for stories of the label, text by text: which texts have a token on the side?"""
    a, units = corpora.where(0), []
    b = slice(HALF, 2 * HALF)

    def there(side: np.ndarray) -> np.ndarray:
        return np.bincount(corpora.points.text, side, minlength=3 * HALF)[: 2 * HALF] > 0

    for group in dict.fromkeys(each.group for each in told):
        outputs = corpora.activations.cloud(*group, "tokens")
        spread = outputs[:, a].std(axis=1)
        for each in [each for each in told if each.group == group]:
            texts = there(each.side(outputs[each.unit]))
            likes = [there(side) for side in stretches(each, outputs, spread, a)]
            units.append({
                "layer": group[0], "kind": group[1], "unit": each.unit,
                "follows": each.story.follows, "A": f1(texts[:HALF], each.has[:HALF]),
                "B": f1(texts[b], each.has[b]),
                "B, matched": float(np.mean([f1(like[b], each.has[b]) for like in likes])),
                "B, hard": hard.f1_of_texts(texts[b], each.has[b]),
            })  # fmt: skip
    able = [row for row in units if row["B, hard"] is not None]
    return {
        "units": units,
        "F1 on A": mean_of([row["A"] for row in units]),
        "F1 on B": mean_of([row["B"] for row in units]),
        "F1 on B, matched": mean_of([row["B, matched"] for row in units]),
        "B over matched": mean_of([row["B"] - row["B, matched"] for row in units]),
        "F1 with hard negatives": mean_of([row["B, hard"] for row in able]),
        "hard over always yes": mean_of([row["B, hard"] - 2 / 3 for row in able]),
    }


def summary(units: list[dict[str, Any]]) -> dict[str, Any]:
    def mean(measure: Callable[[dict[str, Any]], float], rows: list) -> dict[str, float]:
        return mean_of([measure(row) for row in rows])

    hard = [row for row in units if row["B, hard"] is not None]
    there = [row for row in units if row["expected on other"] > 0]
    later = [row for row in units if row["layer"] >= 2]
    special = [row for row in units if "[CLS]" in row["follows"] or "[SEP]" in row["follows"]]
    words = [row for row in units if row not in special]
    return {
        "of [CLS] or [SEP]": len(special),
        "of [CLS] or [SEP], layers 2 to 5": sum(row in later for row in special),
        "sampled, layers 2 to 5": len(later),
        "B over matched, others": mean(lambda row: row["B"] - row["B, matched"], words),
        "hard over always yes, others": mean(
            lambda row: row["B, hard"] - 2 / 3, [row for row in words if row in hard]
        ),
        "other over matched, others": mean(
            lambda row: row["other"] - row["other, matched"], [row for row in words if row in there]
        ),
        "F1 on A": mean(lambda row: row["A"], units),
        "F1 on B": mean(lambda row: row["B"], units),
        "F1 on B, matched": mean(lambda row: row["B, matched"], units),
        "B over matched": mean(lambda row: row["B"] - row["B, matched"], units),
        "B over matched, layers 2 to 5": mean(lambda row: row["B"] - row["B, matched"], later),
        "F1 with hard negatives": mean(lambda row: row["B, hard"], hard),
        "hard over always yes": mean(lambda row: row["B, hard"] - 2 / 3, hard),
        "F1 on the other task": mean(lambda row: row["other"], there),
        "other over matched": mean(lambda row: row["other"] - row["other, matched"], there),
    }


def f1(truth: np.ndarray, said: np.ndarray) -> float:
    return float(f1_score(truth, said, zero_division=0))


class Hard:
    """Hard negatives among some points: in the sentence nearest to a token's own, by the embedded
    encoder, the token most like it that lies on the other side."""

    def __init__(self, corpora: Corpora, points: np.ndarray):
        self.places, text = points, corpora.points.text[points]
        encoder, _ = obce.load_bert()
        encodings = corpora.activations.encodings
        vectors: dict[int, torch.Tensor] = {}
        with inference(encoder, "cpu") as target:
            for batch in batches([encodings[t] for t in np.unique(text)], 32):
                numbers = np.unique(text)[batch]
                inputs = model_inputs(encodings, numbers.tolist(), target)
                hidden = encoder(**inputs).last_hidden_state
                vectors |= dict(zip(numbers.tolist(), hidden, strict=True))
        position: Any = corpora.points.position
        tokens = torch.stack(
            [vectors[int(t)][int(p)] for t, p in zip(text, position[points], strict=True)]
        )
        self.tokens = torch.nn.functional.normalize(tokens, dim=-1).numpy()
        means = torch.stack([vectors[int(t)].mean(dim=0) for t in np.unique(text)])
        unit = torch.nn.functional.normalize(means, dim=-1).numpy()
        self.alike = unit @ unit.T  # (texts, texts)
        np.fill_diagonal(self.alike, -1)
        neighbour = np.unique(text)[self.alike.argmax(axis=1)]
        self.near = dict(zip(np.unique(text).tolist(), neighbour.tolist(), strict=True))
        self.members = {int(t): np.flatnonzero(text == t) for t in np.unique(text)}
        self.text = text

    def f1(self, inside: np.ndarray, has: np.ndarray) -> float | None:
        """F1 where each point on the side stands against one hard negative; always answering yes
        would give 2/3. None where nothing lies on the side."""
        inside, has = inside[self.places], has[self.places]
        positive, negative = [], []
        for point in np.flatnonzero(inside):
            near = self.members[self.near[int(self.text[point])]]
            near = near[~inside[near]]
            if len(near):
                positive.append(point)
                negative.append(near[(self.tokens[near] @ self.tokens[point]).argmax()])
        if not positive:
            return None
        chosen = np.r_[positive, negative]
        return f1(inside[chosen], has[chosen])

    def f1_of_texts(self, there: np.ndarray, expected: np.ndarray) -> float | None:
        """The same for texts: each with a point on the side against the nearest one without."""
        positive, without = np.flatnonzero(there), np.flatnonzero(~there)
        if not (len(positive) and len(without)):
            return None
        negative = without[self.alike[np.ix_(positive, without)].argmax(axis=1)]
        chosen = np.r_[positive, negative]
        return f1(there[chosen], expected[chosen])


# --- does the number of groups come again? ------------------------------------------------------


def again(case: Case, corpora: Corpora) -> dict[str, Any]:
    """Groups from A, from B and from the other task's texts: by the barcode, by BIC."""
    random = np.random.default_rng(0)
    chosen = [random.permutation(np.flatnonzero(corpora.where(n)))[:COUNTED_POINTS]
              for n in range(3)]  # fmt: skip
    limits = {"barcode": COUNTED_UNITS, "mixture": MIXED_UNITS}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in limits}
    for group in GROUPS:
        outputs = corpora.activations.cloud(*group, "tokens")
        units = random.permutation(len(outputs))[:COUNTED_UNITS]
        drawn = [regrouped(outputs, unit, chosen, by_barcode) for unit in units]
        # the mixture: of a few units, and of all that the barcode divides
        asked = [i for i, row in enumerate(drawn) if i < MIXED_UNITS or row["counts"][0] > 1]
        mixed = [regrouped(outputs, units[i], chosen, by_mixture) for i in asked]
        for name, found in (("barcode", drawn), ("mixture", mixed)):
            for place, row in enumerate(found):
                stranger = found[place - 1]["parts"][2]
                row["another unit"] = float(adjusted_rand_score(row["parts"][0], stranger))
                row |= {"layer": group[0], "kind": group[1], "at random": place < limits[name]}
            rows[name] += [{k: v for k, v in row.items() if k != "parts"} for row in found]
        print(case.task, group, "groups", flush=True)
    return {
        "units": rows,
        **{
            name: stability([row for row in found if row["at random"]])
            for name, found in rows.items()
        },
        "on the same units": on_the_same_units(rows),
    }


def regrouped(
    outputs: np.ndarray, unit: int, chosen: Sequence[np.ndarray], fit: Callable
) -> dict[str, Any]:
    """A unit's groups from three corpora: how many, and how they agree on the points of B."""
    fits = [fit(outputs[unit, points]) for points in chosen]
    parts = [labels(outputs[unit, chosen[1]]) for _, labels in fits]
    return {
        "unit": int(unit), "counts": [count for count, _ in fits], "parts": parts,
        "same task": float(adjusted_rand_score(parts[0], parts[1])),
        "other task": float(adjusted_rand_score(parts[0], parts[2])),
    }  # fmt: skip


def by_barcode(values: np.ndarray) -> tuple[int, Callable[[np.ndarray], np.ndarray]]:
    found = splits(values)
    return 1 + len(found), lambda fresh: groups(fresh, found)


def by_mixture(values: np.ndarray) -> tuple[int, Callable[[np.ndarray], np.ndarray]]:
    """As many normal distributions as BIC likes best."""
    middle, scale = values.mean(), values.std() or 1.0
    points = ((values - middle) / scale)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fits = [
            GaussianMixture(k, random_state=0, max_iter=50, reg_covar=1e-4).fit(points)
            for k in range(1, COMPONENTS + 1)
        ]
    best = min(fits, key=lambda fit: fit.bic(points))
    return best.n_components, lambda fresh: best.predict((fresh[:, None] - middle) / scale)


def kappa(rows: list[dict[str, Any]], first: int, second: int) -> dict[str, float]:
    """How often two counts of groups agree, beyond what their own spread gives within a layer and
    kind (Cohen's kappa, pooled)."""
    counts = np.array([row["counts"] for row in rows])
    places = np.unique([f"{row['layer']} {row['kind']}" for row in rows], return_inverse=True)[1]

    def value(drawn: np.ndarray) -> float:
        one, other, place = counts[drawn, first], counts[drawn, second], places[drawn]
        agreed, chance = float((one == other).mean()), 0.0
        for each in np.unique(place):
            x, y = one[place == each], other[place == each]
            chance += len(x) / len(one) * float((x[:, None] == y[None]).mean())
        return (agreed - chance) / (1 - chance) if chance < 1 else 0.0

    random, n = np.random.default_rng(0), len(rows)
    draws = np.array([value(random.integers(n, size=n)) for _ in range(400)])
    return estimate(value(np.arange(n)), draws) | {"n": n}


def stability(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Agreement of the counts of all units, and of the groups of units with several on A."""
    several = [row for row in rows if row["counts"][0] > 1]
    later = [row for row in several if row["layer"] >= 2]
    counts = np.array([row["counts"] for row in rows])
    return {
        "mean count": mean_of(counts[:, 0]),
        "several on A": mean_of(counts[:, 0] > 1),
        "equal counts, same task": mean_of(counts[:, 0] == counts[:, 1]),
        "equal counts, other task": mean_of(counts[:, 0] == counts[:, 2]),
        "kappa, same task": kappa(rows, 0, 1),
        "kappa, other task": kappa(rows, 0, 2),
        "Rand, same task": mean_of([row["same task"] for row in several]),
        "Rand, other task": mean_of([row["other task"] for row in several]),
        "Rand, another unit": mean_of([row["another unit"] for row in several]),
        "Rand over another unit": mean_of(
            [row["other task"] - row["another unit"] for row in several]
        ),
        "Rand over another unit, layers 2 to 5": mean_of(
            [row["other task"] - row["another unit"] for row in later]
        ),
    }


def on_the_same_units(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The barcode's adjusted Rand index less the mixture's, where both find several groups."""
    by = [{(row["layer"], row["kind"], row["unit"]): row for row in rows[name]}
          for name in ("barcode", "mixture")]  # fmt: skip
    both = [
        (by[0][unit], by[1][unit]) for unit in by[1]
        if by[0][unit]["counts"][0] > 1 and by[1][unit]["counts"][0] > 1
    ]  # fmt: skip
    return {
        "barcode": mean_of([one["other task"] for one, _ in both]),
        "mixture": mean_of([other["other task"] for _, other in both]),
        "barcode over mixture": mean_of(
            [one["other task"] - other["other task"] for one, other in both]
        ),
    }


# --- what units know of the label ---------------------------------------------------------------


def probes(case: Case) -> dict[str, Any]:
    """Mutual information with the label, and probes on k units of a layer and kind."""
    rows = rows_of(case.task, PROBED_TRAIN)
    dev = case.dev.shuffle(seed=1).select(range(PROBED_DEV))
    texts = [*tasks.texts(rows), *tasks.texts(dev)]
    labels, wanted = np.array(rows["label"]), np.array(dev["label"])
    regression = tasks.get_task(case.task).is_regression
    with obce.collect(
        case.model, case.tokenizer, texts, kinds=KINDS, clouds=["mean"]
    ) as activations:
        means = {group: activations.cloud(*group, "mean").T for group in GROUPS}
    scores = scores_of(case, list(texts[: 2 * HALF]))
    with obce.collect(
        case.model, case.tokenizer, texts[: 2 * HALF], kinds=KINDS, clouds=["mean"]
    ) as activations:
        scores["Taylor"] = obce.score(
            activations, "taylor", model=case.model, labels=rows["label"][: 2 * HALF]
        )
    train = {group: outputs[:PROBED_TRAIN] for group, outputs in means.items()}
    classes = np.round(labels).astype(int)
    scores["probeless"] = {group: probeless(x, classes) for group, x in train.items()}
    for draw in range(DRAWS):
        random = np.random.default_rng(draw)
        scores[f"random {draw}"] = {g: random.random(x.shape[1]) for g, x in train.items()}
    told = information(train, labels, regression, scores)
    found: dict[str, Any] = {}
    answers: dict[tuple[str, int], list[np.ndarray]] = {}
    for name, score in scores.items():
        for k in PROBED_UNITS:
            answers[name, k] = [
                probe(means[g], np.argsort(-np.asarray(score[g]), kind="stable")[:k],
                      labels, regression) for g in GROUPS
            ]  # fmt: skip
        print(case.task, "probe", name, flush=True)
    drawn = np.random.default_rng(0).integers(PROBED_DEV, size=(500, PROBED_DEV))
    drawn = np.vstack([np.arange(PROBED_DEV), drawn])  # the first are all rows as they are
    quality = {
        key: np.mean([judged(each, wanted, drawn, regression) for each in of_groups], axis=0)
        for key, of_groups in answers.items()
    }
    for k in PROBED_UNITS:
        each = [quality.pop((f"random {draw}", k)) for draw in range(DRAWS)]
        quality["random", k] = np.mean(each, axis=0)
    found = {
        name: {str(k): estimate(quality[name, k][0], quality[name, k][1:]) for k in PROBED_UNITS}
        for name in dict.fromkeys(name for name, _ in quality)
    }

    def over(other: str) -> dict[str, dict[str, float]]:
        differences = {k: quality["persistence share", k] - quality[other, k] for k in PROBED_UNITS}
        return {str(k): estimate(row[0], row[1:]) for k, row in differences.items()}

    return {
        "rows": [PROBED_TRAIN, PROBED_DEV], "information": told, "probes": found,
        **{f"share over {name}": over(name) for name in ("random", "std", "Taylor", "probeless")},
    }  # fmt: skip


def probeless(outputs: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Antverg and Belinkov 2022: over pairs of labels, how far apart a unit's means are."""
    means = [outputs[classes == each].mean(axis=0) for each in np.unique(classes)]
    return np.sum([np.abs(a - b) for i, a in enumerate(means) for b in means[:i]], axis=0)


def information(
    outputs: dict[Group, np.ndarray], labels: np.ndarray, regression: bool, scores: dict
) -> dict[str, Any]:
    """Spearman's correlation of a score with the mutual information, in the mean over groups."""
    measure = mutual_info_regression if regression else mutual_info_classif
    random = np.random.default_rng(0)
    ranks: dict[str, list[np.ndarray]] = {}
    nats, draws = [], random.integers(KNOWING, size=(100, KNOWING))
    draws = np.vstack([np.arange(KNOWING), draws])
    for group, x in outputs.items():
        units = random.permutation(x.shape[1])[:KNOWING]
        known = measure(x[:, units], labels, random_state=0)
        nats.append(known)
        for name in ("persistence share", "merge radius", "std", "Taylor", "probeless", "random 0"):
            score = np.asarray(scores[name][group])[units]
            correlations = [stats.spearmanr(score[d], known[d]).statistic for d in draws]
            ranks.setdefault(name, []).append(np.array(correlations))
    means = {name: np.mean(rows, axis=0) for name, rows in ranks.items()}
    return {
        "units": KNOWING * len(outputs), "nats": mean_of(np.concatenate(nats)),
        "rank correlation": {name: estimate(row[0], row[1:]) for name, row in means.items()},
    }  # fmt: skip


def probe(means: np.ndarray, units: np.ndarray, labels: np.ndarray, regression: bool) -> np.ndarray:
    """What a linear probe on some units says of the dev rows."""
    x = means[:, units]
    model = Ridge(10.0) if regression else LogisticRegression(C=0.1, max_iter=500)
    fitted = make_pipeline(StandardScaler(), model).fit(x[:PROBED_TRAIN], labels)
    return fitted.predict(x[PROBED_TRAIN:])


def judged(
    answers: np.ndarray, wanted: np.ndarray, drawn: np.ndarray, regression: bool
) -> np.ndarray:
    """Accuracy, or Pearson's correlation, on each set of drawn rows."""
    if not regression:
        return (answers == wanted)[drawn].mean(axis=1)
    x, y = answers[drawn], wanted[drawn]
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    spread = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return (x * y).sum(axis=1) / np.maximum(spread, 1e-12)


# --- integrated gradients -----------------------------------------------------------------------


def gradients(
    case: Case, encodings: Sequence[Encoding], module: torch.nn.Module
) -> list[np.ndarray]:
    """Of each text (tokens, units): what a module's outputs give to the prediction, by integrated
    gradients from the same text with all its words masked."""
    mask, found = case.tokenizer.mask_token_id, [np.zeros(0)] * len(encodings)

    def predicted(ids: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        return case.model(input_ids=ids, token_type_ids=types).logits

    method = LayerIntegratedGradients(predicted, module)
    with evaluating(case.model):
        for batch in batches(encodings, 8):
            inputs = model_inputs(encodings, batch, torch.device("cpu"))
            ids, types = inputs["input_ids"], inputs["token_type_ids"]
            special = torch.tensor([encodings[i]["special_tokens_mask"] for i in batch]).bool()
            with torch.no_grad():
                logits = predicted(ids, types)
            target = None if logits.shape[1] == 1 else logits.argmax(dim=1)
            given = method.attribute(
                ids, ids.masked_fill(~special, mask), target, (types,), n_steps=IG_STEPS
            )
            for text, row in zip(batch, given, strict=True):
                found[text] = row.detach().numpy()
    return found


def above(named: np.ndarray, position: np.ndarray, size: np.ndarray) -> float | None:
    """How often a named token has more than another one at the same place of another text."""
    wins = []
    for token in np.flatnonzero(named):
        rivals = size[~named & (position == position[token])]
        if len(rivals):
            wins.append(float((size[token] > rivals).mean() + (size[token] == rivals).mean() / 2))
    return float(np.mean(wins)) if len(wins) >= IG_LEAST else None


def attribution(case: Case, corpora: Corpora, told: list[Told]) -> dict[str, Any]:
    """Do the tokens that a card names carry what the unit gives to the prediction? And do the words
    that all cards name carry the prediction?"""
    encodings = corpora.activations.encodings[HALF : HALF + IG_TEXTS]
    b = (corpora.points.text >= HALF) & (corpora.points.text < HALF + IG_TEXTS)
    text, position = corpora.points.text[b] - HALF, corpora.points.position[b]
    words = [each for each in told if "[CLS]" not in each.story.follows]
    words = [each for each in words if each.story.follows in corpora.points.features]
    counts = {group: sum(each.group == group for each in words) for group in GROUPS}
    units = []
    for group in sorted(counts, key=lambda group: -counts[group])[:IG_GROUPS]:
        if not counts[group]:
            continue
        module = find_bert(case.model).encoder.layer[group[0]].get_submodule(OUTPUTS[group[1]])
        given = gradients(case, encodings, module)
        size = np.abs(np.array([given[t][p] for t, p in zip(text, position, strict=True)]))
        for each in [each for each in words if each.group == group][:IG_UNITS]:
            auc = above(each.has[b], position, size[:, each.unit])
            if auc is not None:
                units.append({"layer": group[0], "kind": group[1], "unit": each.unit,
                              "follows": each.story.follows, "AUC": auc})  # fmt: skip
        print(case.task, "gradients", group, flush=True)
    # [SEP] is never masked: in layer 0 its part is nothing, by construction
    able = [unit["AUC"] - 0.5 for unit in units if "[SEP]" not in unit["follows"]]
    return {
        "units": units, "stories of [CLS], left out": len(told) - len(words),
        "AUC over one half": mean_of(able), **erasing(case, corpora, words),
    }  # fmt: skip


def erasing(case: Case, corpora: Corpora, told: list[Told]) -> dict[str, Any]:
    """Mask the words that cards name, or keep only them, beside random words of the same number,
    and beside those with the largest integrated gradients, which is what a good answer looks like.
    """
    encodings = corpora.activations.encodings[HALF : HALF + MASKED_TEXTS]
    worth = np.sum([each.share * each.has for each in told], axis=0) if told else np.zeros(1)
    where = {
        (int(t), int(p)): place
        for place, (t, p) in enumerate(
            zip(corpora.points.text, corpora.points.position, strict=True)
        )
    }
    embedded = gradients(case, encodings, find_bert(case.model).embeddings.word_embeddings)
    random, chosen = np.random.default_rng(0), []
    for number, row in enumerate(encodings):
        free = np.flatnonzero(~np.array(row["special_tokens_mask"], dtype=bool))
        named = np.array([worth[where[HALF + number, int(p)]] for p in free])
        size = np.abs(embedded[number].sum(axis=1))[free]
        k = min(WORDS, int((named > 0).sum()))
        if 0 < k < len(free):
            picks = {"named": free[np.argsort(-named, kind="stable")[:k]],
                     "gradients": free[np.argsort(-size, kind="stable")[:k]]}  # fmt: skip
            for draw in range(DRAWS):
                picks[f"random {draw}"] = random.permutation(free)[:k]
            chosen.append((row, free, picks))
    dense = logits_of(case, [row for row, _, _ in chosen])
    found: dict[str, Any] = {"texts": len(chosen), "words": WORDS}
    fell: dict[tuple[str, str], np.ndarray] = {}
    for name in chosen[0][2]:
        for way in ("comprehensiveness", "sufficiency"):
            changed = []
            for row, free, picks in chosen:
                gone = (
                    picks[name] if way == "comprehensiveness" else np.setdiff1d(free, picks[name])
                )
                ids = np.array(row["input_ids"])
                ids[gone] = case.tokenizer.mask_token_id
                changed.append({**row, "input_ids": ids.tolist()})
            fell[way, name] = drop(dense, logits_of(case, changed))
    for way in ("comprehensiveness", "sufficiency"):
        chance = np.mean([fell[way, f"random {draw}"] for draw in range(DRAWS)], axis=0)
        sign = 1 if way == "comprehensiveness" else -1  # what is kept alone should lose little
        found[way] = {
            "named": mean_of(fell[way, "named"]), "random": mean_of(chance),
            "gradients": mean_of(fell[way, "gradients"]),
            "named better than random": mean_of(sign * (fell[way, "named"] - chance)),
            "gradients better than random": mean_of(sign * (fell[way, "gradients"] - chance)),
        }  # fmt: skip
    return found


def logits_of(case: Case, encodings: Sequence[Encoding]) -> np.ndarray:
    batched = batches(encodings, 32)
    with inference(case.model, "cpu") as target:
        rows = [case.model(**model_inputs(encodings, batch, target)).logits for batch in batched]
    order = np.argsort([text for batch in batched for text in batch])
    return torch.cat(rows).double().numpy()[order]


def drop(dense: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(texts,): how much of the predicted class's probability is lost; of a regression, how far the
    number has moved, in standard deviations."""
    if dense.shape[1] == 1:
        return np.abs(dense - other)[:, 0] / dense.std()
    best = dense.argmax(axis=1)[:, None]
    old, new = (torch.from_numpy(x).softmax(dim=1).numpy() for x in (dense, other))
    return np.take_along_axis(old - new, best, axis=1)[:, 0]


# --- the claims ---------------------------------------------------------------------------------

# What is claimed, the test, where the effect stands in the record, and the smallest effect that is
# worth a claim. The effect is a difference for which no effect is 0.
CLAIMS: tuple[tuple[str, str, tuple[str, ...], float], ...] = (
    ("units of small share can go", "silence a quarter: log of divergence, random over bottom",
     ("silencing", "random over bottom", "0.25"), 0.2),
    ("units of large share are what counts", "silence a tenth: log of divergence, top over random",
     ("silencing", "top over random", "0.1"), 0.2),
    ("the share knows more than std × norm",
     "silence a quarter: log of divergence, std × norm over share",
     ("silencing", "std over share", "0.25"), 0.2),
    ("the share knows more than the merge radius",
     "silence a quarter: log of divergence, merge radius over share",
     ("silencing", "merge radius over share", "0.25"), 0.2),
    ("a story holds on fresh texts", "F1 of the rule less F1 on units of like std",
     ("stories", "B over matched"), 0.1),
    ("a story holds on fresh texts, layers 2 to 5",
     "F1 of the rule less F1 on units of like std, without layers 0 and 1",
     ("stories", "B over matched, layers 2 to 5"), 0.1),
    ("a story of no special token stands hard negatives", "F1 less the 2/3 of always yes",
     ("stories", "hard over always yes, others"), 0.05),
    ("a story holds on another task's texts", "F1 of the rule less F1 on units of like std",
     ("stories", "other over matched"), 0.1),
    ("a story of the label holds on fresh texts", "F1 by text less F1 on units of like std",
     ("stories", "labels", "B over matched"), 0.1),
    ("a story of the label stands hard negatives", "F1 by text less the 2/3 of always yes",
     ("stories", "labels", "hard over always yes"), 0.05),
    ("the number of groups comes again", "kappa of the counts from two tasks' texts",
     ("groups", "barcode", "kappa, other task"), 0.2),
    ("the groups come again",
     "adjusted Rand index, from two tasks' texts, less that with another unit",
     ("groups", "barcode", "Rand over another unit"), 0.1),
    ("the groups come again, layers 2 to 5",
     "adjusted Rand index less that with another unit, without layers 0 and 1",
     ("groups", "barcode", "Rand over another unit, layers 2 to 5"), 0.1),
    ("the barcode's groups are steadier than a mixture's",
     "adjusted Rand index, from two tasks' texts, less that of a mixture",
     ("groups", "on the same units", "barcode over mixture"), 0.05),
    ("units of large share know the label", "rank correlation of share and mutual information",
     ("probes", "information", "rank correlation", "persistence share"), 0.1),
    ("the label is in the units of largest share",
     "probe on 32 units by share less on 32 random ones",
     ("probes", "share over random", "32"), 0.02),
    ("the share finds the label better than std × norm",
     "probe on 32 units by share less on 32 by std × norm",
     ("probes", "share over std", "32"), 0.02),
    ("the share finds the label better than a probeless ranking",
     "probe on 32 units by share less on 32 by the probeless ranking",
     ("probes", "share over probeless", "32"), 0.02),
    ("the words of a story carry the unit's part in the prediction",
     "integrated gradients: how often above another token at the same place, less 1/2",
     ("attribution", "AUC over one half"), 0.1),
    ("the prediction needs the words that cards name", "mask 3 of them, less 3 random words",
     ("attribution", "comprehensiveness", "named better than random"), 0.02),
    ("the words that cards name are enough", "keep 3 of them only, less 3 random words",
     ("attribution", "sufficiency", "named better than random"), 0.02),
)  # fmt: skip


def verdict(low: float, high: float, worth: float) -> str:
    """By an interval alone. An effect that is surely below what is worth a claim does not hold,
    even if it is surely above 0."""
    if high < worth:
        return "does not hold"
    return "holds" if low > 0 else "can't tell"


def together(verdicts: Sequence[str]) -> str:
    """Of several tasks: a claim that fails on one of them does not hold."""
    if "does not hold" in verdicts:
        return "does not hold"
    return "holds" if set(verdicts) == {"holds"} else "can't tell"


def claims(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Each claim with its intervals, which hold all together with 95 % (Bonferroni)."""
    z = float(stats.norm.isf(0.025 / (len(CLAIMS) * len(found))))
    rows = []
    for claim, test, path, worth in CLAIMS:
        results: dict[str, Any] = {}
        for task, place in found.items():
            for step in path:
                place = place[step]
            value, se = place["value"], place["se"]
            if se is None:  # a single unit, or none
                results[task] = {"value": value, "interval": None, "verdict": "can't tell"}
                continue
            interval = [value - z * se, value + z * se]
            results[task] = {"value": value, "interval": interval,
                             "verdict": verdict(*interval, worth)}  # fmt: skip
        overall = together([each["verdict"] for each in results.values()])
        rows.append({"claim": claim, "test": test, "worth": worth, "tasks": results,
                     "verdict": overall})  # fmt: skip
    order = ("does not hold", "can't tell", "holds")  # what fails first
    return sorted(rows, key=lambda row: order.index(row["verdict"]))


def plain(value: Any) -> Any:
    """Numbers to four digits; what is not finite is None."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.4g}") if np.isfinite(value) else None
    return value


def measured(task: str, folder: str) -> dict[str, Any]:
    """All parts of one task; those that lie in out/holds are read."""
    KEPT.mkdir(parents=True, exist_ok=True)
    paths = {part: KEPT / f"{task}-{part}.json" for part in PARTS}
    missing = [part for part in PARTS if not paths[part].is_file()]
    if missing:
        case = case_of(task, folder)
        alone: dict[str, Callable] = {"silencing": silencing, "probes": probes}
        for part in [part for part in missing if part in alone]:
            save_record(plain(alone[part](case)), paths[part])
        if set(missing) - set(alone):
            with obce.collect(
                case.model, case.tokenizer, case.texts, kinds=KINDS, clouds=["tokens"]
            ) as activations:
                corpora = Corpora(activations, points_of(activations, case.tokenizer, "tokens"))
                if not paths["groups"].is_file():
                    save_record(plain(again(case, corpora)), paths["groups"])
                shares = scores_of(case, case.texts[:HALF])["persistence share"]
                told, of_labels, counts = tell(case, corpora, shares)
                hard = Hard(corpora, np.flatnonzero(corpora.where(1)))
                held = {"of": counts, **held_out(corpora, told, hard)}
                held["labels"] = labelled(corpora, of_labels, hard)
                save_record(plain(held), paths["stories"])
                save_record(plain(attribution(case, corpora, told)), paths["attribution"])
    return {part: load_record(path) for part, path in paths.items()}


def main(*folders: str) -> None:
    found = {task: measured(task, folder) for task, folder in zip(OTHERS, folders, strict=True)}
    for parts in found.values():
        del parts["groups"]["units"]  # some thousand; they stay in out/holds
    record = {
        "environment": environment(),
        "what": "SST-2, CoLA, STS-B: rows of train for stories and scores, of dev for metrics",
        "models": {task: model_sha256(each) for task, each in zip(OTHERS, folders, strict=True)},
        "captum": metadata.version("captum"),
        "other task": OTHERS, "texts in a half": HALF, "points": POINTS, "draws": DRAWS,
        "kinds": list(KINDS), "claims": plain(claims(found)), "tasks": found,
    }  # fmt: skip
    save_sealed(record, RECORD)


if __name__ == "__main__":
    main(*sys.argv[1:])
