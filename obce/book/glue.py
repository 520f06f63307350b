"""The default recipe on GLUE, task by task, as the report of the study `how-good` has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from obce.book.choices import SIZES as SIZES
from obce.book.choices import recipe

NAMES = {
    "cola": "CoLA", "sst2": "SST-2", "mrpc": "MRPC", "stsb": "STS-B", "qqp": "QQP",
    "mnli": "MNLI", "qnli": "QNLI", "rte": "RTE", "wnli": "WNLI",
}  # fmt: skip
# The sampled tasks are trained again for one epoch, the others for two.
WAYS = {
    "repaired": [recipe()],
    "labels": [recipe(again=epochs) for epochs in (1, 2)],
    "teacher": [recipe(again=epochs, teacher="dense") for epochs in (1, 2)],
}
RIVALS = {
    "std": "std loss",
    "merge radius": "merge_radius mean, scope layer",
    "dropped layers": "drop_layers",
    "random": "random",
}


def on_glue(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What was measured on each task.

    Numbers of one task are means over the same fine-tunings: those that all of its ways have.

    Args:
        report: ``recorded("study_how_good")``.

    Returns:
        Task -> ``metric``, ``train`` and ``dev`` (rows used, official ones), ``learned``, the
        number of ``fine-tunings``; ``dense`` and ``one answer``, in percent of the main metric; and
        for each size of `SIZES` and each way of `WAYS` and `RIVALS` that has run ``{"value",
        "divergence", "changes"}``, where ``changes`` are the points of the metric gained against
        the dense model, one number for each fine-tuning that there is. ``control`` is the dense
        model, trained again as the others are.

    >>> from obce.running.records import recorded
    >>> stsb = on_glue(recorded("study_how_good"))["stsb"]
    >>> stsb["metric"], stsb["train"], sorted(stsb["46.5"])[-1]
    ('pearson', [5749, 5749], 'teacher')
    """
    ran = {row["task"]: _ways(report, row["task"]) for row in report["rows"]}
    return {row["task"]: _on_task(row, ran[row["task"]]) for row in report["rows"]}


def _ways(report: Mapping[str, Any], task: str) -> dict[tuple[str, str], Mapping[str, Any]]:
    """``{(size, way): what the report says of it on the task}``"""
    found = {}
    for budget, said in report["budgets"].items():
        size = budget.split()[0]
        for label, score in said["scores"].items():
            if task in score["per_task"]:
                for way in ["control"] if size == "100" else _ways_of(label):
                    if size in ("100", *SIZES):
                        found[size, way] = score["per_task"][task]
    return found


def _on_task(row: Mapping[str, Any], ran: Mapping[tuple[str, str], Any]) -> dict[str, Any]:
    dense = {int(seed): float(np.mean(runs)) for seed, runs in row["dense"].items()}
    shared = sorted(set(dense).intersection(*(found["seeds"] for found in ran.values())))
    task: dict[str, Any] = {
        "metric": row["metric"],
        "train": row["train"],
        "dev": row["dev"],
        "learned": row["learned"],
        "fine-tunings": len(shared),
        "dense": 100 * float(np.mean([dense[seed] for seed in shared])),
        "one answer": 100 * row["one_answer"],
    } | {size: {} for size in SIZES}
    for (size, way), found in ran.items():
        value = dict(zip(found["seeds"], found["value_runs"], strict=True))
        divergence = dict(zip(found["seeds"], found["divergence_runs"], strict=True))
        numbers = {
            "value": 100 * float(np.mean([value[seed] for seed in shared])),
            "divergence": float(np.mean([divergence[seed] for seed in shared])),
            "changes": [100 * (value[seed] - dense[seed]) for seed in sorted(value)],
        }
        if way == "control":
            task["control"] = numbers
        else:
            task[size][way] = numbers
    return task


def _ways_of(label: str) -> Iterator[str]:
    yield from (way for way, labels in WAYS.items() if label in labels)
    yield from (rival for rival, name in RIVALS.items() if label == name)


def share_learned(task: Mapping[str, Any], value: float) -> float:
    """How much is left of what the dense model had learned, in percent: 0 for a model that gives
    one answer to all rows, 100 for the dense one.

    >>> share_learned({"dense": 90.0, "one answer": 50.0}, 80.0)
    75.0
    """
    return 100 * (value - task["one answer"]) / (task["dense"] - task["one answer"])
