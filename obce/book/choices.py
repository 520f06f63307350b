"""What each choice that the paper leaves open does, as the report of `open-choices` has it.

Each choice is changed alone; everything else stays as the package's default has it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

SIZES = ("46.5", "31.8")  # % of the encoder
TEXTS = (25, 50, 100, 200, 400, 768, 1500, 2048)
DEGREES = (1, 1.5, 2, 3, 4, math.inf)
POINTS = (256, 512, 1024, 2048, 4096, 8192)


def named(score: str, **settings: Any) -> str:
    """The label that a report has for a score with some unusual settings.

    >>> named("second_order loss", texts=25, floor=0)
    'second_order loss, floor 0, texts 25'
    """
    said = [f"{name.replace('_', ' ')} {value}" for name, value in sorted(settings.items())]
    return ", ".join([score, *said])


def recipe(score: str = "second_order loss", **changed: Any) -> str:
    """The label of the default recipe with one choice changed."""
    return named(score, **{"floor": 0, "kinds": "query,key,value,intermediate"} | changed)


DEFAULT = recipe()
DRAWS = [recipe(draw=draw) for draw in (1, 2)]
AGAIN = recipe(again=2)


def cut_first(epochs: int) -> str:
    """The label of the model that was cut before it was trained for so many epochs."""
    return recipe(again=epochs, order="cut_first")


# what is written -> the label in the report
CHOICES: dict[str, dict[str, str]] = {
    "which texts": {
        "25 texts instead of 768": recipe(texts=25),
        "100 texts": recipe(texts=100),
        "2,048 texts": recipe(texts=2048),
        "built-in sentences": recipe(corpus="sentences"),
        "texts of CoLA": recipe(corpus="cola"),
        "texts of MNLI": recipe(corpus="mnli"),
    },
    "what a point is": {
        "mean over a text": recipe("second_order loss mean"),
        "[CLS] of a text": recipe("second_order loss cls"),
        "without [CLS] and [SEP]": recipe(special_tokens=False),
    },
    "how units are shared out": {
        "percentile per layer": "second_order loss, scope layer",
        "percentile for all layers": "second_order loss, scope network",
        "budget without pairs": "second_order loss, floor 0",
        "a tenth of each layer stays": "second_order loss, kinds query,key,value,intermediate",
        "heads of equal width": recipe(heads="equal"),
    },
    "what follows the cut": {
        "no repair": recipe(repair="none"),
        "constants only": recipe(repair="constant"),
        "all tokens weighed alike": recipe(weighting="none"),
        "ridge 0.001": recipe(ridge=0.001),
        "ridge 1": recipe(ridge="1"),
    },
    "which score": {
        f"merge radius, {name}": named(f"merge_radius {cloud}", scope="layer")
        for cloud, name in {"mean": "mean", "texts": "texts", "tokens": "tokens",
                            "cls": "[CLS]"}.items()
    },
}  # fmt: skip


def by_texts() -> dict[int, str]:
    """The number of texts -> the label."""
    return {n: DEFAULT if n == 768 else recipe(texts=n) for n in TEXTS}


def by_degree() -> dict[float, str]:
    """The degree of persistence shares -> the label."""
    share = "persistence_share loss"
    return {p: share if p == 2 else named(share, degree=f"{p:g}") for p in DEGREES}


def by_points() -> dict[int, str]:
    """The number of points in the layer's cloud -> the label."""
    share = "persistence_share loss"
    return {n: share if n == 4096 else named(share, points=n) for n in POINTS}


def at_levels(score: str, **changed: Any) -> str:
    """The label of a score that cuts all kinds of units at the quartiles of each layer."""
    kinds = "query,key,value,attention_output,intermediate,output"
    return named(score, kinds=kinds, scope="layer", **changed)


def divergences(report: Mapping[str, Any], budget: str, label: str) -> dict[str, float]:
    """The divergence on each task that has run: the mean over seeds, and over draws by chance.

    Args:
        report: ``recorded("study_open_choices")``.
        budget: one of `SIZES`, or a level.
    """
    name = f"{budget} % of the encoder" if budget in SIZES else f"level {budget}"
    found = report["budgets"][name]["scores"].get(label)
    return {task: row["divergence"] for task, row in found["per_task"].items()} if found else {}


def effects(
    report: Mapping[str, Any], budget: str, labels: Mapping[str, str], beside: str = DEFAULT
) -> dict[str, dict[str, float]]:
    """How many times the divergence of ``beside`` each label's is, task by task.

    Args:
        labels: what is written -> a label of the report. Those that have not run are left out.

    Returns:
        ``{what is written: {task: ratio}}``.
    """
    base = divergences(report, budget, beside)
    found = {}
    for name, label in labels.items():
        ran = divergences(report, budget, label)
        if shared := [task for task in base if task in ran]:
            found[name] = {task: ran[task] / base[task] for task in shared}
    return found


def draws_apart(report: Mapping[str, Any], budget: str) -> tuple[float, float]:
    """The least and the largest ratio between two draws of texts, over all tasks.

    The default has been run with three draws: any of them could have been the default, so each is
    set beside each other one, and the range is the same in both directions.
    """
    found = [divergences(report, budget, label) for label in (DEFAULT, *DRAWS)]
    shared = set(found[0]).intersection(*found[1:])
    logs = [[math.log(draw[task]) for task in sorted(shared)] for draw in found]
    widest = float(np.max(np.ptp(logs, axis=0)))
    return math.exp(-widest), math.exp(widest)


def along(
    report: Mapping[str, Any], budget: str, values: Mapping[Any, str]
) -> dict[str, dict[Any, float]]:
    """The divergence over the values of one setting, ``{task: {value: divergence}}``.

    Args:
        values: a value of the setting -> its label.
    """
    ran = {value: divergences(report, budget, label) for value, label in values.items()}
    ran = {value: found for value, found in ran.items() if found}
    tasks = dict.fromkeys(task for found in ran.values() for task in found)
    return {
        task: {value: found[task] for value, found in ran.items() if task in found}
        for task in tasks
    }


def metrics(report: Mapping[str, Any], budget: str, label: str) -> dict[str, tuple[float, float]]:
    """The metric of a recipe and of the dense model on each task, in points of a hundred."""
    found = report["budgets"][f"{budget} % of the encoder"]["scores"].get(label)
    if not found:
        return {}
    return {
        task: (100 * row["value"], 100 * row["dense"]) for task, row in found["per_task"].items()
    }
