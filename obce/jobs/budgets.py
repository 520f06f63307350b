"""Several budgets from one dense model and one analysis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from obce.base import distributed
from obce.base.lock import alone_in_out
from obce.jobs.arguments import Analysis, Cut, Data, Tuning, contents_sha256, named
from obce.jobs.card import stage_rows
from obce.jobs.compression import Known, compress_job
from obce.jobs.folders import check_out, finished, state_at
from obce.jobs.judges import Labelled
from obce.jobs.steps import analysis_arguments, analyze_job
from obce.running.records import environment, model_name, save_sealed


@alone_in_out
def budgets_job(
    name: str,
    out: Path,
    data: Data,
    analysis: Analysis,
    cut: Cut,
    target: str,
    values: Sequence[float],
    *,
    tuning: Tuning,
    again: float = 0.0,
    resume: bool = True,
    timing: bool = True,
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Any]:
    """:func:`~obce.jobs.compression.compress_job` for several values of ``target``
    (``keep_encoder``, ``keep_total`` or ``percentile``), each into a folder of its own.

    The model is fine-tuned once (``out/dense``), scored once (``out/analysis``) and evaluated once;
    a budget that has ended before is not computed again. Writes ``budgets.json``.

    Returns:
        the record: under ``budgets``, for every value the record of its job.
    """
    data.check()
    tuning.check(again)
    cut = cut.settled(analysis)
    analysis.check(() if cut.scores_file else cut.kinds or ())
    changes: list[dict[str, Any]] = [{target: value} for value in values]
    cuts = [replace(cut, **change) for change in changes]
    for each in cuts:
        each.check()
    if len(set(values)) < len(values):
        raise ValueError(f"{target.replace('_', '-')}: a value is given twice")
    check_out(name, out, ("budgets.json",))
    options: dict[str, Any] = {"device": device, "progress": progress}
    source, dense, trained = _dense(name, out, data, tuning, cuts, resume, options)
    data = replace(data, new_head=False)  # the dense model's is trained by now
    scores = cut.scores_file or _scores(dense, out, data, analysis, resume, options)
    records: list[dict[str, Any]] = []
    known = Known(source, trained, None)
    for value, each in zip(values, cuts, strict=True):
        records.append(
            compress_job(
                dense,
                out / f"{target.replace('_', '-')}-{value:g}",
                data,
                analysis,
                replace(each, scores_file=scores),
                tuning=tuning,
                again=again,
                resume=resume,
                timing=timing,
                known=known,
                **options,
            )
        )
        known = Known(source, trained, records[0]["stages"]["dense"])
    record = {
        "target": target,
        "budgets": {f"{value:g}": found for value, found in zip(values, records, strict=True)},
        "environment": environment(),
    }
    distributed.by_main(lambda: save_sealed(record, out / "budgets.json"))
    return record


def _dense(
    name: str,
    out: Path,
    data: Data,
    tuning: Tuning,
    cuts: Sequence[Cut],
    resume: bool,
    options: dict[str, Any],
) -> tuple[str | None, str, dict[str, Any] | None]:
    """The dense model: its name in records (None: that of its folder), where it lies, and how it
    was fine-tuned, if it was here."""
    if not data.labelled:
        return None, name, None
    judge = Labelled(name, data, tuning, **options)
    loaded = judge.load(name)
    source = model_name(loaded.model)
    for cut in cuts:
        cut.check_for(loaded.model)
    if judge.is_ready(loaded):
        return source, name, None
    folder, about = out / "dense", out / "dense" / "finetune.json"
    model = {"model": named(name), "model_sha256": contents_sha256(name)}
    arguments = {**model, **data.as_record(), **tuning.options()}
    if resume and (done := finished(about, arguments)):
        return source, str(folder), done["training"]
    trained = judge.tune(loaded, folder, tuning.epochs, resume)
    record = {"arguments": arguments, "training": trained}
    distributed.by_main(lambda: save_sealed(record, about))
    return source, str(folder), trained


def _scores(
    dense: str,
    out: Path,
    data: Data,
    analysis: Analysis,
    resume: bool,
    options: dict[str, Any],
) -> str:
    folder = out / "analysis"
    done = state_at(folder / "analysis.json") if resume else None
    if done is None or done.get("arguments") != analysis_arguments(dense, data, analysis):
        analyze_job(dense, folder, data, analysis, **options)
    return str(folder / "scores.safetensors")


def budget_rows(record: dict[str, Any]) -> list[list[str]]:
    """Header and rows of a table of budgets: the dense model, then a row for each."""

    rows: list[list[str]] = []
    for value, one in record["budgets"].items():
        head, *stages = stage_rows(one)
        if not rows:
            rows = [[record["target"].replace("_", "-"), *head[1:]], ["dense", *stages[0][1:]]]
        rows.append([value, *stages[-1][1:]])
    return rows
