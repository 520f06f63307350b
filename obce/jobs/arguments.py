"""What jobs are told: which data, which score, how much to cut, how to train.

Nothing heavy is imported before a method needs it, so that the command line refuses contradictions
at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obce.base.checks import check_choice
from obce.base.settings import (
    ANALYSIS_TEXTS,
    BATCH_SIZE,
    CLOUDS,
    DEFAULT_CLOUD,
    DEFAULT_KINDS,
    DEFAULT_REPAIR,
    DEFAULT_SCORE,
    EPOCHS,
    HEADS,
    KINDS,
    LEARNING_RATE,
    LEVELS,
    REPAIR_TEXTS,
    REPAIRS,
    RIDGE,
    SCOPES,
    SCORES,
)

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from transformers import PreTrainedModel

    from obce.pruning import Plan
    from obce.units import Group

TARGETS = ("keep_total", "keep_encoder", "percentile", "level")


def named(path: str | None) -> str | None:
    """A local path for a record: its last part, since a record must not tell where somebody's
    files lie, and a hash of the whole path, so that two paths that end alike differ."""
    if path is None or not Path(path).exists():
        return path  # a name on the Hub
    whole = str(Path(path).resolve())
    return f"{Path(whole).name} ({hashlib.sha256(whole.encode()).hexdigest()[:8]})"


@dataclass
class Data:
    """Where the rows of a task come from, and how many of them are used."""

    task: str
    glue_dir: str | None = None
    train_limit: int | None = None
    dev_limit: int | None = None
    seed: int = 0

    def as_record(self) -> dict[str, Any]:
        return asdict(self) | {"glue_dir": named(self.glue_dir)}

    def train(self, limit: int | None = None) -> Dataset:
        """The training rows, or ``limit`` of them."""
        return self._rows("train", limit or self.train_limit)

    def dev(self) -> Dataset:
        return self._rows("dev", self.dev_limit)

    def _rows(self, split: str, limit: int | None) -> Dataset:
        from obce import tasks

        return tasks.load(self.task, split, self.glue_dir, limit, self.seed)


@dataclass
class Tuning:
    """Arguments of a fine-tuning run."""

    epochs: float = EPOCHS
    learning_rate: float = LEARNING_RATE
    batch_size: int = BATCH_SIZE
    max_length: int | None = None


@dataclass
class Analysis:
    """How units are scored: which score of which cloud, over how many training texts."""

    score: str = DEFAULT_SCORE
    cloud: str = DEFAULT_CLOUD
    texts: int = ANALYSIS_TEXTS
    max_length: int | None = None
    special_tokens: bool = True
    buckets: int | None = None
    """Stream the texts through so many buckets per unit, instead of keeping all outputs."""

    def check(self) -> None:
        """Find contradictions before anything is computed."""
        check_choice("score", self.score, SCORES)
        check_choice("cloud", self.cloud, CLOUDS)
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
    kinds: Sequence[str] = DEFAULT_KINDS
    scope: str = "layer"
    heads: str | None = None
    multiple_of: int = 1
    plan_file: str | None = None
    scores_file: str | None = None
    repair: str = DEFAULT_REPAIR
    repair_texts: int = REPAIR_TEXTS
    ridge: float = RIDGE

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
        if self.level is not None:
            check_choice("level", self.level, LEVELS)
        for kind in self.kinds:
            check_choice("kind", kind, KINDS)
        check_choice("scope", self.scope, SCOPES)
        if self.heads is not None:
            check_choice("heads", self.heads, HEADS)
        check_choice("repair", self.repair, REPAIRS)
        if not self.ridge >= 0:
            raise ValueError(f"ridge={self.ridge:g}: it must not be negative")

    def check_for(self, model: PreTrainedModel) -> None:
        """Find what this model cannot be cut by, before it is trained: read the plan or the
        scores, or try made-up ones: whether so many units can go follows from the shape alone."""
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

        names = (*TARGETS, "scope", "heads", "multiple_of")
        options = {name: getattr(self, name) for name in names}
        return plan(model, scores, kinds=self.kinds, **options)
