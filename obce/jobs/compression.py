"""The main job: from a model to a smaller one, judged at every stage.

It is judged by labels or by the dense model's outputs: see :mod:`obce.jobs.judges`.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedModel

from obce import plots, tasks
from obce.base import distributed
from obce.base.devices import on_device, pick_device
from obce.base.files import replacing
from obce.base.lock import alone_in_out
from obce.jobs import card
from obce.jobs.arguments import Analysis, Cut, Data, Tuning, contents_sha256, named
from obce.jobs.estimates import planned, say_stages
from obce.jobs.folders import check_out, check_same, finished, state_at
from obce.jobs.judges import Judge, LoadedModel, judge_of
from obce.jobs.progress import bars, stage
from obce.jobs.scoring import score_units
from obce.pruning import Plan
from obce.repairs import repair
from obce.running.loading import Classifier
from obce.running.records import STAGES, model_name, save_sealed
from obce.running.speed import alike, time_side_by_side
from obce.scores import Scores
from obce.surgery import cut
from obce.texts import length_limit
from obce.units import count_parameters, dense_bert

FILES = ("README.md", "config.json", "model.safetensors", "plan.json", "scores.safetensors")


class Known(NamedTuple):
    """What is known of the dense model when several budgets are cut from it: its name (None: the
    folder's), how it was fine-tuned, and its stage in the record of the first of them."""

    source: str | None
    tuning: dict[str, Any] | None
    dense: dict[str, Any] | None


@alone_in_out
def compress_job(
    name: str,
    out: Path,
    data: Data,
    analysis: Analysis,
    cut: Cut,
    *,
    tuning: Tuning,
    again: float = 0.0,
    resume: bool = True,
    timing: bool = True,
    device: str = "auto",
    progress: bool = True,
    known: Known | None = None,
) -> dict[str, Any]:
    """The main job: from a model to a smaller one, judged at every stage.

    With labels: load (and fine-tune, if the model has no head for the task), analyze, plan, cut,
    repair, fine-tune ``again`` for that many epochs, by labels alone or with the dense model as
    teacher (``tuning.teacher``), evaluate before and after each step. With
    texts alone: load, analyze, plan, cut, repair, compare with the dense model on texts held back.
    Saved into ``out``: the model, its card, ``plan.json``, ``scores.safetensors``, ``record.json``.

    Args:
        resume: go on where the same job was interrupted, or return its record, marked
            ``nothing_was_run``, where it has ended; else start over.
        timing: whether dense and compressed model are timed side by side at the end.

    Raises:
        ValueError: bad arguments, or ``out`` holds another job's result or somebody's files.
    """
    cut.check()
    cut = cut.settled(analysis)
    analysis.check(() if cut.scores_file or cut.plan_file else cut.kinds or ())
    data.check()
    tuning.check(again)
    if again and not data.labelled:
        raise ValueError("finetune-epochs: fine-tuning needs labels, and these are texts alone")
    check_out(name, out, FILES)
    scored = cut.plan_file is None and cut.scores_file is None
    arguments = {
        "model": named(name),
        "model_sha256": contents_sha256(name),
        "data": data.as_record(),
        "analysis": analysis.as_record(scored),
        "cut": cut.as_record(),
        "tuning": tuning.as_record() if data.labelled else {"max_length": tuning.max_length},
        "again": again,
        "timing": timing,
    }
    if resume and (done := finished(out / "record.json", arguments)):
        distributed.by_main(lambda: tidy(out))  # it may have been killed while it did that
        return done
    judge = judge_of(name, data, tuning, device, progress)
    job = _Compression(name, out, arguments, judge, analysis, cut, tuning, device, progress, known)
    return job.run(again, resume, timing)


def tidy(out: Path) -> None:
    """Remove what only an interrupted job needs."""
    (out / "state.json").unlink(missing_ok=True)
    for folder in ("repaired", "finetuned"):
        shutil.rmtree(out / folder, ignore_errors=True)


class _Compression:
    """One job: what it was told, and ``state``, what it has done so far, as plain JSON."""

    def __init__(
        self,
        name: str,
        out: Path,
        arguments: dict[str, Any],
        judge: Judge,
        analysis: Analysis,
        cut: Cut,
        tuning: Tuning,
        device: str,
        progress: bool,
        known: Known | None,
    ):
        self.name, self.out, self.judge = name, out, judge
        self.analysis, self.cut, self.tuning = analysis, cut, tuning
        self.device, self.progress, self.known = device, progress, known
        self.arguments = arguments
        self.state_path = out / "state.json"
        self.state: dict[str, Any] = {"arguments": arguments, "stages": {}}

    def run(self, again: float, resume: bool, timing: bool) -> dict[str, Any]:
        if resume and (before := state_at(self.state_path)):
            check_same(before, self.arguments, self.out, "an unfinished job with other arguments")
            self.state = before
        loaded = self.judge.load(self.name)
        self._check_for(loaded.model)
        source = (self.known and self.known.source) or model_name(loaded.model)
        distributed.by_main(lambda: self._start(resume))
        stages = planned(
            self.judge, loaded, self.analysis, self.cut, self.tuning, again, timing, self.state
        )
        say_stages(self.judge, loaded, stages, self.tuning.max_length, self.device, self.progress)
        dense = self._dense(source, loaded, resume)
        small, plan = self._small(source, dense, keep=bool(again))
        if again:
            small = self._finetuned(source, dense, small, plan, again, resume)
        return self._finish(source, dense, small, plan, timing)

    def _check_for(self, model: PreTrainedModel) -> None:
        """Find what would fail after hours of training, before it."""
        pick_device(self.device)
        for limit in (self.analysis.max_length, self.tuning.max_length):
            length_limit(dense_bert(model), limit)
        self.cut.check_for(model)

    def _start(self, resume: bool) -> None:
        """Called when the input is known to be good; before, nothing is written or removed."""
        self.out.mkdir(parents=True, exist_ok=True)
        if not resume:
            (self.out / "record.json").unlink(missing_ok=True)
        if not self.state["stages"] and "tuning" not in self.state:
            tidy(self.out)

    def _dense(self, source: str, loaded: LoadedModel, resume: bool) -> LoadedModel:
        """The dense model, judged; fine-tuned for the task here, if it was not before."""
        if self.known and self.known.dense and "dense" not in self.state["stages"]:
            self.state["stages"]["dense"] = self.known.dense
            if self.known.tuning:
                self.state["tuning"] = self.known.tuning
        if not self.judge.is_ready(loaded):
            folder = self.out / "dense"
            if "tuning" not in self.state:
                with stage("fine-tune the dense model", self.progress):
                    tuned = self.judge.tune(loaded, folder, self.tuning.epochs, resume)
                self.state["tuning"] = tuned
                self._save_state()
            loaded = self.judge.reload(folder)
        self._judge("dense", source, loaded, loaded.model, plan=None)
        return loaded

    def _small(self, source: str, dense: LoadedModel, keep: bool) -> tuple[LoadedModel, Plan]:
        """Score, plan, cut and repair; or load what an interrupted run has saved of that."""
        repaired = self.out / "repaired"
        if distributed.by_main((repaired / "config.json").is_file):
            return self.judge.reload(repaired), Plan.load(self.out / "plan.json")
        plan = self._plan(dense)
        small = cut(dense.model, plan)
        self._judge("cut", source, dense, small, plan)
        if self.cut.repair != "none":
            with stage("repair", self.progress):
                self.state["repair"] = self._repair(dense, small, plan)
            self._judge("repaired", source, dense, small, plan)
        small.config.name_or_path = self.out.name
        loaded = dense._replace(model=small)

        def save() -> None:
            plan.save(self.out / "plan.json")
            if keep:
                self.judge.save(loaded, repaired)

        distributed.by_main(save)
        self._save_state()
        return loaded, plan

    def _plan(self, dense: LoadedModel) -> Plan:
        """The plan from a file, or from scores, which are saved with their figure."""
        if self.cut.plan_file is not None:
            found = Plan.load(self.cut.plan_file)
            found.check(dense.model)
            return replace(found, dense=count_parameters(dense.model))
        if self.cut.scores_file is not None:
            scores = Scores.load(self.cut.scores_file)
        else:
            with stage("analyze", self.progress):
                scores = score_units(
                    dense, self.judge, self.analysis, self.device, bars(self.progress)
                )
        made = self.cut.plan(dense.model, scores)

        def save() -> None:
            scores.save(self.out / "scores.safetensors")
            plots.save(plots.scores_by_layer(scores, made), self.out / "scores.png")

        distributed.by_main(save)
        return made

    def _repair(self, dense: LoadedModel, small: PreTrainedModel, plan: Plan) -> dict[str, Any]:
        rows = self.judge.sample(self.cut.repair_texts)
        with on_device(dense.model, self.device), on_device(small, self.device):
            fits = repair(
                dense.model,
                small,
                plan,
                texts=tasks.texts(rows),
                tokenizer=dense.tokenizer,
                method=self.cut.repair,
                max_length=self.analysis.max_length,
                ridge=self.cut.ridge,
                weighting=self.cut.weighting,
                progress=bars(self.progress),
            )
        return {
            "repair": self.cut.repair,
            "texts": len(rows),
            "data_sha256": tasks.data_sha256(rows),
            "fits": [asdict(fit) for fit in fits],
        }

    def _finetuned(
        self,
        source: str,
        dense: LoadedModel,
        small: LoadedModel,
        plan: Plan,
        epochs: float,
        resume: bool,
    ) -> LoadedModel:
        folder = self.out / "finetuned"
        teacher = dense.model if self.tuning.teacher else None
        if "tuning_again" not in self.state:
            with stage("fine-tune again", self.progress):
                self.state["tuning_again"] = self.judge.tune(small, folder, epochs, resume, teacher)
            self._save_state()
        small = self.judge.reload(folder)
        self._judge("finetuned", source, small, small.model, plan)
        return small

    def _judge(
        self,
        name: str,
        source: str,
        dense: LoadedModel,
        model: PreTrainedModel,
        plan: Plan | None,
    ) -> None:
        """Add a stage to the record, unless an interrupted run has."""
        if name in self.state["stages"]:
            return
        context: dict[str, Any] = {
            "model": source,
            "stage": STAGES[name],
            "order": self._order(name),
        }
        if plan is not None:
            context["plan"] = plan.summary()
        with stage(f"judge: {STAGES[name]}", self.progress):
            self.state["stages"][name] = self.judge.judge(dense, model, context)
        self._save_state()

    def _save_state(self) -> None:
        distributed.by_main(lambda: save_sealed(self.state, self.state_path))

    def _order(self, name: str) -> str:
        steps = ["fine-tune"] if "tuning" in self.state else []
        if name != "dense":
            steps += ["analyze", "cut"] if self.cut.plan_file is None else ["cut"]
        if name in ("repaired", "finetuned") and self.cut.repair != "none":
            steps.append(f"repair ({self.cut.repair})")
        if name == "finetuned":
            steps.append("fine-tune (teacher: dense)" if self.tuning.teacher else "fine-tune")
        return " -> ".join(steps) or "as it came"

    def _finish(
        self,
        source: str,
        dense: LoadedModel,
        small: LoadedModel,
        plan: Plan,
        timing: bool,
    ) -> dict[str, Any]:
        def time() -> dict[str, dict[str, Any]]:
            models = {"dense": dense, "compressed": small}
            if isinstance(dense, Classifier):  # which computes the last layer for [CLS] alone
                models["dense alike"] = dense._replace(model=alike(dense.model))
            return time_side_by_side(
                models,
                tasks.texts(self.judge.judged.select(range(min(1000, len(self.judge.judged))))),
                progress=bars(self.progress),
                max_length=self.tuning.max_length,
                device=self.device,
            )

        record = {
            **self.state,
            "task": self.judge.title,
            "model": source,
            "about": card.about(self.name, source, self.judge, small),
            "parameters": {
                "dense": count_parameters(dense.model)._asdict(),
                "compressed": count_parameters(small.model)._asdict(),
            },
            "plan": plan.summary(),
        }
        if timing:
            with stage("time both models", self.progress):
                record["timing"] = distributed.by_main(time)

        def save() -> None:
            self.judge.save(small, self.out)
            text = card.model_card(record, plan)
            with replacing(self.out / "README.md") as part:
                part.write_text(text, encoding="utf-8")
            save_sealed(record, self.out / "record.json")
            tidy(self.out)

        distributed.by_main(save)
        return record
