"""What the cells of one group share: the dense model, its predictions, the corpora, statistics.

Everything is computed when a cell first asks for it, and kept as long as the cells that follow are
likely to ask again: scores for the whole group, large things (a layer's readings, the collected
outputs) for one corpus at a time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset

from obce import tasks
from obce.activations import collect
from obce.readings import Readings, read
from obce.repairs import Calibration
from obce.running.evaluation import predict
from obce.running.loading import load_classifier
from obce.running.records import environment, model_sha256
from obce.scores import Scores, score
from obce.study import measures, rivals
from obce.study.config import DEV, NONE, SENTENCES, TEXTS, TRAIN, Recipe, heard, reads_layer
from obce.study.dense import least, load_start, rows_of, training_facts
from obce.texts import Text
from obce.units import Group as Units
from obce.units import count_parameters

Settings = Mapping[str, Any]
OF_SCORE = (
    "score", "metric", "degree", "covariance", "cloud", "points", "special_tokens", "shuffle",
    "score_seed", "kinds", "half", *TEXTS,
)  # fmt: skip
STANDARD = heard({"score": "std", "metric": "plain"})  # with which all scores are compared
HELD, HELD_SHARE = 1000, 0.25  # rows of train for choices: so many, or so much of a small one
SINGLE = ("mini-acceptability", "mini-sentiment")  # built-in tasks of single sentences


class Corpus(NamedTuple):
    """Calibration texts, with the task's labels where they are its own."""

    texts: list[Text]
    labels: list[float] | None
    sha256: str


