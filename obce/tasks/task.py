"""What a task is: its texts, its labels, its metrics; and whether a model fits it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

    Metric = Callable[[np.ndarray, np.ndarray], float | Mapping[str, float]]


@dataclass(frozen=True)
class Task:
    """One task. ``labels`` holds the class names in official order and is empty for a regression;
    ``metrics[0]`` is the main metric; ``rows`` are the official row counts of our splits (train,
    dev, test; MNLI has dev_mismatched and test_mismatched too). A user's own task
    (:func:`obce.tasks.own_task`) carries its rows, ``data``, and maybe its metric, ``function``."""

    name: str
    fields: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: dict[str, int]
    folder: str = ""
    columns: tuple[str, ...] = ()  # in the official files; the fields' own names where empty
    label_column: str = "label"
    file_labels: tuple[str, ...] = ("0", "1")  # how the official files write ``labels``
    hub_columns: tuple[str, ...] = ()
    headerless: tuple[str, ...] = ()  # the columns of train and dev where these have no header
    data: dict[str, Dataset] = field(default_factory=dict, compare=False, repr=False)
    function: Metric | None = field(default=None, compare=False)

    @property
    def builtin(self) -> bool:
        return self.name.startswith("mini-")

    @property
    def is_regression(self) -> bool:
        return not self.labels

    @property
    def is_pair(self) -> bool:
        return len(self.fields) == 2

    @property
    def num_labels(self) -> int:
        return len(self.labels) or 1

    @property
    def main_metric(self) -> str:
        return self.metrics[0]


def texts(dataset: Dataset) -> list[str] | list[tuple[str, str]]:
    """The sentences of a dataset, or its sentence pairs, as a tokenizer takes them.

    >>> from datasets import Dataset
    >>> texts(Dataset.from_dict({"sentence1": ["It rains."], "sentence2": ["It is wet."]}))
    [('It rains.', 'It is wet.')]
    """
    if "sentence" in dataset.column_names:
        return list(dataset["sentence"])
    return list(zip(dataset["sentence1"], dataset["sentence2"], strict=True))


def data_sha256(dataset: Dataset) -> str:
    """sha256 over the texts and labels, in order: equal data give equal values."""
    digest = hashlib.sha256()
    names = [
        name
        for name in ("sentence", "sentence1", "sentence2", "label")
        if name in dataset.column_names
    ]
    for batch in dataset.select_columns(names).iter(1000):
        for row in zip(*(batch[name] for name in names), strict=True):
            digest.update(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
