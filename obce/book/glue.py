"""The default recipe on GLUE, task by task, as the report of the study `how-good` has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

NAMES = {
    "cola": "CoLA", "sst2": "SST-2", "mrpc": "MRPC", "stsb": "STS-B", "qqp": "QQP",
    "mnli": "MNLI", "qnli": "QNLI", "rte": "RTE", "wnli": "WNLI",
}  # fmt: skip
SIZES = ("46.5", "31.8")  # % of the encoder
RECIPE = "second_order loss{}, floor 0, kinds query,key,value,intermediate{}"
# The sampled tasks are trained again for one epoch, the others for two.
WAYS = {
    "repaired": [RECIPE.format("", "")],
    "labels": [RECIPE.format(f", again {epochs}", "") for epochs in (1, 2)],
    "teacher": [RECIPE.format(f", again {epochs}", ", teacher dense") for epochs in (1, 2)],
}
RIVALS = {
    "std": "std loss",
    "merge radius": "merge_radius mean, scope layer",
    "dropped layers": "drop_layers",
    "random": "random",
}


def on_glue(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What was measured on each task.

    Args:
        report: ``recorded("study_how_good")``.

    Returns:
        Task -> ``metric``, ``train`` and ``dev`` (rows used, official ones), ``fine-tunings``,
        ``learned``; ``dense`` and ``one answer``, in percent of the main metric; and for each size
        of `SIZES` and each way of `WAYS` and `RIVALS` that has run ``{"value", "divergence"}``.
        ``control`` is the dense model, trained again as the others are.

    >>> from obce.running.records import recorded
    >>> stsb = on_glue(recorded("study_how_good"))["stsb"]
    >>> stsb["metric"], stsb["train"], sorted(stsb["46.5"])[-1]
    ('pearson', [5749, 5749], 'teacher')
    """
    tasks: dict[str, dict[str, Any]] = {}
    for row in report["rows"]:
        runs = [value for values in row["dense"].values() for value in values]
        tasks[row["task"]] = {
            "metric": row["metric"],
            "train": row["train"],
            "dev": row["dev"],
            "fine-tunings": len(runs),
            "learned": row["learned"],
            "dense": 100 * sum(runs) / len(runs),
            "one answer": 100 * row["one_answer"],
        } | {size: {} for size in SIZES}
    for size, budget in report["budgets"].items():
        of_encoder = size.split()[0]
        for label, score in budget["scores"].items():
            for task, found in score["per_task"].items():
                values = {"value": 100 * found["value"], "divergence": found["divergence"]}
                if of_encoder == "100":
                    tasks[task]["control"] = values
                elif of_encoder in SIZES:
                    for way in _ways_of(label):
                        tasks[task][of_encoder][way] = values
    return tasks


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
