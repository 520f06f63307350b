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
from obce.study.config import OF_READINGS, READS, SENTENCES, SETTINGS, TEXTS, Recipe, plain
from obce.study.dense import least, rows_of, training_facts
from obce.texts import Text
from obce.units import Group as Units
from obce.units import count_parameters

Settings = Mapping[str, Any]
STANDARD = {name: setting.default for name, setting in SETTINGS.items()}
SINGLE = ("mini-acceptability", "mini-sentiment")  # built-in tasks of single sentences


class Corpus(NamedTuple):
    """Calibration texts, with the task's labels where they are its own."""

    texts: list[Text]
    labels: list[float] | None
    sha256: str


class Group:
    """One task and seed, with the dense model in ``folder``.

    ``limit``: rows of train and dev, for trials; None for a real study.
    """

    def __init__(
        self, task: str, seed: int, recipe: Recipe, folder: Path, limit: int | None, device: str
    ):
        self.task, self.seed, self.recipe, self.limit = tasks.get_task(task), seed, recipe, limit
        self.folder, self.device = folder, device
        self.model, self.tokenizer, _ = load_classifier(folder, task)
        self.sha256 = model_sha256(self.model)
        self.short = self.sha256[:8]
        self._dev: dict[int, Dataset] = {}
        self._dense: dict[int, np.ndarray] = {}
        self._scores: dict[str, Scores] = {}
        self._held: dict[str, tuple[Any, Any]] = {}

    # data

    @cached_property
    def train(self) -> Dataset:
        return rows_of(self.task.name, "train", least(self.recipe.train_limit, self.limit))

    def dev(self, dev_limit: int) -> Dataset:
        """A fixed sample of dev, the same for all seeds and cells."""
        if dev_limit not in self._dev:
            limit = least(dev_limit, self.limit)
            self._dev[dev_limit] = rows_of(self.task.name, "dev", limit)
        return self._dev[dev_limit]

    def corpus(self, settings: Settings) -> Corpus:
        """The first ``texts`` of a shuffled corpus, so that more texts hold the fewer ones."""
        name, count = settings["corpus"], settings["texts"]
        if name == SENTENCES:
            rows = [str(s) for task in SINGLE for s in rows_of(task, "train", None)["sentence"]]
            chosen = [rows[i] for i in _drawn(len(rows), count, settings["draw"])]
            return Corpus(list(chosen), None, _sha256_of(chosen))
        data = self.train if name == "own" else rows_of(name, "train", self.limit)
        rows = data.select(_drawn(len(data), count, settings["draw"]))
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
            "rows_official": self.task.rows["dev"],
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
        asked = self._score_settings(settings)
        key = str(sorted(plain(asked).items()))
        if key not in self._scores:
            self._scores[key] = self._score(settings, asked)
        return self._scores[key]

    def _score_settings(self, settings: Settings) -> dict[str, Any]:
        names = ("score", "score_seed", "kinds", *_reads(settings))
        return {name: settings[name] for name in names if name in settings}

    def _score(self, settings: Settings, asked: dict[str, Any]) -> Scores:
        name = settings["score"]
        if "points" in asked:
            return self._of_readings(settings)
        if name in ("random", "magnitude"):
            seed = settings.get("score_seed", 0)
            return score(None, name, model=self.model, seed=seed, device=self.device)
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

    def _of_readings(self, settings: Settings) -> Scores:
        name, readings = settings["score"], self.readings(settings)
        if settings["shuffle"] != "none":
            readings = shuffled(readings, settings["shuffle"], settings["score_seed"])
        options = {k: settings[k] for k in ("metric", "degree", "covariance") if k in settings}
        if name in rivals.FUNCTIONS:
            return rivals.score(readings, name, **options)
        # swaps start from the second order
        return score(readings, "second_order" if name == "swaps" else name, **options)

    def readings(self, settings: Settings) -> Readings:
        """The readings of all layers over a corpus, with the metric of the loss."""
        return self._keep("readings", settings, (*TEXTS, *OF_READINGS), self._read)

    def _read(self, settings: Settings) -> Readings:
        return read(
            self.model, self.tokenizer, self.corpus(settings).texts, points=settings["points"],
            cloud=settings["read_cloud"], special_tokens=settings["special_tokens"], loss=True,
            moments=True, max_length=settings["max_length"], device=self.device,
        )  # fmt: skip

    def calibration(self, settings: Settings) -> Calibration:
        """What repairs over a corpus need of the dense model."""
        return self._keep("calibration", settings, TEXTS, self._calibrate)

    def _calibrate(self, settings: Settings) -> Calibration:
        return Calibration(
            self.model, self.tokenizer, self.corpus(settings).texts,
            max_length=settings["max_length"], device=self.device,
        )  # fmt: skip

    def _keep(
        self,
        what: str,
        settings: Settings,
        names: tuple[str, ...],
        make: Callable[[Settings], Any],
    ) -> Any:
        """The one of its kind that was made last, if it is the one that is asked for."""
        key = tuple(settings[name] for name in names)
        if what not in self._held or self._held[what][0] != key:
            self._held.pop(what, None)  # before the new one takes its room
            self._held[what] = key, make(settings)
        return self._held[what][1]

    @cached_property
    def spread(self) -> dict[Units, np.ndarray]:
        """The standard deviation of each unit's outputs, as the maps read them, over the same texts
        for all cells."""
        points = self.readings(STANDARD).points
        return {units: cloud.std(axis=0) for units, cloud in points.items()}


def shuffled(readings: Readings, between: str, seed: int) -> Readings:
    """The readings of a null: what is shuffled keeps its values and loses its place.

    ``texts``: each unit's outputs change places between the points, each unit's by itself, so that
    every unit keeps its spread and the layer's cloud loses its shape. ``units``: at each point the
    outputs change places between the units, so that every point keeps its values and no unit is
    itself any more.
    """
    draw, axis = np.random.default_rng(seed), {"texts": 0, "units": 1}[between]
    points = {group: draw.permuted(cloud, axis=axis) for group, cloud in readings.points.items()}
    return readings.with_points(points)


def _reads(settings: Settings) -> tuple[str, ...]:
    return READS.get(settings["score"], {}).get("metric" in settings, ())


def _drawn(rows: int, count: int, draw: int) -> list[int]:
    return random.Random(draw).sample(range(rows), rows)[:count]


def _sha256_of(texts: list[str]) -> str:
    return tasks.data_sha256(Dataset.from_dict({"sentence": texts}))
