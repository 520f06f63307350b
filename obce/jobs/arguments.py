"""What jobs are told: which data, which score, how much to cut, how to train.

Nothing heavy is imported before a method needs it, so that the command line refuses contradictions
at once.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obce.base.checks import check_choice, check_ridge
from obce.base.records import plain_number
from obce.base.settings import (
    ANALYSIS_TEXTS,
    BATCH_SIZE,
    CLOUDS,
    COVARIANCES,
    DEFAULT_CLOUD,
    DEFAULT_COVARIANCE,
    DEFAULT_REPAIR,
    DEFAULT_SCORE,
    DEFAULT_WEIGHTING,
    DEGREE,
    EPOCHS,
    HEADS,
    HIDDEN_WEIGHT,
    KINDS,
    LEARNING_RATE,
    LEVELS,
    METRICS,
    READ_POINTS,
    REPAIR_TEXTS,
    REPAIRS,
    RIDGE,
    SCOPES,
    SCORES,
    TEACHER_WEIGHT,
    TEACHERS,
    TEMPERATURE,
    WEIGHTINGS,
    fitting,
    judged_kinds,
)
from obce.tasks import Task, data_sha256, get_task, load, own_task
from obce.tasks.own import LABEL, TEXT

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from transformers import PreTrainedModel

    from obce.pruning import Plan
    from obce.units import Group

TARGETS = ("keep_total", "keep_encoder", "percentile", "level")
SPLITS = ("train", "dev", "test", "validation", "valid", "data")  # no names for a task
WEIGHTS = ("*.safetensors", "*.bin", "config.json", "tokenizer*.json", "vocab.txt")


def named(path: str | None) -> str | None:
    """A local path for a record: its last part, since a record must not tell where somebody's
    files lie, and a hash of the whole path, so that two paths that end alike differ."""
    if path is None or not Path(path).exists():
        return path  # a name on the Hub
    whole = str(Path(path).resolve())
    return f"{Path(whole).name} ({hashlib.sha256(whole.encode()).hexdigest()[:8]})"


def contents_sha256(path: str | None) -> str | None:
    """Hash of a file, or of the files in a folder that make up a model: it tells whether a model
    was changed in place."""
    if path is None or not Path(path).exists():
        return None
    whole = Path(path)
    files = sorted(file for pattern in WEIGHTS for file in whole.glob(pattern))
    digest = hashlib.sha256()
    for file in files if whole.is_dir() else [whole]:
        digest.update(file.name.encode())
        with open(file, "rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def as_named(path: str | None) -> str | None:
    """A file for a record: its name, and a hash of what it holds, wherever it lies."""
    found = contents_sha256(path)
    return path if path is None or found is None else f"{Path(path).name} (sha256 {found[:16]})"


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """What differs between two jobs' arguments, one line each.

    >>> differences({"cut": {"level": "light"}}, {"cut": {"level": "severe"}})
    ["cut.level ('light' there, 'severe' here)"]
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        found = []
        for key in sorted({*before, *now}):
            inner = f"{name}.{key}" if name else str(key)
            found += differences(before.get(key), now.get(key), inner)
        return found
    return [] if before == now else [f"{name} ({before!r:.40} there, {now!r:.40} here)"]


