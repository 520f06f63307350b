"""What the records of a study say: tables, claims, and what chance gives.

Needs the records alone: neither GLUE nor a model.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from obce.running.tables import markdown_table
from obce.study import statistics
from obce.study.config import CORPORA, SETTINGS, TASKS, TRAIN
from obce.study.measures import unpack
from obce.study.store import Record, judged_on_of, load_groups
from obce.tasks import metric_name

FOUR = ("mrpc", "qqp", "sst2", "stsb")  # those of the best published work: see share_kept
SHOWN = ("metric", "cloud")  # said without their names, where a score reads them
# left out of a cell, or of its label, where they are what they are by default
BY_DEFAULT = (
    "degree", "covariance", "shuffle", "floor", "heads", "kinds", "again", "teacher", "order",
)  # fmt: skip
BUDGETS = ("keep_encoder", "level")
BY_CHANCE = "score_seed"


class Run(NamedTuple):
    """A dense model: of one task and seed, with these weights; whether it has learned anything."""

    task: str
    seed: int
    dense: str
    learned: bool


@dataclass(frozen=True)
class Cell:
    """A finished cell; ``kept`` is the share of the encoder that it has."""

    run: Run
    label: str
    budget: str
    record: Mapping[str, Any]
    dense_value: float

    @property
    def divergence(self) -> float:
        return float(self.record["divergence"])

    @property
    def value(self) -> float:
        return float(self.record["metrics"][self.record["metric"]])

    @property
    def rows(self) -> np.ndarray:
        """The divergence of each row of dev."""
        return unpack(self.record["rows"]["divergence"])


def load_cells(groups: Sequence[Record]) -> list[Cell]:
    """All finished cells of a study's records, each with the name of what it compares."""
    found = [
        (group, cell) for group in groups for cell in group["cells"].values() if "error" not in cell
    ]
    if not found:
        raise ValueError("no cell is finished yet: there is nothing to report")
    usual = _usual(cell["settings"] for _, cell in found)
    return [
        Cell(
            Run(group["task"], group["seed"], cell["dense"], not _by_chance(group, cell["dense"])),
            label_of(cell["settings"], usual),
            _budget(cell["settings"]),
            cell,
            _dense_value(group, cell),
        )
        for group, cell in found
    ]


def _dense_value(group: Record, cell: Mapping[str, Any]) -> float:
    dense = group["dense"][cell["dense"]]["dev"][str(cell["settings"]["dev_limit"])]
    return float(dense["metrics"][cell["metric"]])