class Group:
    """One task and seed, with the dense model in ``folder``.

    ``begin`` finds what that was made from, if it is asked for. ``limit``: rows of train and dev,
    for trials; None for a real study. ``judged_on``: see :mod:`obce.study.config`. ``tuned``: False
    for the group :attr:`before`.
    """

    def __init__(
        self,
        task: str,
        seed: int,
        recipe: Recipe,
        folder: Path,
        begin: Callable[[], str | Path],
        limit: int | None,
        device: str,
        judged_on: str = DEV,
        tuned: bool = True,
    ):
        self.task, self.seed, self.recipe, self.limit = tasks.get_task(task), seed, recipe, limit
        self.folder, self.begin, self.device = folder, begin, device
        self.judged_on = judged_on
        self.model, self.tokenizer, _ = (
            load_classifier(folder, task) if tuned else load_start(begin(), recipe, task, seed)
        )
        self.sha256 = model_sha256(self.model)
        self.short = self.sha256[:8]
        self._dev: dict[int, Dataset] = {}
        self._dense: dict[int, np.ndarray] = {}
        self._scores: dict[str, Scores] = {}
        # large: one at a time, beside the settings that they are for
        self._readings: tuple[tuple, Readings | None] = (), None
        self._calibration: tuple[tuple, Calibration | None] = (), None

    @cached_property
    def before(self) -> Group:
        """The group with the model that is not fine-tuned yet, and has a new head."""
        return Group(
            self.task.name, self.seed, self.recipe, self.folder, self.begin, self.limit,
            self.device, self.judged_on, tuned=False,
        )  # fmt: skip

    # data

    @cached_property
    def train(self) -> Dataset:
        return rows_of(self.task.name, "train", least(self.recipe.train_limit, self.limit))

    @cached_property
    def held(self) -> list[int]:
        """Numbers of the rows of train that are kept for choices: calibration leaves them out."""
        if self.judged_on != TRAIN:
            return []
        count = min(HELD, int(HELD_SHARE * len(self.train)))
        return random.Random("held").sample(range(len(self.train)), count)

    def dev(self, dev_limit: int) -> Dataset:
        """The rows that judge: a fixed sample, the same for all seeds and cells."""
        if dev_limit not in self._dev:
            limit = least(dev_limit, self.limit)
            self._dev[dev_limit] = (
                self.train.select(self.held[:limit])
                if self.judged_on == TRAIN
                else rows_of(self.task.name, "dev", limit)
            )
        return self._dev[dev_limit]

    def corpus(self, settings: Settings) -> Corpus:
        """The first ``texts`` of a shuffled corpus, so that more texts hold the fewer ones; of them
        all, or one ``half``."""
        name = settings["corpus"]
        if name == SENTENCES:
            columns = [rows_of(task, "train", None)["sentence"] for task in SINGLE]
            data = Dataset.from_dict({"sentence": [text for column in columns for text in column]})
        else:
            data = self.train if name == "own" else rows_of(name, "train", self.limit)
        order = list(range(len(data)))
        if name == "own" and self.held:
            order = sorted({*order} - {*self.held})
        drawn = random.Random(settings["draw"]).sample(order, len(order))[: settings["texts"]]
        if "half" in settings:
            middle = len(drawn) // 2
            drawn = drawn[middle:] if settings["half"] else drawn[:middle]
        rows = data.select(drawn)
        labels = list(rows["label"]) if name == "own" else None
        return Corpus(list(tasks.texts(rows)), labels, tasks.data_sha256(rows))

    # predictions

    def predict(self, model: Any, rows: Dataset) -> np.ndarray:
        return predict(
            model, self.tokenizer, rows, max_length=self.recipe.max_length, device=self.device
        )

    def dense_predictions(self, dev_limit: int) -> np.ndarray:
        if dev_limit not in self._dense:
            self._dense[dev_limit] = self.predict(self.model, self.dev(dev_limit))
        return self._dense[dev_limit]

    def metrics(self, logits: np.ndarray, dev_limit: int) -> dict[str, float]:
        return tasks.compute_metrics(self.task, logits, self.dev(dev_limit)["label"])

    # facts for the record

    def dev_facts(self, dev_limit: int) -> dict[str, Any]:
        rows = self.dev(dev_limit)
        return {
            "rows_used": len(rows),
            "rows_official": self.task.rows[self.judged_on],
            "data_sha256": tasks.data_sha256(rows),
            "labels": measures.pack(
                np.asarray(rows["label"]), "float32" if self.task.is_regression else "int8"
            ),
        }

    def train_facts(self) -> dict[str, Any]:
        return {
            "rows_used": len(self.train),
            "rows_official": self.task.rows["train"],
            "data_sha256": tasks.data_sha256(self.train),
        }

    def dense_facts(self) -> dict[str, Any]:
        return {
            "sha256": self.sha256,
            "parameters": count_parameters(self.model)._asdict(),
            "training": training_facts(self.folder),
            "environment": environment(),
            "dev": {},
        }

    def dense_on(self, dev_limit: int) -> dict[str, Any]:
        logits = self.dense_predictions(dev_limit)
        return {
            "metrics": self.metrics(logits, dev_limit),
            "predictions": measures.pack_predictions(logits),
        }

    # scores

    def scores(self, settings: Settings) -> Scores:
        """The scores of a cell, shared by all cells that differ in other settings only."""
        key = str([(name, settings[name]) for name in OF_SCORE if name in settings])
        if key not in self._scores:
            self._scores[key] = self._score(settings)
        return self._scores[key]

    def _score(self, settings: Settings) -> Scores:
        name = settings["score"]
        if reads_layer(settings):
            readings = self.readings(settings)
            if settings["shuffle"] != NONE:
                readings = shuffled(readings, settings["shuffle"], settings["score_seed"])
            names = ("metric", "covariance", "degree")
            options = {option: settings[option] for option in names if option in settings}
            if name in rivals.FUNCTIONS:
                return rivals.score(readings, name, **options)
            # swaps start from the second order
            return score(readings, "second_order" if name == "swaps" else name, **options)
        if name in ("random", "magnitude"):
            return score(None, name, model=self.model, seed=settings.get("score_seed", 0))
        corpus = self.corpus(settings)
        if name == "taylor":
            return score(
                None, name, model=self.model, tokenizer=self.tokenizer, texts=corpus.texts,
                labels=corpus.labels, max_length=settings["max_length"], device=self.device,
            )  # fmt: skip
        with collect(
            self.model, self.tokenizer, corpus.texts, clouds=[settings["cloud"]],
            kinds=settings["kinds"].split(","), max_length=settings["max_length"],
            special_tokens=settings["special_tokens"], device=self.device,
        ) as activations:  # fmt: skip
            return score(
                activations, name, cloud=settings["cloud"], model=self.model, device=self.device
            )

    def readings(self, settings: Settings) -> Readings:
        """The readings of all layers over a corpus, with all that any score reads of them."""
        names = (*TEXTS, "cloud", "points", "special_tokens", "half")
        asked = tuple(settings.get(name) for name in names)
        key, held = self._readings
        if held is None or key != asked:
            self._readings = (), None  # before the new ones take their room
            held = read(
                self.model, self.tokenizer, self.corpus(settings).texts,
                points=settings["points"], cloud=settings["cloud"], moments=True, loss=True,
                special_tokens=settings["special_tokens"], max_length=settings["max_length"],
                device=self.device,
            )  # fmt: skip
            self._readings = asked, held
        return held

    def calibration(self, settings: Settings) -> Calibration:
        """What a repair needs of the dense model, over a corpus."""
        asked = tuple(settings[name] for name in TEXTS)
        key, held = self._calibration
        if held is None or key != asked:
            self._calibration = (), None
            held = Calibration(
                self.model, self.tokenizer, self.corpus(settings).texts,
                max_length=settings["max_length"], device=self.device,
            )  # fmt: skip
            self._calibration = asked, held
        return held

    @cached_property
    def spread(self) -> dict[Units, np.ndarray]:
        """The standard deviation of each unit's outputs, as the maps read them, over the same texts
        for all cells."""
        scores = score(self.readings(STANDARD), "std", metric="plain")
        return dict(scores)


def shuffled(readings: Readings, between: str, seed: int) -> Readings:
    """The readings of a null: what is shuffled keeps its values and loses its place.

    ``texts``: each unit's outputs change places between the points, each unit's by itself, so that
    every unit keeps its spread and the layer's cloud loses its shape. ``units``: at each point the
    outputs change places between the units, so that every point keeps its values and no unit is
    itself any more.
    """
    draw, axis = np.random.default_rng(seed), {"texts": 0, "units": 1}[between]
    return readings.with_points(
        {group: draw.permuted(cloud, axis=axis) for group, cloud in readings.points.items()}
    )