@dataclass
class Data:
    """Which rows a job works on, and how many of them: those of a task by its name, a user's own
    labelled files, or texts without labels.

    In Python, ``task`` may be a :class:`~obce.tasks.Task`, such as :func:`~obce.tasks.own_task`
    makes of any ``datasets.Dataset``.
    """

    task: str | Task | None = None
    glue_dir: str | None = None
    train_limit: int | None = None
    dev_limit: int | None = None
    seed: int = 0
    train_file: str | None = None
    dev_file: str | None = None
    text_column: str = TEXT
    text_pair_column: str | None = None
    label_column: str = LABEL
    regression: bool | None = None
    texts_file: str | None = None
    texts_field: str | None = None
    label_map: Mapping[str, str] | None = None
    """The model's name of a label -> the task's."""
    new_head: bool = False
    """Whether the model's head is drawn anew, so that it has to be fine-tuned."""

    def check(self) -> None:
        """Find contradictions before anything is read."""
        given = [
            self.task is not None,
            self.train_file is not None or self.dev_file is not None,
            self.texts_file is not None,
        ]
        if sum(given) != 1:
            raise ValueError(
                "say which data: a task, your own train-file and dev-file, or a texts-file; "
                f"{sum(given)} of these are given"
            )
        if isinstance(self.task, str):
            self.task = get_task(self.task).name
        if self.texts_field is not None and self.texts_file is None:
            raise ValueError("texts-field names a column of a texts-file: give one")
        if self.new_head and self.label_map:
            raise ValueError("label-map names the labels of a head that new-head replaces")
        if self.new_head and not self.labelled:
            raise ValueError("new-head: a new head needs labels, and these are texts alone")

    @property
    def labelled(self) -> bool:
        return self.texts_file is None

    @property
    def title(self) -> str:
        """What folders and headings call the data."""
        if self.task is not None:
            return get_task(self.task).name
        stem = Path(self.texts_file or self.train_file or self.dev_file or "").stem
        return "own" if stem.lower() in SPLITS else stem

    def as_record(self) -> dict[str, Any]:
        """The arguments that matter for these data, without paths."""
        common: dict[str, Any] = {"seed": self.seed, "train_limit": self.train_limit}
        if not self.labelled:
            file = as_named(self.texts_file)
            return common | {"texts_file": file, "texts_field": self.texts_field}
        common["dev_limit"] = self.dev_limit
        if self.label_map:
            common["label_map"] = dict(self.label_map)
        if self.new_head:
            common["new_head"] = True
        if isinstance(self.task, Task) and self.task.data:  # rows from Python
            common["rows"] = {name: data_sha256(rows) for name, rows in self.task.data.items()}
        if self.task is not None:
            return common | {"task": self.title, "glue_dir": named(self.glue_dir)}
        names = ("text_column", "text_pair_column", "label_column", "regression")
        files = {name: as_named(getattr(self, name)) for name in ("train_file", "dev_file")}
        return common | files | {name: getattr(self, name) for name in names}

    def find_task(self, labels: tuple[str, ...] | None = None) -> Task:
        """The task; of own files, with the classes in the order of the model's ``labels``."""
        if self.task is not None:
            return get_task(self.task)
        if labels is not None and self.regression is None:
            regression: bool | None = False
        else:
            regression = self.regression
        return own_task(
            self.train_file,
            self.dev_file,
            text_column=self.text_column,
            text_pair_column=self.text_pair_column,
            label_column=self.label_column,
            regression=regression,
            labels=labels,
            name=self.title,
        )

    def rows(self, task: Task, split: str) -> Dataset:
        """The rows of a split, as many as are to be used."""
        if split not in task.rows:
            raise ValueError(f"{task.name} has no {split} rows{_advice(task, split)}")
        limit = self.train_limit if split == "train" else self.dev_limit
        return load(task, split, self.glue_dir, limit, self.seed)

    def sample(self, rows: Dataset, count: int) -> Dataset:
        """``count`` of the rows at random, or all, if there are no more."""
        if count >= len(rows):
            return rows
        return rows.select(random.Random(self.seed).sample(range(len(rows)), count))


def _advice(task: Task, split: str) -> str:
    if task.name == "ax":
        return ": it is a test set; obce predict --task ax takes a model fine-tuned on mnli"
    return f": give a {split}-file" if task.data else ""


@dataclass
class Tuning:
    """Arguments of a fine-tuning run."""

    epochs: float = EPOCHS
    learning_rate: float = LEARNING_RATE
    batch_size: int = BATCH_SIZE
    max_length: int | None = None
    bf16: bool = False
    teacher: str | None = None
    """Where compressed models are fine-tuned again: ``dense``, the dense model. Where a model is
    fine-tuned: a folder or a name on the Hub."""
    hidden_weight: float = HIDDEN_WEIGHT

    def options(self) -> dict[str, Any]:
        """The arguments of a run without a teacher, as :func:`obce.finetune` takes them."""
        return {name: getattr(self, name) for name in TUNING}

    def teaching(self) -> dict[str, Any]:
        """What a record says of the teacher: nothing where there is none."""
        if self.teacher is None:
            return {}
        return {
            "teacher": as_named(self.teacher),
            "teacher_weight": TEACHER_WEIGHT,
            "temperature": TEMPERATURE,
            "hidden_weight": self.hidden_weight,
        }

    def as_record(self) -> dict[str, Any]:
        return self.options() | self.teaching()

    def check(self, again: float = 0.0) -> None:
        """Find contradictions; ``again`` are the epochs of fine-tuning a compressed model."""
        if self.teacher is not None and not again:
            raise ValueError("teacher: it teaches when fine-tuning again, so give finetune-epochs")
        if self.teacher is not None:
            check_choice("teacher", self.teacher, TEACHERS)


TUNING = ("epochs", "learning_rate", "batch_size", "max_length", "bf16")


@dataclass
class Analysis:
    """How units are scored: which score of which cloud, over how many training texts."""

    score: str = DEFAULT_SCORE
    cloud: str = DEFAULT_CLOUD
    texts: int = ANALYSIS_TEXTS
    max_length: int | None = None
    special_tokens: bool = True
    metric: str | None = None
    covariance: str = DEFAULT_COVARIANCE
    degree: float = DEGREE
    points: int = READ_POINTS
    buckets: int | None = None
    """Stream the texts through so many buckets per unit, instead of keeping all outputs."""

    def as_record(self, scored: bool) -> dict[str, Any]:
        """The arguments that matter: where nothing is scored, only the repair's length of texts."""
        if not scored:
            return {"max_length": self.max_length}
        return asdict(self) | {"degree": plain_number(self.degree)}

    def check(self, kinds: Sequence[str] = ()) -> None:
        """Find contradictions before anything is computed; ``kinds`` are those to be cut."""
        check_choice("score", self.score, SCORES)
        judged = judged_kinds(self.score, self.metric)
        if {*kinds} & {*KINDS} - {*judged}:
            raise ValueError(
                f"score {self.score} judges {' and '.join(judged)} units only: leave the "
                "other kinds out, or choose another score"
            )
        check_choice("cloud", self.cloud, CLOUDS)
        if self.metric is not None:
            check_choice("metric", self.metric, METRICS)
        check_choice("covariance", self.covariance, COVARIANCES)
        if not self.degree >= 1:
            raise ValueError(f"degree={self.degree:g}: it must be at least 1 (or inf)")
        if self.buckets is not None and (self.score, self.cloud) != ("merge_radius", "tokens"):
            raise ValueError(
                f"streaming gives the merge_radius of the tokens cloud, not {self.score} of "
                f"{self.cloud}"
            )