def _usual(settings: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The most common value of each setting, among the cells that have it."""
    counts: dict[str, Counter] = defaultdict(Counter)
    for each in settings:
        for name, value in each.items():
            counts[name][value] += 1
    return {name: counter.most_common(1)[0][0] for name, counter in counts.items()}


def label_of(settings: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    """What a cell compares, beside its budget: the score, how it reads, and what is unusual.

    >>> label_of({"score": "std", "cloud": "mean", "texts": 25, "ridge": 0.1}, {"texts": 768,
    ...     "ridge": 0.1})
    'std mean, texts 25'
    """
    words = [settings["score"], *(settings[name] for name in SHOWN if name in settings)]
    if "points" in settings and words[-1] == "tokens":  # as a layer's cloud is, if nothing is said
        words.pop()
    parts = [" ".join(words)]
    for name, value in settings.items():
        if name in ("score", "stability", BY_CHANCE, *SHOWN, *BUDGETS):
            continue
        known = SETTINGS[name].default if name in BY_DEFAULT else usual.get(name)
        if value != known:
            parts.append(f"{name.replace('_', ' ')} {value:g}" if type(value) is float else
                         f"{name.replace('_', ' ')} {value}")  # fmt: skip
    return ", ".join(parts)


def _budget(settings: Mapping[str, Any]) -> str:
    if "level" in settings:
        return f"level {settings['level']}"
    return f"{100 * settings['keep_encoder']:g} % of the encoder"


def report_of(out: str | Path) -> dict[str, Any]:
    """Everything that the records say, as plain JSON.

    Raises:
        ValueError: no records, broken ones, or none of a finished cell.
    """
    groups = load_groups(Path(out))
    cells = load_cells(groups)
    labels = list(dict.fromkeys(cell.label for cell in cells))
    tasks = sorted({cell.run.task for cell in cells}, key=CORPORA.index)
    by_budget: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_budget[cell.budget].append(cell)
    order = sorted(by_budget, key=lambda name: (name.startswith("level"), -_number(name)))
    return {
        "complete": all(group["complete"] for group in groups),
        "cells": len(cells),
        "failed": sum("error" in cell for group in groups for cell in group["cells"].values()),
        "rows": rows_of(groups),
        "remarks": remarks_of(groups),
        "tasks": tasks,
        "labels": labels,
        "budgets": {name: _budget_report(by_budget[name], tasks) for name in order},
        "rank_correlation_with_std": _rank_correlations(cells, "spearman_std"),
        "rank_correlation_of_halves": _rank_correlations(cells, "spearman_halves"),
    }


def _number(budget: str) -> float:
    word = budget.split()[0]
    return float(word) if word[0].isdigit() else 0.0


def rows_of(groups: Sequence[Record]) -> list[dict[str, Any]]:
    """Per task: rows used of official ones, the dense metric and its runs."""
    found: dict[str, dict[str, Any]] = {}
    for group in groups:
        dev = max(group["dev"].values(), key=lambda each: each["rows_used"], default=None)
        if dev is None:
            continue
        row = found.setdefault(group["task"], {"task": group["task"], "dense": {}})
        row |= {"dev": _used(dev), "train": _used(group["train"])}
        for dense in group["dense"].values():
            if dense["dev"]:
                most = max(dense["dev"], key=int)
                metrics = dense["dev"][most]["metrics"]
                name = TASKS[group["task"]].main_metric
                row["metric"] = name
                row["dense"].setdefault(str(group["seed"]), []).append(metrics[name])
        row["one_answer"] = one_answer(group, dev)
        row["learned"] = row.get("learned", False) or not all(
            _by_chance(group, dense) for dense in group["dense"]
        )
    return sorted(found.values(), key=lambda row: CORPORA.index(row["task"]))


def _used(rows: Mapping[str, Any]) -> list[int]:
    return [rows["rows_used"], rows["rows_official"]]


def remarks_of(groups: Sequence[Record]) -> list[str]:
    """What a reader should not overlook."""
    found = []
    if trial := [group for group in groups if not group["complete"]]:
        found.append(f"a trial with --limit {trial[0]['limit']}: these are no results")
    for group in groups:
        if len(group["dense"]) > 1:
            found.append(
                f"{group['task']} {group['seed']}: cells of {len(group['dense'])} dense models "
                f"({', '.join(group['dense'])}); only cells of the same one are compared"
            )
        if any(_by_chance(group, dense) for dense in group["dense"]):
            found.append(
                f"{group['task']} {group['seed']}: the dense model is no better than one answer "
                "for all rows, so there is nothing to lose: it is left out of means over tasks "
                "and of claims"
            )
    if any(judged_on_of(group) == TRAIN for group in groups):
        found.append(
            "judged on rows of train that no calibration text comes from, to make choices: "
            "these are no results"
        )
    return found


def one_answer(group: Record, dev: Mapping[str, Any]) -> float:
    """The main metric of a model that gives every row the most common answer: 0, where the metric
    is a correlation."""
    if TASKS[group["task"]].main_metric != "accuracy":
        return 0.0
    labels = unpack(dev["labels"])
    return float(np.bincount(labels).max() / len(labels))


def _by_chance(group: Record, dense: str) -> bool:
    """Whether a classifier before the cut is right no more often than its task's usual answer."""
    if TASKS[group["task"]].is_regression:
        return False
    for limit, found in group["dense"][dense]["dev"].items():
        labels, answers = unpack(group["dev"][limit]["labels"]), unpack(found["predictions"])
        if (labels == answers).mean() <= np.bincount(labels).max() / len(labels):
            return True
    return False


def _budget_report(cells: Sequence[Cell], tasks: Sequence[str]) -> dict[str, Any]:
    labels = list(dict.fromkeys(cell.label for cell in cells))
    by = defaultdict(list)
    for cell in cells:
        by[cell.label, cell.run].append(cell)
    # A mean over other tasks is another number: it is given where none of them is missing.
    tasks = [task for task in tasks if any(run.task == task for _, run in by)]
    scores = {label: _score_report(label, by, tasks) for label in labels}
    claims = _claims(labels, by)
    return {
        "scores": scores,
        "order": sorted(labels, key=lambda label: _rank_key(scores[label])),
        "comparisons_per_score": len(labels) - 1,
        "claims": claims,
        "chance": _chance(labels, by, tasks),
    }


def _rank_key(score: Mapping[str, Any]) -> tuple[int, float]:
    """Those that are there for most tasks first; then by divergence."""
    mean = score["mean_log_divergence"]
    return -score["tasks"], 0.0 if mean is None else mean


Cells = Mapping[tuple[str, Run], list[Cell]]


def _score_report(label: str, by: Cells, tasks: Sequence[str]) -> dict[str, Any]:
    """A score on every task: both measures, their runs, and what is kept of the dense metric."""
    per_task: dict[str, Any] = {}
    for task in tasks:
        runs = {run: each for (name, run), each in by.items() if name == label and run.task == task}
        if not runs:
            continue
        divergences = [np.mean([cell.divergence for cell in each]) for each in runs.values()]
        values = [np.mean([cell.value for cell in each]) for each in runs.values()]
        dense = [each[0].dense_value for each in runs.values()]
        agree = [c.record["agreement"] for each in runs.values() for c in each]
        single = [cell for each in runs.values() for cell in each]
        per_task[task] = {
            "divergence": float(np.mean(divergences)),
            "divergence_runs": [float(value) for value in divergences],
            "divergence_intervals": [cell.record["divergence_interval"] for cell in single]
            if len(single) == len(runs)
            else None,
            "log_divergence": _log_divergence(runs),
            "metric": single[0].record["metric"],
            "value": float(np.mean(values)),
            "value_runs": [float(value) for value in values],
            "dense": float(np.mean(dense)),
            "agreement": None if None in agree else float(np.mean(agree)),
            "seeds": [run.seed for run in runs],
            "seconds": float(np.mean([cell.record["seconds"]["total"] for cell in single])),
        }  # fmt: skip
    learned = [task for task in per_task if per_task[task]["log_divergence"] is not None]
    logs = [per_task[task]["log_divergence"] for task in learned]
    mean = float(np.mean(logs)) if logs else None
    return {
        "tasks": len(per_task),
        "per_task": per_task,
        "mean_log_divergence": mean,
        "geometric_mean_divergence": math.exp(mean)
        if mean is not None and len(per_task) == len(tasks)
        else None,
        "kept_of_four": share_kept(per_task, FOUR),
        "kept_of_all": share_kept(per_task, learned) if len(per_task) == len(tasks) else None,
        "keep_encoder": _mean_kept(label, by),
    }


def _log_divergence(runs: Mapping[Run, Sequence[Cell]]) -> float | None:
    """The mean over dense models; None where none of them has learned anything."""
    logs = [
        statistics.log_divergence([cell.divergence for cell in cells])
        for run, cells in runs.items()
        if run.learned
    ]
    return float(np.mean(logs)) if logs else None


def _mean_kept(label: str, by: Cells) -> float:
    kept = [c.record["keep_encoder"] for (name, _), each in by.items() if name == label
            for c in each]  # fmt: skip
    return float(np.mean(kept))


def share_kept(per_task: Mapping[str, Mapping[str, Any]], tasks: Sequence[str]) -> float | None:
    """What is kept of the dense models' metric: the mean over some tasks by the dense mean.

    So K-prune's authors give it for four of them (Park et al., ICLR 2024). None where a task is
    missing.

    >>> share_kept({"a": {"value": 3, "dense": 4}, "b": {"value": 1, "dense": 4}}, ["a", "b"])
    0.5
    """
    if not tasks or not {*tasks} <= {*per_task}:
        return None
    dense = sum(per_task[task]["dense"] for task in tasks)
    return float(sum(per_task[task]["value"] for task in tasks) / dense) if dense > 0 else None


def _claims(labels: Sequence[str], by: Cells) -> list[dict[str, Any]]:
    """Each score against each, over the tasks and dense models that both have.

    A claim holds beyond its interval and by Holm's correction for all pairs.
    """
    found = []
    logs: dict[str, dict[Run, float]] = defaultdict(dict)
    drawn: dict[str, dict[Run, np.ndarray]] = defaultdict(dict)
    for (label, run), cells in by.items():
        if not run.learned:
            continue
        logs[label][run] = statistics.log_divergence([cell.divergence for cell in cells])
        drawn[label][run] = np.mean([statistics.resampled(cell.rows) for cell in cells], axis=0)
    for one, other in itertools.combinations(labels, 2):
        shared: dict[str, list[Run]] = defaultdict(list)
        for run in sorted(logs[one].keys() & logs[other].keys()):
            shared[run.task].append(run)
        if not shared:
            continue
        means, beyond = {}, [0, 0]
        for task, runs in shared.items():
            means[task] = float(np.mean([logs[one][run] - logs[other][run] for run in runs]))
            by_rows = np.mean([drawn[one][run] - drawn[other][run] for run in runs], axis=0)
            low, high = statistics.middle(by_rows)
            beyond[0] += high < 0
            beyond[1] += low > 0
        result = statistics.compare(list(means.values()), len(labels) - 1)
        pair = {"one": one, "other": other, "per_task": means, "beyond_rows": beyond}
        found.append(pair | result)
    tested = [claim for claim in found if claim["p"] is not None]
    for claim, p in zip(tested, statistics.holm([c["p"] for c in tested]), strict=True):
        claim["p_holm"] = p
        if p >= 1 - statistics.LEVEL:
            claim["claim"] = 0
    return found


def _chance(labels: Sequence[str], by: Cells, tasks: Sequence[str]) -> dict[str, Any]:
    """Of scores with random draws, the distribution on each task; and the share of the draws that
    are nearer to the dense model than each other score is. All of one dense model: the one that
    most draws were cut from."""
    found: dict[str, Any] = {}
    for label in labels:
        for task in tasks:
            runs = {
                run: cells for (name, run), cells in by.items() if (name, run.task) == (label, task)
            }
            if not runs:
                continue
            run = max(runs, key=lambda run: len(runs[run]))
            draws = runs[run]
            if len({cell.record["settings"].get(BY_CHANCE) for cell in draws}) < 2:
                continue
            values = np.array([cell.divergence for cell in draws])
            found.setdefault(label, {})[task] = {
                **statistics.distribution(values.tolist()),
                "seed": run.seed,
                "dense": draws[0].dense_value,
                "values": values.tolist(),
                "metrics": [cell.value for cell in draws],
                "nearer_than": {
                    other: float(np.mean(values < np.mean([c.divergence for c in each])))
                    for other in labels
                    if other != label and (each := by.get((other, run)))
                },
            }
    return found


def _rank_correlations(cells: Sequence[Cell], name: str) -> dict[str, float]:
    found = defaultdict(list)
    for cell in cells:
        if (value := cell.record.get(name)) is not None:
            found[cell.label].append(value)
    return {label: float(np.mean(values)) for label, values in found.items()}


def short(value: Any) -> Any:
    """A report, or a part of one, with five digits to each number: small enough for a package.

    >>> short({"a": [0.123456789, None, "x", 12345678]})
    {'a': [0.12346, None, 'x', 12345678]}
    """
    if isinstance(value, Mapping):
        return {name: short(each) for name, each in value.items()}
    if isinstance(value, list):
        return [short(each) for each in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


# for people


def report_text(report: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    parts = [_rows_text(report)]
    parts += [f"Remark: {remark}" for remark in report["remarks"]]
    for name, budget in report["budgets"].items():
        parts.append(f"## {name} kept" if not name.startswith("level") else f"## {name}")
        parts.append(_table(report["tasks"], budget, "divergence"))
        parts.append(_table(report["tasks"], budget, "value"))
        parts.append(_claims_text(budget))
        parts += _chance_text(budget)
    for name, title in RANKS.items():
        if ranked := sorted(report[name].items(), key=lambda each: -each[1]):
            rows = [["score", "Spearman, mean over layers and cells"]]
            rows += [[label, f"{value:.2f}"] for label, value in ranked]
            parts += [f"## {title}", markdown_table(rows)]
    return "\n\n".join(part for part in parts if part)


RANKS = {
    "rank_correlation_with_std": "Ranks beside those by the standard deviation of units' outputs",
    "rank_correlation_of_halves": "Ranks by one half of the texts beside those by the other",
}


def _rows_text(report: Mapping[str, Any]) -> str:
    rows = [["task", "metric", "dense", "train rows used", "rows judged on"]]
    for row in report["rows"]:
        runs = [value for values in row["dense"].values() for value in values]
        used = [f"{row[split][0]:,} of {row[split][1]:,}" for split in ("train", "dev")]
        rows.append([row["task"], metric_name(row["metric"]), _runs(runs, "value"), *used])
    failed = f", {report['failed']} failed" if report["failed"] else ""
    return f"{report['cells']:,} cells{failed}.\n\n{markdown_table(rows)}"


def _table(tasks: Sequence[str], budget: Mapping[str, Any], measure: str) -> str:
    """One measure of all scores on all tasks: the mean over seeds, and single runs."""
    divergence = measure == "divergence"
    last = ["geometric mean"] if divergence else ["kept of four", "kept of all"]
    rows = [["divergence" if divergence else "metric, %", *tasks, *last, "encoder kept"]]
    for label in budget["order"]:
        score = budget["scores"][label]
        cells = [
            _runs(score["per_task"][task][f"{measure}_runs"], measure)
            if task in score["per_task"]
            else ""
            for task in tasks
        ]
        if divergence:
            mean = score["geometric_mean_divergence"]
            end = ["" if mean is None else f"{mean:.3g}"]
        else:
            end = [_percent(score["kept_of_four"]), _percent(score["kept_of_all"])]
        rows.append([label, *cells, *end, f"{100 * score['keep_encoder']:.1f} %"])
    return markdown_table(rows)


def _runs(values: Sequence[float], measure: str) -> str:
    def text(value: float) -> str:
        return f"{value:.3g}" if measure == "divergence" else f"{100 * value:.1f}"

    mean = text(float(np.mean(values)))
    return mean if len(values) < 2 else f"{mean} ({' '.join(map(text, values))})"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _claims_text(budget: Mapping[str, Any]) -> str:
    """Of each score, which it is ahead of and which are ahead of it, beyond the interval."""
    if not budget["claims"]:
        return ""
    ahead: dict[str, list[str]] = defaultdict(list)
    for claim in budget["claims"]:
        if claim["claim"]:
            pair = (claim["one"], claim["other"])
            better, worse = pair if claim["claim"] < 0 else pair[::-1]
            ahead[better].append(worse)
    rows = [["score", "is ahead of", "is behind"]]
    for label in budget["order"]:
        behind = [other for other in budget["order"] if label in ahead[other]]
        rows.append([label, "; ".join(ahead[label]) or "-", "; ".join(behind) or "-"])
    parts = [ABOUT.format(budget["comparisons_per_score"]), markdown_table(rows)]
    best, *others = budget["order"]
    table = [_beside(budget["claims"], best, other) for other in others]
    if known := [row for row in table if row]:
        parts += [f"{best} beside each other score:", markdown_table([BESIDE, *known])]
    return "\n\n".join(parts)


ABOUT = (
    "Ahead: the difference of log divergence, in the mean over tasks, lies on one side of zero "
    "beyond its 95 % interval (Student's t over tasks, paired by dense model), corrected for {} "
    "comparisons per score (Bonferroni), and p is below 0.05 by Holm's correction for all pairs."
)


BESIDE = ["against", "times its divergence", "interval", "ahead in", "beyond rows", "p (Holm)"]


def _beside(claims: Sequence[Mapping[str, Any]], best: str, other: str) -> list[str]:
    """A row on two scores; nothing, where they share fewer than two tasks."""
    for claim in claims:
        if {claim["one"], claim["other"]} != {best, other} or not claim["interval"]:
            continue
        sign = 1 if claim["one"] == best else -1
        low, high = sorted(math.exp(min(sign * bound, 700)) for bound in claim["interval"])
        return [
            other,
            f"{math.exp(sign * claim['difference']):.3g}",
            f"{low:.3g} to {high:.3g}",
            f"{sum(sign * value < 0 for value in claim['per_task'].values())} of {claim['tasks']}",
            str(claim["beyond_rows"][0 if sign == 1 else 1]),
            f"{claim['p_holm']:.4f}",
        ]
    return []


def _chance_text(budget: Mapping[str, Any]) -> list[str]:
    rows = [["by chance", "task", "draws", "mean", "5 %", "median", "95 %"]]
    for label, per_task in budget["chance"].items():
        for task, found in per_task.items():
            numbers = [f"{found[name]:.3g}" for name in ("mean", "5 %", "median", "95 %")]
            rows.append([label, task, str(found["draws"]), *numbers])
    return [markdown_table(rows)] if len(rows) > 1 else []
