"""What a compression job is judged by: a task's labels, or the dense model's own outputs.

Everything that the two ways do differently stands here. A judge loads and saves the models, hands
out the texts that are scored and repaired on, and says what a stage has cost.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel

from obce import tasks
from obce.jobs.arguments import Data, Tuning
from obce.jobs.labels import load_labelled, model_labels
from obce.jobs.progress import bars
from obce.running.evaluation import circumstances, evaluate
from obce.running.fidelity import compare
from obce.running.heads import Loaded
from obce.running.loading import (
    Classifier,
    load_classifier,
    load_model,
    save_classifier,
    save_model,
)
from obce.running.training import Training, finetune

HELD_BACK = 512  # texts that an unlabelled job compares on, a fifth of a corpus at most
SPLITS = ("metrics", "rows_used", "rows_official", "complete", "data_sha256")

LoadedModel = Classifier | Loaded
"""What a judge loads: a labelled one a Classifier, an unlabelled one a Loaded."""


class Labelled:
    """A task with training and dev rows, and its metrics."""

    def __init__(self, name: str, data: Data, tuning: Tuning, device: str, progress: bool):
        self.data, self.tuning, self.device, self.progress = data, tuning, device, progress
        self.task = data.find_task(model_labels(name, data))
        self.title = self.task.name
        self.train, self.dev = data.rows(self.task, "train"), data.rows(self.task, "dev")
        self.mismatched = None  # MNLI's second dev set
        if "dev_mismatched" in self.task.rows:
            self.mismatched = data.rows(self.task, "dev_mismatched")
        for rows in (self.dev, self.mismatched):
            check_enough(self.task, rows)

    def load(self, name: str) -> Classifier:
        return load_labelled(name, self.task, self.data)

    def reload(self, folder: Path) -> Classifier:
        return load_classifier(folder, self.task)

    def save(self, loaded: LoadedModel, folder: Path) -> None:
        save_classifier(loaded.model, loaded.tokenizer, folder)

    def is_ready(self, loaded: LoadedModel) -> bool:
        """Whether the model can be judged as it is, or has to be fine-tuned before."""
        return isinstance(loaded, Classifier) and loaded.fine_tuned

    def tune(
        self,
        loaded: LoadedModel,
        folder: Path,
        epochs: float,
        resume: bool,
        teacher: PreTrainedModel | None = None,
    ) -> dict[str, Any]:
        """Fine-tune a model into a folder; returns what a record says of it."""
        options = self.tuning.options() | {"epochs": epochs}
        training = finetune(
            loaded.model,
            loaded.tokenizer,
            self.task,
            train=self.train,
            output_dir=folder,
            seed=self.data.seed,
            resume=resume,
            device=self.device,
            progress=bars(self.progress),
            teacher=teacher,
            hidden_weight=self.tuning.hidden_weight,
            **options,
        )
        teaching = self.tuning.teaching() if teacher is not None else {}
        return training_record(training, self.train, self.task) | options | teaching

    def sample(self, count: int) -> Dataset:
        """Training rows to score and to repair on."""
        return self.data.sample(self.train, count)

    def corpus(self, rows: Dataset) -> dict[str, Any]:
        """What a record says of the texts that were scored."""
        digest = tasks.data_sha256(rows)
        return {"task": self.title, "split": "train", "texts": len(rows), "data_sha256": digest}

    @property
    def judged(self) -> Dataset:
        return self.dev

    def judge(self, dense: LoadedModel, model: PreTrainedModel, context: dict) -> dict[str, Any]:
        options: dict[str, Any] = {
            "seed": self.data.seed,
            "max_length": self.tuning.max_length,
            "device": self.device,
            "progress": bars(self.progress),
        }
        tokenizer = dense.tokenizer
        record = evaluate(model, tokenizer, self.task, dataset=self.dev, context=context, **options)
        if self.mismatched is not None:
            other = evaluate(
                model, tokenizer, self.task,
                split="dev_mismatched", dataset=self.mismatched, **options,
            )  # fmt: skip
            record["dev_mismatched"] = {name: other[name] for name in SPLITS}
            record["metrics"] |= {f"{n}_mismatched": v for n, v in other["metrics"].items()}
        return record


class Unlabelled:
    """A corpus of texts; what was cut is compared with the dense model on texts held back."""

    task = None

    def __init__(self, name: str, data: Data, tuning: Tuning, device: str, progress: bool):
        self.data, self.tuning, self.device, self.progress = data, tuning, device, progress
        self.title = data.title
        rows = tasks.read_texts(data.texts_file or "", data.texts_field)
        if len(rows) < 10:
            raise ValueError(f"{data.texts_file}: {len(rows)} texts are too few: at least 10 are "
                             "needed, of which some are held back to compare on")  # fmt: skip
        order = np.random.default_rng(data.seed).permutation(len(rows))
        held = min(HELD_BACK, len(rows) // 5)
        self.held_back = rows.select(np.sort(order[:held]))
        self.texts = rows.select(np.sort(order[held:][: data.train_limit]))

    def load(self, name: str) -> Loaded:
        return load_model(name)

    def reload(self, folder: Path) -> Loaded:
        return load_model(folder)

    def save(self, loaded: LoadedModel, folder: Path) -> None:
        assert isinstance(loaded, Loaded)
        save_model(loaded, folder)

    def is_ready(self, loaded: LoadedModel) -> bool:
        return True

    def tune(
        self,
        loaded: LoadedModel,
        folder: Path,
        epochs: float,
        resume: bool,
        teacher: PreTrainedModel | None = None,
    ) -> dict[str, Any]:
        raise ValueError("fine-tuning needs labels: give a task, or a train-file with labels")

    def sample(self, count: int) -> Dataset:
        return self.data.sample(self.texts, count)

    def corpus(self, rows: Dataset) -> dict[str, Any]:
        digest = tasks.data_sha256(rows)
        return {"file": self.title, "texts": len(rows), "data_sha256": digest}

    @property
    def judged(self) -> Dataset:
        return self.held_back

    def judge(self, dense: LoadedModel, model: PreTrainedModel, context: dict) -> dict[str, Any]:
        assert isinstance(dense, Loaded)
        start = time.perf_counter()
        found: dict[str, Any] = {}
        if model is not dense.model:
            found = compare(
                dense,
                dense._replace(model=model),
                tasks.texts(self.held_back),
                max_length=self.tuning.max_length,
                device=self.device,
                progress=bars(self.progress),
            )
        names = ("hidden_error", "agreement", "divergence")
        metrics = {name: found[name] for name in names if found.get(name) is not None}
        if "cosine" in found:
            metrics["cosine"] = found["cosine"]["median"]
        seconds = time.perf_counter() - start
        about = circumstances(model, self.held_back, self.device, self.data.seed, seconds)
        fidelity = {"fidelity": found} if found else {}
        rows = {"split": "held back", "rows_used": len(self.held_back), "head": dense.head}
        return context | rows | fidelity | {"metrics": metrics} | about


Judge = Labelled | Unlabelled


def judge_of(name: str, data: Data, tuning: Tuning, device: str, progress: bool) -> Judge:
    """A judge by labels where there are any, else by the dense model's outputs."""
    return (Labelled if data.labelled else Unlabelled)(name, data, tuning, device, progress)


def check_enough(task: tasks.Task, rows: Dataset | None) -> None:
    """ValueError for too few rows: a correlation would fail, but after hours of training."""
    if rows is not None and task.is_regression and len(rows) < 2:
        raise ValueError(f"{task.name}: {len(rows)} rows are too few for {task.main_metric}")


def training_record(training: Training, train: Dataset, task: tasks.Task) -> dict[str, Any]:
    return {
        **asdict(training),
        "rows_used": len(train),
        "rows_official": task.rows["train"],
        "data_sha256": tasks.data_sha256(train),
    }