@dataclass
class Cut:
    """How much is cut where, and how the rest is repaired, over how many training texts."""

    keep_total: float | None = None
    keep_encoder: float | None = None
    percentile: float | None = None
    level: str | None = None
    kinds: Sequence[str] | None = None
    scope: str | None = None
    floor: float | None = None
    heads: str | None = None
    multiple_of: int = 1
    plan_file: str | None = None
    scores_file: str | None = None
    repair: str = DEFAULT_REPAIR
    repair_texts: int = REPAIR_TEXTS
    ridge: float | str = RIDGE
    weighting: str = DEFAULT_WEIGHTING

    def check(self) -> None:
        """Find contradictions before anything is computed."""
        given = [name for name in (*TARGETS, "plan_file") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "say how much to cut by exactly one of keep-total, keep-encoder, percentile, "
                f"level and plan; {len(given)} are given"
            )
        if self.plan_file is not None and self.scores_file is not None:
            raise ValueError("a plan says which units stay: scores are not read beside it")
        for name in ("keep_total", "keep_encoder"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name}={value:g}: it must be above 0 and at most 1")
        if self.percentile is not None and not 0 <= self.percentile <= 100:
            raise ValueError(f"percentile={self.percentile:g}: it must be from 0 to 100")
        if self.percentile is not None and 0 < self.percentile < 1:
            raise ValueError(
                f"percentile={self.percentile:g} would cut {self.percentile:g} % of the units: for "
                f"a share of {self.percentile:g}, write {100 * self.percentile:g}"
            )
        if self.level is not None:
            check_choice("level", self.level, LEVELS)
        for kind in self.kinds or ():
            check_choice("kind", kind, KINDS)
        if self.scope is not None:
            check_choice("scope", self.scope, SCOPES)
        if self.floor is not None and self.scope not in (None, "global"):
            raise ValueError(f"floor={self.floor:g} is for scope global, not for {self.scope}")
        if self.floor is not None and not 0 <= self.floor <= 1:
            raise ValueError(f"floor={self.floor:g}: it must be from 0 to 1")
        if self.heads is not None:
            check_choice("heads", self.heads, HEADS)
        check_choice("repair", self.repair, REPAIRS)
        check_choice("weighting", self.weighting, WEIGHTINGS)
        check_ridge(self.ridge)

    def settled(self, analysis: Analysis) -> Cut:
        """With the kinds and the scope that fit the score, where they were not given.

        Raises:
            ValueError: the file of scores is none, or what was given does not fit.
        """
        from obce.scores import Scores

        if self.plan_file is not None:
            return self
        about = asdict(analysis)
        if self.scores_file is not None:
            about = Scores.load(self.scores_file).info
        scope, kinds = fitting(about)
        settled = replace(self, scope=self.scope or scope, kinds=self.kinds or kinds)
        settled.check()
        return settled

    def as_record(self) -> dict[str, Any]:
        """The arguments that matter: with a plan file, none of those that choose units."""
        names = [*TARGETS, "repair"]
        if self.plan_file is None:
            names += ["scope", "heads", "multiple_of"]
            names += ["floor"] if self.scope == "global" else []
        if self.repair != "none":
            names += ["repair_texts"]
        if self.repair == "least_squares":
            names += ["ridge", "weighting"]
        record = {name: getattr(self, name) for name in names}
        if self.plan_file is None:
            record["kinds"] = list(self.kinds or ())
        files = {name: as_named(getattr(self, name)) for name in ("plan_file", "scores_file")}
        return record | files

    def check_for(self, model: PreTrainedModel) -> None:
        """ValueError, before any training, if this model cannot be cut so: by the plan or the
        scores that are given, else by random scores, since what is possible depends on the shape
        alone."""
        from obce.pruning import Plan
        from obce.scores import Scores, random
        from obce.units import shape_of

        if self.plan_file is not None:
            Plan.load(self.plan_file).check(model)
        elif self.scores_file is not None:
            self.plan(model, Scores.load(self.scores_file))
        else:
            self.plan(model, random(shape_of(model)))

    def plan(self, model: PreTrainedModel, scores: Mapping[Group, np.ndarray]) -> Plan:
        from obce.pruning import plan

        names = (*TARGETS, "scope", "floor", "heads", "multiple_of")
        options = {name: getattr(self, name) for name in names}
        return plan(model, scores, kinds=self.kinds, **options)
