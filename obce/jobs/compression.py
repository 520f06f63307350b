"""The main job: from a model and a task to a smaller model, evaluated at every stage."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from obce import plots, tasks
from obce.base import distributed
from obce.base.devices import on_device, pick_device
from obce.base.files import replacing
from obce.base.lock import alone_in_out
from obce.jobs import card
from obce.jobs.arguments import Analysis, Cut, Data, Tuning, named
from obce.jobs.steps import check_out, record_at, score_units, training_record
from obce.pruning import Plan
from obce.repairs import repair
from obce.running.evaluation import evaluate
from obce.running.loading import Classifier, load_classifier, save_classifier
from obce.running.records import STAGES, model_name, save_sealed
from obce.running.speed import time_side_by_side
from obce.running.training import finetune
from obce.scores import Scores
from obce.surgery import cut
from obce.texts import length_limit
from obce.units import count_parameters, dense_bert


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
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Any]:
    """The main job: from a model and a task to a smaller model, evaluated at every stage.

    Load (and fine-tune, if the model has no head for the task), analyze, plan, cut, repair,
    fine-tune ``again`` for that many epochs, evaluate before and after each step, and save into
    ``out``: the model, its card, ``plan.json``, ``scores.safetensors`` and ``record.json``.

    Raises:
        ValueError: bad arguments, or ``out`` holds another job's result.
    """
    cut.check()
    analysis.check()
    check_out(name, out)
    job = _Compression(name, out, data, analysis, cut, tuning, again, resume, device, progress)
    if done := record_at(out / "record.json"):
        if done.get("arguments") == job.arguments:
            distributed.by_main(job.tidy)  # it may have been killed while it did that
            return done
        raise ValueError(f"{out} holds the result of other arguments: choose another folder")
    return job.run()


class _Compression:
    """One job: what it was told, and ``state``, what it has done so far, as plain JSON."""

    def __init__(
        self,
        name: str,
        out: Path,
        data: Data,
        analysis: Analysis,
        cut: Cut,
        tuning: Tuning,
        again: float,
        resume: bool,
        device: str,
        progress: bool,
    ):
        self.name, self.out, self.data, self.analysis = name, out, data, analysis
        self.cut, self.tuning, self.again = cut, tuning, again
        self.resume, self.device, self.progress = resume, device, progress
        self.arguments = {
            "model": named(name),
            "data": data.as_record(),
            "analysis": asdict(analysis),
            "cut": asdict(cut)
            | {
                "kinds": list(cut.kinds),
                "plan_file": named(cut.plan_file),
                "scores_file": named(cut.scores_file),
            },
            "tuning": asdict(tuning),
            "again": again,
        }
        self.state_path = out / "state.json"
        self.state = self._state_so_far()
        self.dev, self.train = data.dev(), data.train()

    def _state_so_far(self) -> dict[str, Any]:
        try:
            before = record_at(self.state_path) if self.resume else None
        except ValueError as error:
            distributed.say(f"{error}; the job starts over")
            before = None
        if before is None:
            return {"arguments": self.arguments, "stages": {}}
        if before["arguments"] != self.arguments:
            raise ValueError(
                f"{self.out} holds an unfinished job with other arguments: choose another folder, "
                "or start over with --no-resume"
            )
        return before

    def run(self) -> dict[str, Any]:
        source, dense = self._dense()
        if set(self.state["stages"]) == {"dense"}:
            distributed.by_main(self._remove_stages)  # of a job that was started over
        small, plan = self._small(source, dense)
        if self.again:
            small = self._finetuned(source, small, plan)
        return self._finish(source, dense, small, plan)

    def _dense(self) -> tuple[str, Classifier]:
        """The model's name, and the dense model, fine-tuned for the task (if it was not, here)."""
        classifier = load_classifier(self.name, self.data.task, self.data.seed)
        self._check_for(classifier.model)
        source = model_name(classifier.model)
        # Only now is the input known to be good: nothing was written before.
        distributed.by_main(lambda: self.out.mkdir(parents=True, exist_ok=True))
        if not classifier.fine_tuned:
            folder = self.out / "dense"
            if "tuning" not in self.state:
                self.state["tuning"] = self._tune(classifier, folder, self.tuning.epochs)
                self._save_state()
            classifier = load_classifier(folder, self.data.task)
        self._evaluate("dense", source, classifier.model, classifier.tokenizer, plan=None)
        return source, classifier

    def _check_for(self, model: PreTrainedModel) -> None:
        """Find what would fail after hours of training, before it."""
        pick_device(self.device)
        for limit in (self.analysis.max_length, self.tuning.max_length):
            length_limit(dense_bert(model), limit)
        self.cut.check_for(model)

    def _tune(self, classifier: Classifier, folder: Path, epochs: float) -> dict[str, Any]:
        training = finetune(
            classifier.model,
            classifier.tokenizer,
            self.data.task,
            train=self.train,
            output_dir=folder,
            seed=self.data.seed,
            resume=self.resume,
            device=self.device,
            progress=self.progress,
            **(asdict(self.tuning) | {"epochs": epochs}),
        )
        return training_record(training, self.train, self.data.task) | {"epochs": epochs}

    def _small(self, source: str, dense: Classifier) -> tuple[Classifier, Plan]:
        """Score, plan, cut and repair; or what an interrupted run had got there."""
        repaired = self.out / "repaired"
        if distributed.by_main((repaired / "config.json").is_file):
            return load_classifier(repaired, self.data.task), Plan.load(self.out / "plan.json")
        model, tokenizer, _ = dense
        plan = self._plan(dense)
        small = cut(model, plan)
        self._evaluate("cut", source, small, tokenizer, plan)
        if self.cut.repair != "none":
            self.state["repair"] = self._repair(dense, small, plan)
            self._evaluate("repaired", source, small, tokenizer, plan)
        small.config.name_or_path = self.out.name

        def save() -> None:
            plan.save(self.out / "plan.json")
            if self.again:
                save_classifier(small, tokenizer, repaired)

        distributed.by_main(save)
        self._save_state()
        return Classifier(small, tokenizer, True), plan

    def _repair(self, dense: Classifier, small: PreTrainedModel, plan: Plan) -> dict[str, Any]:
        rows = self.data.train(self.cut.repair_texts)
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
                progress=self.progress,
            )
        return {
            "repair": self.cut.repair,
            "texts": len(rows),
            "data_sha256": tasks.data_sha256(rows),
            "fits": [asdict(fit) for fit in fits],
        }

    def _plan(self, dense: Classifier) -> Plan:
        """The plan from a file, or from scores, which are saved with their figure."""
        if self.cut.plan_file is not None:
            found = Plan.load(self.cut.plan_file)
            found.check(dense.model)
            return replace(found, dense=count_parameters(dense.model))
        if self.cut.scores_file is not None:
            scores = Scores.load(self.cut.scores_file)
        else:
            scores = score_units(dense, self.data, self.analysis, self.device, self.progress)
        made = self.cut.plan(dense.model, scores)

        def save() -> None:
            scores.save(self.out / "scores.safetensors")
            plots.save(plots.scores_by_layer(scores, made), self.out / "scores.png")

        distributed.by_main(save)
        return made

    def _finetuned(self, source: str, small: Classifier, plan: Plan) -> Classifier:
        folder = self.out / "finetuned"
        if "tuning_again" not in self.state:
            self.state["tuning_again"] = self._tune(small, folder, self.again)
            self._save_state()
        small = load_classifier(folder, self.data.task)
        self._evaluate("finetuned", source, small.model, small.tokenizer, plan)
        return small

    def _evaluate(
        self,
        stage: str,
        source: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        plan: Plan | None,
    ) -> None:
        if stage in self.state["stages"]:
            return
        data = self.data
        options: dict[str, Any] = {
            "seed": data.seed,
            "max_length": self.tuning.max_length,
            "device": self.device,
            "progress": self.progress,
        }
        context = {
            "model": source,
            "stage": STAGES[stage],
            "order": self._order(stage),
            **({"plan": plan.summary()} if plan else {}),
        }
        record = evaluate(model, tokenizer, data.task, dataset=self.dev, context=context, **options)
        if "dev_mismatched" in tasks.get_task(data.task).rows:  # MNLI's second dev set
            rows = {"folder": data.glue_dir, "limit": data.dev_limit}
            other = evaluate(model, tokenizer, data.task, split="dev_mismatched", **rows, **options)
            names = ("metrics", "rows_used", "rows_official", "complete", "data_sha256")
            record["dev_mismatched"] = {name: other[name] for name in names}
            record["metrics"] |= {f"{n}_mismatched": v for n, v in other["metrics"].items()}
        self.state["stages"][stage] = record
        self._save_state()

    def _save_state(self) -> None:
        distributed.by_main(lambda: save_sealed(self.state, self.state_path))

    def _order(self, stage: str) -> str:
        steps = ["fine-tune"]
        if stage != "dense":
            steps += ["analyze", "cut"]
        if stage in ("repaired", "finetuned") and self.cut.repair != "none":
            steps.append(f"repair ({self.cut.repair})")
        if stage == "finetuned":
            steps.append("fine-tune")
        return " -> ".join(steps)

    def _finish(
        self, source: str, dense: Classifier, small: Classifier, plan: Plan
    ) -> dict[str, Any]:
        def time() -> dict[str, dict[str, Any]]:
            return time_side_by_side(
                {"dense": dense, "compressed": small},
                tasks.texts(self.dev)[:1000],
                progress=self.progress,
                max_length=self.tuning.max_length,
                device=self.device,
            )

        record = {
            **self.state,
            "task": self.data.task,
            "model": source,
            "parameters": {
                "dense": count_parameters(dense.model)._asdict(),
                "compressed": count_parameters(small.model)._asdict(),
            },
            "plan": plan.summary(),
            "timing": distributed.by_main(time),
        }

        def save() -> None:
            save_classifier(small.model, small.tokenizer, self.out)
            text = card.model_card(record, plan)
            with replacing(self.out / "README.md") as part:
                part.write_text(text, encoding="utf-8")
            save_sealed(record, self.out / "record.json")
            self.tidy()

        distributed.by_main(save)
        return record

    def tidy(self) -> None:
        """Remove what only an interrupted job needs."""
        self.state_path.unlink(missing_ok=True)
        self._remove_stages()

    def _remove_stages(self) -> None:
        for folder in ("repaired", "finetuned"):
            shutil.rmtree(self.out / folder, ignore_errors=True)
