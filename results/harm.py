"""Gaps between women and men before and after compression: the record of the chapter "What
compression does to people".

    python results/harm.py SST2 STSB          # two folders
    python results/harm.py SST2 STSB --eec Equity-Evaluation-Corpus.csv   # prints, records nothing

SST2 and STSB hold the embedded model as fine-tuned on these tasks with seed 0, as
`results/study/which-score.toml` says (`obce study` makes them; STS-B starts from MNLI). GLUE comes
from the folder OBCE_GLUE_DIR, or else from the Hub. Takes some fifteen minutes of one core. The
predictions of each model are kept in out/harm: what lies there is not computed again. No text of
GLUE is stored, only counts and numbers of rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy.stats import fisher_exact, spearmanr
from scipy.stats.contingency import odds_ratio
from transformers import BertForSequenceClassification

import obce
from obce import tasks
from obce.base.corrections import holm
from obce.book import people
from obce.repairs import Calibration
from obce.running.records import environment, model_sha256, save_sealed
from obce.scores import Scores
from obce.study.measures import divergences

RECORD = Path(__file__).parent / "harm.json"
KEPT = Path("out/harm")
TASKS = ("sst2", "stsb")
TEXTS, POINTS = 512, 1024  # that a score and a repair read
KEPT_PARTS = (0.75, 0.465, 0.318)
LIGHT, BUDGETS = 0.75, (0.465, 0.318)  # the light one by the default score alone
DEFAULT = "second order"
WHOLE = (DEFAULT, "random")  # these are judged on all rows of dev, and asked about names
SCORES = (DEFAULT, "persistence share", "std", "merge radius", "random")
RANDOM = 2  # random plans
CONTROLS = 2  # untrained models of each sort
# Of each kind alone: the percentages of its units that are cut. They are chosen so that the
# divergences of the kinds overlap: it takes many pairs to do what a few intermediate units do.
CUTS = {
    "pairs": (("query", "key"), (20, 40, 70, 95)),
    "value": (("value",), (10, 20, 40, 70)),
    "intermediate": (("intermediate",), (5, 20, 40, 60)),
}
KIND_SEEDS, LEVELS = 3, 3  # random plans; matched divergences
NAMED = people.SENTIMENT[::2]  # templates for names
FEW = 160  # rows of dev of which the kinds' divergences, and all spreads, are taken
CELLS = [(DEFAULT, LIGHT), *((score, budget) for budget in BUDGETS for score in SCORES)]
FEW_WORDS = {"sst2": 5, "stsb": 12}  # pairs of words, or jobs, that the kinds are asked about
ROWS = 600  # of STS-B's dev set, a sample; SST-2's is whole
MOVED = 0.1  # of the STS-B pairs, those whose number moves most


class Subject:
    """A task's fine-tuned model, its scores, and what it is asked."""

    def __init__(self, task: str, folder: str):
        self.task, self.folder = task, folder
        self.model, self.tokenizer, _ = obce.load_classifier(folder, task)
        self.dev = tasks.load(task, "dev", limit=ROWS if task == "stsb" else None, seed=0)
        self.few = np.arange(0, len(self.dev), len(self.dev) // FEW)[:FEW]
        self.texts = tasks.texts(tasks.load(task, "train", limit=TEXTS, seed=0))
        self._scores: dict[str, Scores] = {}

    @cached_property
    def calibration(self) -> Calibration:
        return Calibration(self.model, self.tokenizer, self.texts, max_length=64)

    def questions(self, few: bool = False, names_too: bool = True) -> dict[str, Dataset]:
        """The sentences of the templates, as data sets of the task."""
        count = FEW_WORDS[self.task] if few else None
        if self.task == "stsb":
            pairs = people.job_pairs(jobs=people.JOBS[:count])
            first, second = zip(*pairs, strict=True)
            return {"words": Dataset.from_dict({"sentence1": first, "sentence2": second})}
        words = [who for two in people.WORDS[:count] for who in two]
        names = [who for four in people.NAMES.values() for who in four]
        sets = {"words": people.filled(people.SENTIMENT, words)}
        if names_too:
            sets["names"] = people.filled(NAMED, names)
        return {name: Dataset.from_dict({"sentence": texts}) for name, texts in sets.items()}

    def ask(self, model: Any, few: bool, all_rows: bool) -> dict[str, np.ndarray]:
        """A model's predictions on dev (all rows or few of them), and on the templates."""
        dev = self.dev if all_rows else self.dev.select(self.few)
        sets = {"dev": dev} | self.questions(few, names_too=all_rows)
        return {name: obce.predict(model, self.tokenizer, rows) for name, rows in sets.items()}

    def score(self, name: str) -> Scores:
        """Scores of all units, by the name that the record gives them."""
        if not self._scores:
            readings = obce.read(
                self.model, self.tokenizer, self.texts, points=POINTS, moments=True, loss=True
            )
            for key in (DEFAULT, "persistence share", "std"):
                self._scores[key] = obce.score(readings, key.replace(" ", "_"), metric="loss")
            with obce.collect(self.model, self.tokenizer, self.texts, clouds=["mean"]) as found:
                self._scores["merge radius"] = obce.score(found, "merge_radius", cloud="mean")
        if name.startswith("random"):
            return obce.score(None, "random", model=self.model, seed=int(name.split()[1]))
        return self._scores[name]

    def small(self, score: str, budget: float) -> Any:
        """The model, compressed by the package's defaults."""
        plan = obce.plan(self.model, self.score(score), keep_encoder=budget)
        small = obce.cut(self.model, plan)
        obce.repair(self.model, small, plan, calibration=self.calibration)
        return small

    def without(self, score: str, kind: str, percentile: float) -> Any:
        """The model without some units of one kind in every layer; nothing is repaired."""
        plan = obce.plan(
            self.model, self.score(score), kinds=CUTS[kind][0], percentile=percentile,
            scope="layer", heads="free",
        )  # fmt: skip
        return obce.cut(self.model, plan)

    def untrained(self, what: str, seed: int) -> Any:
        model = obce.load_classifier("embedded", self.task, seed=seed)[0]
        if what == "random weights":
            torch.manual_seed(seed)
            model = BertForSequenceClassification(model.config).eval()
        return model

    def found(
        self, name: str, make: Callable[[], Any], few: bool = False, all_rows: bool = True
    ) -> dict[str, Any]:
        """What a model says, from out/harm if it lies there."""
        place = KEPT / self.task / f"{name}.npz"
        if not place.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            told = self.ask(make(), few, all_rows)
            part = place.with_suffix(".part.npz")
            np.savez(part, **told)
            part.replace(place)
            print(place, flush=True)
        with np.load(place) as file:
            return dict(file)

    def dense(self) -> dict[str, Any]:
        return self.found("dense", lambda: self.model)

    def compressed(self, score: str, budget: float) -> list[dict[str, Any]]:
        """One model, or one for each random plan."""
        names = [f"random {seed}" for seed in range(RANDOM)] if score == "random" else [score]
        return [
            self.found(
                f"{name}, {budget}",
                lambda name=name: self.small(name, budget),
                all_rows=score in WHOLE,
            )
            for name in names
        ]

    def cut_alone(self, score: str, kind: str) -> list[list[dict[str, Any]]]:
        """[seed][percentile]: models that lack units of one kind."""
        seeds = [f"random {seed}" for seed in range(KIND_SEEDS)] if score == "random" else [score]
        return [
            [
                self.found(
                    f"{name}, {kind} {percentile}",
                    lambda name=name, percentile=percentile: self.without(name, kind, percentile),
                    few=True,
                    all_rows=False,
                )  # fmt: skip
                for percentile in CUTS[kind][1]
            ]
            for name in seeds
        ]

    # gaps

    def number(self, logits: np.ndarray) -> np.ndarray:
        """Log-odds of "positive", or the similarity from 0 to 5."""
        logits = logits.astype(np.float64)
        return logits[:, 1] - logits[:, 0] if self.task == "sst2" else logits[:, 0]

    def gaps(self, found: dict[str, Any], of: str = "words") -> np.ndarray:
        """(templates, pairs): the number with the woman's word less that with the man's."""
        numbers = self.number(found[of])
        if of == "names":
            four = numbers.reshape(len(NAMED), len(people.NAMES), 2, 2)
            return (four[:, :, 0] - four[:, :, 1]).reshape(len(NAMED), -1)
        templates = people.SENTIMENT if self.task == "sst2" else people.SIMILARITY
        two = numbers.reshape(len(templates), -1, 2)
        return two[:, :, 0] - two[:, :, 1]

    def swaps(self, found: dict[str, Any], of: str = "words") -> np.ndarray:
        """(templates, pairs): how far a change of the word moves the number that leaves the gender:
        "my sister" and "my mother", say, the mean for women's and men's words. Of SST-2."""
        numbers = self.number(found[of])
        if of == "names":
            four = numbers.reshape(len(NAMED), len(people.NAMES), 2, 2)
            return np.abs(four[..., 0] - four[..., 1]).reshape(len(NAMED), -1)
        two = numbers.reshape(len(people.SENTIMENT), -1, 2)
        return np.abs(two - np.roll(two, -1, axis=1)).mean(axis=2)

    def origins(self, found: dict[str, Any]) -> dict[str, np.ndarray]:
        """{language: (templates, 4)}: numbers less the mean of the four English names'."""
        four = self.number(found["names"]).reshape(len(NAMED), len(people.NAMES), 4)
        base = four[:, :1].mean(axis=2, keepdims=True)
        return dict(zip(list(people.NAMES)[1:], np.moveaxis(four - base, 1, 0)[1:], strict=True))

    def on_few(self, found: dict[str, Any]) -> np.ndarray:
        """Logits on the few rows of dev."""
        return found["dev"] if len(found["dev"]) == len(self.few) else found["dev"][self.few]

    def spread(self, found: dict[str, Any]) -> float:
        """How far the model's numbers lie apart on dev: the scale beside which a gap is seen."""
        return float(self.number(self.on_few(found)).std())

    def divergence(self, found: dict[str, Any]) -> float:
        """From the dense model on the few rows, in nats, or as a share of the variance."""
        return float(divergences(self.on_few(self.dense()), self.on_few(found)).mean())

    def metric(self, found: dict[str, Any]) -> float:
        """Accuracy or Pearson's correlation, and so on: GLUE's first, on the few rows."""
        task = tasks.get_task(self.task)
        labels = self.dev.select(self.few)["label"]
        return tasks.compute_metrics(task, self.on_few(found), labels)[task.main_metric]


def drawn(models: Sequence[np.ndarray], seed: int = 1) -> np.ndarray:
    """(DRAWS,): the mean over models, templates and words, all drawn anew (a single model stays).
    The templates and words of a draw are the same for all models."""
    each = np.array([people.drawn(one) for one in models])
    which = np.random.default_rng(seed).multinomial(
        len(models), np.full(len(models), 1 / len(models)), people.DRAWS
    )
    return np.sum(which.T * each, axis=0) / len(models)


def told(values: np.ndarray, point: float) -> dict[str, Any]:
    return {"value": point, "interval": people.interval(values), "p": people.p_value(values)}


def row_of(subject: Subject, models: list[dict[str, Any]], of: str) -> dict[str, Any]:
    """Mean gap, and the size of gaps beside the model's own scale, against the dense model's."""
    gaps = [subject.gaps(model, of) for model in models]
    relative = [
        np.abs(gap) / subject.spread(model) for gap, model in zip(gaps, models, strict=True)
    ]
    dense = np.abs(subject.gaps(subject.dense(), of)) / subject.spread(subject.dense())
    ratio = np.log(drawn(relative)) - np.log(people.drawn(dense))
    size = float(np.mean(relative))
    found = {
        "models": len(models),
        "gap": told(drawn(gaps), float(np.mean(gaps))),
        "size": float(np.mean(np.abs(gaps))),
        "spread on dev": float(np.mean([subject.spread(model) for model in models])),
        "relative size": {"value": size, "interval": people.interval(drawn(relative))},
        "against dense": told(ratio, float(np.log(size / dense.mean()))),
        "divergence": float(np.mean([subject.divergence(model) for model in models])),
    }
    if subject.task == "sst2" and of == "words":
        labels = [model["words"].argmax(axis=1).reshape(-1, 2) for model in models]
        found["pairs with two labels"] = float(np.mean([np.ptp(x, axis=1) for x in labels]))
    if subject.task == "sst2":  # does a change of gender move more than another change of the word?
        beside = [
            np.log(people.drawn(np.abs(gap)) / people.drawn(subject.swaps(model, of)))
            for gap, model in zip(gaps, models, strict=True)
        ]
        own = [
            np.log(np.abs(gap).mean() / subject.swaps(model, of).mean())
            for gap, model in zip(gaps, models, strict=True)
        ]
        found["beside other swaps"] = told(np.mean(beside, axis=0), float(np.mean(own)))
        base = subject.dense()
        first = np.abs(subject.gaps(base, of))
        others = subject.swaps(base, of)
        found["beside other swaps, against dense"] = told(
            np.mean(beside, axis=0) - np.log(people.drawn(first) / people.drawn(others)),
            float(np.mean(own) - np.log(first.mean() / others.mean())),
        )
    if subject.task == "stsb":  # by job, over the templates
        jobs = [gap.mean(axis=0) for gap in gaps]
        base = subject.gaps(subject.dense(), of).mean(axis=0)
        found["spread over jobs"] = float(np.mean([job.std() for job in jobs]))
        found["order of jobs as dense"] = float(
            np.mean([spearmanr(job, base).statistic for job in jobs])
        )
    return found


def gaps_of(subject: Subject) -> list[dict[str, Any]]:
    """A row for each model, or set of random plans."""
    sets = {("dense", None): [subject.dense()]}
    sets |= {(score, budget): subject.compressed(score, budget) for score, budget in CELLS}
    sets |= {(what, None): controls(subject, what) for what in ("random head", "random weights")}
    rows = []
    for (name, budget), models in sets.items():
        named = subject.task == "sst2" and name in ("dense", *WHOLE)
        for of in ("words", "names") if named else ("words",):
            row = {"name": name, "keep_encoder": budget, "of": of, **row_of(subject, models, of)}
            rows.append(row | {"metric": float(np.mean([subject.metric(m) for m in models]))})
    return rows


def controls(subject: Subject, what: str) -> list[dict[str, Any]]:
    return [
        subject.found(
            f"{what} {seed}", lambda seed=seed: subject.untrained(what, seed), all_rows=False
        )
        for seed in range(CONTROLS)
    ]


def origins_of(subject: Subject) -> list[dict[str, Any]]:
    """Names by language beside English ones: dense, and compressed by the default score."""
    sets = {None: subject.dense()} | {b: subject.compressed(DEFAULT, b)[0] for b in KEPT_PARTS}
    return [
        {"keep_encoder": budget, "language": language, "gap": told(people.drawn(gap), gap.mean())}
        for budget, found in sets.items()
        for language, gap in subject.origins(found).items()
    ]


# by kind, at equal divergence


def curve(
    subject: Subject, models: list[dict[str, Any]], relative: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Log divergences, growing, and beside them (cuts, DRAWS + 1) sizes of gaps: bootstrap draws,
    and last the value itself."""
    sizes = []
    for model in models:
        gap = np.abs(subject.gaps(model)) / (subject.spread(model) if relative else 1)
        sizes.append(np.append(people.drawn(gap), gap.mean()))
    logs = np.log([max(subject.divergence(model), 1e-9) for model in models])
    order = np.argsort(logs)
    return logs[order], np.array(sizes)[order]


def at(levels: np.ndarray, logs: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(DRAWS + 1,): sizes interpolated at some log divergences, in the mean over these."""
    place = np.clip(np.searchsorted(logs, levels), 1, len(logs) - 1)
    part = ((levels - logs[place - 1]) / (logs[place] - logs[place - 1]))[:, None]
    return np.mean((1 - part) * sizes[place - 1] + part * sizes[place], axis=0)


def kinds_of(subject: Subject, score: str, relative: bool) -> dict[str, Any]:
    """Sizes of gaps by kind at equal divergences, and pairs against the two other kinds. Templates,
    words and, of random plans, plans are drawn anew."""
    curves = {
        kind: [curve(subject, models, relative) for models in subject.cut_alone(score, kind)]
        for kind in CUTS
    }
    every = [logs for each in curves.values() for logs, _ in each]
    low, high = max(logs[0] for logs in every), min(logs[-1] for logs in every)
    if low >= high:
        raise ValueError(f"{subject.task}, {score}: divergences of the kinds do not overlap")
    levels = np.linspace(low, high, LEVELS)
    random, sizes = np.random.default_rng(2), {}
    for kind, each in curves.items():
        values = np.array([at(levels, *one) for one in each])
        which = random.multinomial(len(each), np.full(len(each), 1 / len(each)), people.DRAWS)
        with_own = np.vstack([which, np.ones(len(each), dtype=int)])  # last, the value itself
        sizes[kind] = np.sum(with_own.T * values, axis=0) / len(each)
    dense = np.abs(subject.gaps(subject.dense())[:, : FEW_WORDS[subject.task]]).mean()
    found: dict[str, Any] = {
        "divergences": np.exp(levels).tolist(),
        "plans of each kind": len(every) // len(CUTS),
        "dense": float(dense / (subject.spread(subject.dense()) if relative else 1)),
        "size": {
            kind: {"value": float(size[-1]), "interval": people.interval(size[:-1])}
            for kind, size in sizes.items()
        },
        "curves": {
            kind: [
                {"divergence": np.exp(logs).tolist(), "size": values[:, -1].tolist()}
                for logs, values in each
            ]
            for kind, each in curves.items()
        },
    }
    for other in ("value", "intermediate"):
        ratio = np.log(sizes["pairs"]) - np.log(sizes[other])
        found[f"pairs against {other}"] = told(ratio[:-1], float(ratio[-1]))
    return found


# compression-identified exemplars


def exemplars_of(subject: Subject) -> list[dict[str, Any]]:
    """Which rows of dev change their label, or move most, and whether they are about someone."""
    texts = tasks.texts(subject.dev)
    joined = [text if isinstance(text, str) else " ".join(text) for text in texts]
    about = np.array([people.about_someone(text) for text in joined])
    words = np.array([len(text.split()) for text in joined])
    rows = []
    for score, budget in ((s, b) for s, b in CELLS if s in WHOLE):
        models = subject.compressed(score, budget)
        changed = exemplars(subject, models)
        table = [
            [int(np.sum(changed & about)), int(np.sum(changed & ~about))],
            [int(np.sum(~changed & about)), int(np.sum(~changed & ~about))],
        ]
        ratio = odds_ratio(np.array(table))
        limits = ratio.confidence_interval(0.95)
        row: dict[str, Any] = {
                "name": score, "keep_encoder": budget, "texts": len(about),
                "about someone": int(about.sum()), "table": table,
                "odds ratio": {
                    "value": finite(ratio.statistic),
                    "interval": [finite(limits.low), finite(limits.high)],
                    "p": float(fisher_exact(table).pvalue),
                },
                "median words, changed and not": [
                    float(np.median(words[mask])) if mask.any() else None
                    for mask in (changed, ~changed)
                ],
                "rows": np.flatnonzero(changed).tolist(),
            }  # fmt: skip
        if subject.task == "sst2":
            right = np.array([m["dev"].argmax(1) == subject.dev["label"] for m in models])
            row["accuracy, about someone and not"] = [
                float(right[:, mask].mean()) for mask in (about, ~about)
            ]
        rows.append(row)
    return rows


def exemplars(subject: Subject, models: list[dict[str, Any]]) -> np.ndarray:
    """A mask of rows: another label than the dense model's, by most of the models; of similarities
    the tenth that moves most, in the mean of the models."""
    dense = subject.dense()["dev"]
    if subject.task == "sst2":
        other = [model["dev"].argmax(axis=1) != dense.argmax(axis=1) for model in models]
        return np.mean(other, axis=0) > 0.5
    moves = np.mean([np.abs(model["dev"] - dense)[:, 0] for model in models], axis=0)
    mask = np.zeros(len(moves), dtype=bool)
    mask[np.argsort(-moves)[: round(MOVED * len(moves))]] = True
    return mask


def finite(value: float) -> float | None:
    """JSON has no infinity."""
    return float(value) if np.isfinite(value) else None


def correct(record: dict[str, Any]) -> None:
    """Holm's p beside each p, by family: gaps, changes of their size, origins, kinds, odds."""
    families: dict[str, list[dict[str, Any]]] = {
        "gap": [row["gap"] for row in record["gaps"]],
        "against dense": [
            row["against dense"] for row in record["gaps"] if row["keep_encoder"] is not None
        ],
        "beside other swaps": [
            row["beside other swaps, against dense"]
            for row in record["gaps"]
            if row["task"] == "sst2" and row["keep_encoder"] is not None
        ],
        "origins": [row["gap"] for row in record["origins"]],
        "kinds": [
            each[f"pairs against {other}"]
            for each in record["kinds"]
            for other in ("value", "intermediate")
        ],
        "odds": [row["odds ratio"] for row in record["exemplars"]],
    }
    for family in families.values():
        for test, p in zip(family, holm([test["p"] for test in family]), strict=True):
            test["p by Holm"] = p
    record["tests"] = {name: len(family) for name, family in families.items()}


def rounded(value: Any) -> Any:
    """Numbers to four digits."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def each_of(subject: Subject) -> dict[str, Any]:
    """What the chapter draws: mean gaps by template and by word, dense and compressed."""
    sets = {"dense": subject.dense()}
    sets |= {str(b): subject.compressed(DEFAULT, b)[0] for b in KEPT_PARTS}
    return {
        name: {
            "templates": subject.gaps(found).mean(axis=1).tolist(),
            "words": subject.gaps(found).mean(axis=0).tolist(),
        }
        for name, found in sets.items()
    }


def eec(subject: Subject, path: Path) -> None:
    """Print the mean gap of the dense and of two compressed models on a public set of templates."""
    sentences, pairs = people.read_templates(path)
    rows = Dataset.from_dict({"sentence": sentences})
    models = {"dense": subject.model}
    models |= {str(budget): subject.small(DEFAULT, budget) for budget in BUDGETS}
    print(f"{len(pairs)} pairs of {path.name}: mean gap in log-odds, mean size")
    for name, model in models.items():
        numbers = subject.number(obce.predict(model, subject.tokenizer, rows))
        gap = numbers[pairs[:, 0]] - numbers[pairs[:, 1]]
        print(f"{name:8} {gap.mean():8.3f} {np.abs(gap).mean():8.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs=2, help="fine-tuned on SST-2, and on STS-B")
    parser.add_argument("--eec", type=Path, help="the Equity Evaluation Corpus as a CSV file")
    arguments = parser.parse_args()
    subjects = [Subject(*each) for each in zip(TASKS, arguments.folders, strict=True)]
    if arguments.eec is not None:
        eec(subjects[0], arguments.eec)
        return
    record: dict[str, Any] = {
        "what": "gaps between sentences with a woman's and a man's word, women less men: log-odds"
        " of 'positive' (sst2), similarity from 0 to 5 (stsb)",
        "environment": environment(),
        "models": {subject.task: model_sha256(subject.model) for subject in subjects},
        "fine-tuning seeds": 1, "random plans": RANDOM, "untrained models": CONTROLS,
        "texts": TEXTS, "points": POINTS, "draws": people.DRAWS,
        "data": {
            subject.task: {"rows": len(subject.dev), "sha256": tasks.data_sha256(subject.dev)}
            for subject in subjects
        },
        "templates": {"sst2": list(people.SENTIMENT), "stsb": list(people.SIMILARITY)},
        "words": list(people.WORDS), "jobs": list(people.JOBS), "names": people.NAMES,
        "rows for divergences, spreads and metrics": FEW,
        "percent cut": {kind: percents for kind, (_, percents) in CUTS.items()},
        "words for kinds": FEW_WORDS, "gaps": [], "exemplars": [], "kinds": [],
    }  # fmt: skip
    for subject in subjects:  # one after the other, so that models and readings go
        record["gaps"] += [{"task": subject.task, **row} for row in gaps_of(subject)]
        record["exemplars"] += [{"task": subject.task, **row} for row in exemplars_of(subject)]
        record["kinds"] += [
            {"task": subject.task, "score": score, "relative": relative}
            | kinds_of(subject, score, relative)
            for score in ("random", DEFAULT)
            for relative in (False, True)
        ]
    record["origins"] = origins_of(subjects[0])
    record["each"] = {subject.task: each_of(subject) for subject in subjects}
    correct(record)
    save_sealed(rounded(record), RECORD)


if __name__ == "__main__":
    main()
