"""The jobs behind the command line: analyze, finetune, evaluate and compress, each with its record.

A job writes into one folder, can be interrupted, and goes on where it stopped when it is called
again with the same arguments.

Many processes do a job together (:mod:`obce.distributed`). The main one alone reads and writes the
job's records; the folder must be one that all of them see.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from obce import card, distributed, glue, plots
from obce.activations import collect, length_limit
from obce.evaluation import (
    environment,
    evaluate,
    load_record,
    model_name,
    model_sha256,
    pick_device,
    save_record,
    spread,
    time_per_1000,
)
from obce.export import quantize, to_onnx
from obce.pruning import DEFAULT_KINDS, Plan, plan
from obce.scores import DEFAULT_CLOUD, Scores, score
from obce.speed import in_turns
from obce.streaming import check_buckets, stream
from obce.surgery import DEFAULT_RIDGE, compress
from obce.training import Classifier, finetune, load_classifier, save_classifier
from obce.units import KINDS, Key, count_parameters, dense_bert, shape_of


def _named(path: str | None) -> str | None:
    """A local path for a record: its last part, since a record names nobody's disk, and a mark
    of the whole path, so that two paths that end alike are not taken for one another."""
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
        return asdict(self) | {"glue_dir": _named(self.glue_dir)}

    def train(self):
        return glue.load(self.task, "train", self.glue_dir, self.train_limit, self.seed)

    def dev(self):
        return glue.load(self.task, "dev", self.glue_dir, self.dev_limit, self.seed)


@dataclass
class Tuning:
    """Arguments of a fine-tuning run."""

    epochs: float = 3.0
    learning_rate: float = 1e-4
    batch_size: int = 32
    max_length: int | None = None


@dataclass
class Analysis:
    """How units are scored: which score of which cloud, over how many training texts."""

    score: str = "merge_radius"
    cloud: str = DEFAULT_CLOUD
    texts: int = 512
    max_length: int | None = None
    special_tokens: bool = True
    buckets: int | None = None
    """Stream the texts through so many buckets per unit, instead of keeping all outputs."""

    def check(self) -> None:
        """Find contradictions before anything is computed."""
        if self.buckets is None:
            return
        check_buckets(self.buckets)
        if (self.score, self.cloud) != ("merge_radius", "tokens"):
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
    repair: str = "least_squares"
    repair_texts: int = 2048
    ridge: float = DEFAULT_RIDGE

    def check(self) -> None:
        """Find contradictions before anything is computed."""
        targets = ("keep_total", "keep_encoder", "percentile", "level", "plan_file")
        given = [name for name in targets if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"say how much to cut by exactly one of keep-total, keep-encoder, percentile, "
                f"level and plan; {len(given)} are given"
            )
        for name in ("keep_total", "keep_encoder"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name}={value:g}: it must be above 0 and at most 1")
        if self.percentile is not None and not 0 <= self.percentile <= 100:
            raise ValueError(f"percentile={self.percentile:g}: it goes from 0 to 100")
        if not self.ridge >= 0:
            raise ValueError(f"ridge={self.ridge:g}: it must not be negative")

    def check_for(self, model) -> None:
        """Find what this model cannot be cut by, before it is trained: read the plan, or try one.

        The trial's scores are made up: whether so many units can go follows from the model's shape,
        whichever they are.
        """
        if self.plan_file is not None:
            Plan.load(self.plan_file).check(model)
            return
        shape, rng = shape_of(model), np.random.default_rng(0)
        keys = [(layer, kind) for layer in range(shape.layers) for kind in KINDS]
        self.plan(model, {(layer, kind): rng.random(shape.width(kind)) for layer, kind in keys})

    def plan(self, model, scores: Mapping[Key, np.ndarray]) -> Plan:
        names = ("keep_total", "keep_encoder", "percentile", "level")
        names += ("scope", "heads", "multiple_of")
        return plan(
            model, scores, kinds=self.kinds, **{name: getattr(self, name) for name in names}
        )


def analyze(
    name: str, out: Path, data: Data, analysis: Analysis, *, device: str = "auto", progress=True
) -> dict[str, Any]:
    """Score all units of a model over a task's training texts.

    Writes ``scores.safetensors``, ``scores.png`` and ``analysis.json`` into ``out``.

    Returns:
        the record: per kind and layer the quartiles of the score.
    """
    analysis.check()
    _check_out(name, out)
    classifier = load_classifier(name, data.task, data.seed)
    scores, corpus = _scores(classifier, data, analysis, device, progress)
    record = {
        "task": data.task,
        "model": model_name(classifier.model),
        "model_sha256": model_sha256(classifier.model),
        "fine_tuned": classifier.fine_tuned,
        **scores.info,
        "corpus": corpus,
        "quartiles": {
            kind: {
                layer: np.percentile(scores[layer, kind], [0, 25, 50, 75, 100]).round(6).tolist()
                for layer in sorted({layer for layer, _ in scores})
            }
            for kind in KINDS
        },
        "environment": environment(),
    }

    def save() -> None:
        out.mkdir(parents=True, exist_ok=True)
        scores.save(out / "scores.safetensors")
        plots.save(plots.scores_by_layer(scores), out / "scores.png")
        save_record(record, out / "analysis.json")

    distributed.by_main(save)
    return record


def _scores(
    classifier: Classifier, data: Data, analysis: Analysis, device: str, progress: bool
) -> tuple[Scores, dict]:
    model, tokenizer, _ = classifier
    dense_bert(model)
    rows = glue.load(data.task, "train", data.glue_dir, analysis.texts, data.seed)
    model.to(pick_device(device))
    corpus = {
        "task": data.task,
        "split": "train",
        "texts": len(rows),
        "data_sha256": glue.data_sha256(rows),
    }
    options = {
        "max_length": analysis.max_length,
        "special_tokens": analysis.special_tokens,
        "progress": progress,
    }
    texts = glue.texts(rows)
    if analysis.buckets is not None:
        scores = stream(model, tokenizer, texts, buckets=analysis.buckets, **options)
        return scores, corpus | {"tokens": scores.info["tokens"]}
    with collect(model, tokenizer, texts, clouds=(analysis.cloud,), **options) as found:
        scores = score(
            found,
            analysis.score,
            cloud=analysis.cloud,
            model=model,
            labels=rows["label"],
            seed=data.seed,
            device=device,
            progress=progress,
        )
        corpus["tokens"] = int(found.counted.sum())
    return scores, corpus


def finetune_job(
    name: str,
    out: Path,
    data: Data,
    tuning: Tuning,
    *,
    resume: bool = True,
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Any]:
    """Fine-tune a model on a task into ``out``, evaluate it, write ``finetune.json``."""
    _check_out(name, out)
    arguments = {"model": _named(name), **data.as_record(), **asdict(tuning)}
    if done := _record_at(out / "finetune.json"):
        if done["arguments"] == arguments:
            return done
        raise ValueError(f"{out} holds the result of other arguments: choose another folder")
    classifier = load_classifier(name, data.task, data.seed)
    dev, train = data.dev(), data.train()
    model, tokenizer, _ = classifier
    training = finetune(
        model,
        tokenizer,
        data.task,
        train=train,
        output_dir=out,
        seed=data.seed,
        resume=resume,
        device=device,
        progress=progress,
        **asdict(tuning),
    )
    record = evaluate(
        model,
        tokenizer,
        data.task,
        dataset=dev,
        seed=data.seed,
        max_length=tuning.max_length,
        device=device,
        progress=progress,
        context={
            "arguments": arguments,
            "order": "fine-tune",
            "model": model_name(model),
            "training": _training_record(training, train, data.task),
        },
    )
    distributed.by_main(lambda: save_record(record, out / "finetune.json"))
    return record


def _record_at(path: Path) -> dict[str, Any] | None:
    return distributed.by_main(lambda: load_record(path) if path.is_file() else None)


def _check_out(name: str, out: Path) -> None:
    if Path(name).is_dir() and out.resolve() == Path(name).resolve():
        raise ValueError(f"{out} is the model's own folder: choose another one to write to")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: choose a folder to write to")


def _training_record(training, train, task: str) -> dict[str, Any]:
    return {
        **asdict(training),
        "rows_used": len(train),
        "rows_official": glue.get_task(task).rows["train"],
        "data_sha256": glue.data_sha256(train),
    }


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
    job = _Compression(name, out, data, analysis, cut, tuning, again, resume, device, progress)
    return job.run()


@dataclass
class _Compression:
    name: str
    out: Path
    data: Data
    analysis: Analysis
    cut: Cut
    tuning: Tuning
    again: float
    resume: bool
    device: str
    progress: bool

    def run(self) -> dict[str, Any]:
        self.cut.check()
        _check_out(self.name, self.out)
        arguments = {
            "model": _named(self.name),
            "data": self.data.as_record(),
            "analysis": asdict(self.analysis),
            "cut": asdict(self.cut)
            | {"kinds": list(self.cut.kinds), "plan_file": _named(self.cut.plan_file)},
            "tuning": asdict(self.tuning),
            "again": self.again,
        }
        if done := _record_at(self.out / "record.json"):
            if done.get("arguments") == arguments:
                return done
            raise ValueError(
                f"{self.out} holds the result of other arguments: choose another folder"
            )
        self.state_path = self.out / "state.json"
        self.state = {"arguments": arguments, "stages": {}}
        if self.resume and (before := _record_at(self.state_path)):
            if before["arguments"] != arguments:
                raise ValueError(
                    f"{self.out} holds an unfinished job with other arguments: choose another "
                    "folder, or start over with --no-resume"
                )
            self.state = before
        self.dev = self.data.dev()
        self.train = self.data.train()

        dense = self._dense()
        small = self._small(dense)
        if self.again:
            small = self._finetuned(small)
        return self._finish(dense, small)

    def _dense(self) -> Classifier:
        """The dense model, fine-tuned for the task (here, if it was not yet)."""
        classifier = load_classifier(self.name, self.data.task, self.data.seed)
        self._check_for(classifier.model)
        self.source = model_name(classifier.model)
        # Only now is the input known to be good: nothing was written before.
        distributed.by_main(lambda: self.out.mkdir(parents=True, exist_ok=True))
        if not classifier.fine_tuned:
            folder = self.out / "dense"
            if "tuning" not in self.state:
                self.state["tuning"] = self._tune(classifier, folder, self.tuning.epochs)
                self._save_state()
            classifier = load_classifier(folder, self.data.task)
        self._evaluate("dense", classifier.model, classifier.tokenizer, plan=None)
        return classifier

    def _check_for(self, model) -> None:
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
        return _training_record(training, self.train, self.data.task) | {"epochs": epochs}

    def _small(self, dense: Classifier) -> Classifier:
        """Score, plan, cut and repair; or what an interrupted run had got there."""
        repaired = self.out / "repaired"
        if distributed.by_main((repaired / "config.json").is_file):
            self.plan = Plan.load(self.out / "plan.json")
            return load_classifier(repaired, self.data.task)
        model, tokenizer, _ = dense
        self.plan = self._plan(dense)
        bare = compress(model, self.plan)
        self._evaluate("cut", bare, tokenizer, self.plan)
        small = bare
        if self.cut.repair != "none":
            data = self.data
            rows = glue.load(data.task, "train", data.glue_dir, self.cut.repair_texts, data.seed)
            small = compress(
                model,
                self.plan,
                repair=self.cut.repair,
                texts=glue.texts(rows),
                tokenizer=tokenizer,
                max_length=self.analysis.max_length,
                ridge=self.cut.ridge,
                progress=self.progress,
            )
            self.state["repair"] = {
                "repair": self.cut.repair,
                "texts": len(rows),
                "data_sha256": glue.data_sha256(rows),
                "fits": [asdict(fit) for fit in getattr(small, "repair_fits", [])],
            }
            self._evaluate("repaired", small, tokenizer, self.plan)
        small.config.name_or_path = self.out.name

        def save() -> None:
            self.plan.save(self.out / "plan.json")
            if self.again:
                save_classifier(small, tokenizer, repaired)

        distributed.by_main(save)
        self._save_state()
        return Classifier(small, tokenizer, True)

    def _save_state(self) -> None:
        distributed.by_main(lambda: save_record(self.state, self.state_path))

    def _plan(self, dense: Classifier) -> Plan:
        """The plan from a file, or from scores, which are saved with their figure."""
        if self.cut.plan_file is not None:
            found = Plan.load(self.cut.plan_file)
            found.check(dense.model)
            return replace(found, dense=count_parameters(dense.model))
        scores, corpus = _scores(dense, self.data, self.analysis, self.device, self.progress)
        made = self.cut.plan(dense.model, scores)
        made.info["corpus"] = corpus

        def save() -> None:
            scores.save(self.out / "scores.safetensors")
            plots.save(plots.scores_by_layer(scores, made), self.out / "scores.png")

        distributed.by_main(save)
        return made

    def _finetuned(self, small: Classifier) -> Classifier:
        folder = self.out / "finetuned"
        if "tuning_again" not in self.state:
            self.state["tuning_again"] = self._tune(small, folder, self.again)
            self._save_state()
        small = load_classifier(folder, self.data.task)
        self._evaluate("finetuned", small.model, small.tokenizer, self.plan)
        return small

    def _evaluate(self, stage: str, model, tokenizer, plan: Plan | None) -> None:
        if stage in self.state["stages"]:
            return
        data = self.data
        options = {
            "seed": data.seed,
            "max_length": self.tuning.max_length,
            "device": self.device,
            "progress": self.progress,
        }
        context = {
            "model": self.source,
            "stage": card.STAGES[stage],
            "order": self._order(stage),
            **({"plan": plan.summary()} if plan else {}),
        }
        record = evaluate(model, tokenizer, data.task, dataset=self.dev, context=context, **options)
        if "dev_mismatched" in glue.get_task(data.task).rows:  # MNLI's second dev set
            rows = {"folder": data.glue_dir, "limit": data.dev_limit}
            other = evaluate(model, tokenizer, data.task, split="dev_mismatched", **rows, **options)
            names = ("metrics", "rows_used", "rows_official", "complete", "data_sha256")
            record["dev_mismatched"] = {name: other[name] for name in names}
            record["metrics"] |= {f"{n}_mismatched": v for n, v in other["metrics"].items()}
        self.state["stages"][stage] = record
        self._save_state()

    def _order(self, stage: str) -> str:
        steps = ["fine-tune"]
        if stage != "dense":
            steps += ["analyze", "cut"]
        if stage in ("repaired", "finetuned") and self.cut.repair != "none":
            steps.append(f"repair ({self.cut.repair})")
        if stage == "finetuned":
            steps.append("fine-tune")
        return " -> ".join(steps)

    def _finish(self, dense: Classifier, small: Classifier) -> dict[str, Any]:
        def time() -> dict[str, dict[str, Any]]:
            return time_side_by_side(
                {"dense": dense, "compressed": small},
                glue.texts(self.dev)[:1000],
                progress=self.progress,
                max_length=self.tuning.max_length,
                device=self.device,
            )

        record = {
            **self.state,
            "task": self.data.task,
            "model": self.source,
            "parameters": {
                "dense": count_parameters(dense.model)._asdict(),
                "compressed": count_parameters(small.model)._asdict(),
            },
            "plan": self.plan.summary(),
            "timing": distributed.by_main(time),
        }

        def save() -> None:
            save_classifier(small.model, small.tokenizer, self.out)
            text = card.model_card(record, self.plan)
            (self.out / "README.md").write_text(text, encoding="utf-8")
            save_record(record, self.out / "record.json")
            self.state_path.unlink(missing_ok=True)
            for folder in ("repaired", "finetuned"):
                shutil.rmtree(self.out / folder, ignore_errors=True)

        distributed.by_main(save)
        return record


def export_job(name: str, out: Path, *, int8: bool = False, progress=True) -> dict[str, Any]:
    """Write a fine-tuned model as the ONNX file ``out``, and beside it its record, ``out.json``.

    Returns:
        the record: whose weights, as what, bytes of the file, and ``difference``, the largest of
        a logit of the float32 file from PyTorch's.
    """
    if out.suffix != ".onnx":
        raise ValueError(f"{out} does not end in .onnx: name a file to write to")
    bar = tqdm(total=2 + int8, desc="export", unit="step", leave=False, disable=not progress)
    with bar, tempfile.TemporaryDirectory() as folder:
        model = load_classifier(name, task=None).model
        bar.update()
        whole = Path(folder) / out.name if int8 else out
        difference = to_onnx(model, whole)
        bar.update()
        if int8:
            quantize(whole, out)
            bar.update()
        files = [path for path in (out, out.with_name(f"{out.name}.data")) if path.is_file()]
        record = {
            "model": model_name(model),
            "model_sha256": model_sha256(model),
            "weights": "int8" if int8 else "float32",
            "bytes": sum(path.stat().st_size for path in files),
            "difference": difference,
            "environment": environment(),
        }
    save_record(record, out.with_name(f"{out.name}.json"))
    return record


def time_side_by_side(
    classifiers: dict[str, Classifier],
    texts: Sequence,
    *,
    rounds: int = 3,
    progress: bool = False,
    **options,
) -> dict[str, dict[str, Any]]:
    """``time_per_1000`` of several models in turn, so that a busy moment hits all of them.

    Returns:
        per model the median, least and most of ``rounds``, and what else they depend on.
    """
    runs = {
        name: partial(time_per_1000, one.model, one.tokenizer, texts, repeats=1, **options)
        for name, one in classifiers.items()
    }
    return {
        name: {**found[0], **spread([one["median"] for one in found]), "repeats": rounds}
        for name, found in in_turns(runs, rounds, progress).items()
    }
