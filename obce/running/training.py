"""Loading classifiers, and fine-tuning them on a GLUE task with the transformers Trainer."""

from __future__ import annotations

import errno
import hashlib
import math
import os
import shutil
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import BatchSampler, DataLoader
from tqdm import tqdm
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from obce import tasks
from obce.base import distributed
from obce.base.checks import check_positive
from obce.base.devices import evaluating, on_device, pick_device
from obce.base.files import reason, sync, writing_to
from obce.base.settings import (
    BATCH_SIZE,
    EPOCHS,
    HIDDEN_WEIGHT,
    LEARNING_RATE,
    LENGTH,
    TEACHER_WEIGHT,
    TEMPERATURE,
)
from obce.base.signals import noted
from obce.running.evaluation import predict
from obce.running.loading import quiet, save_classifier, set_labels
from obce.running.records import load_sealed, model_sha256, save_sealed
from obce.running.rows import TrainingRows
from obce.running.teaching import Teacher
from obce.texts import length_limit, right_padding

SEAL = "job.json"


@dataclass(frozen=True)
class Training:
    """What a fine-tuning run did: ``steps`` of the whole run, of which ``resumed_from`` were done
    by an earlier call; ``seconds`` of this call; ``loss``, the mean of the last 50 steps (None
    if this call made none); ``metrics`` on ``dev``, if given."""

    steps: int
    resumed_from: int
    seconds: float
    loss: float | None
    metrics: dict[str, float] = field(default_factory=dict)


class _Order(LengthGroupedSampler):
    """Rows of like length together, in an order that follows from seed and epoch alone, so that
    a resumed run meets the rows that an uninterrupted one would have met."""

    def __init__(self, trainer: _Trainer):
        lengths, generator = trainer.train_dataset.lengths, torch.Generator()
        super().__init__(trainer.rows_per_step, lengths=lengths, generator=generator)
        self.trainer = trainer

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(self.trainer.args.seed + int(self.trainer.state.epoch or 0))
        return super().__iter__()


class _Shares(BatchSampler):
    """This process's rows of every batch. Where a last batch has too few rows for all processes,
    it is one row, to which :meth:`_Trainer._weight` gives the weight 0."""

    def __iter__(self) -> Iterator[list[int]]:
        for batch in super().__iter__():
            yield list(distributed.mine(batch)) or batch[:1]


class _Trainer(Trainer):
    """A Trainer with that order, which stops at the first loss that is not finite.

    The Trainer of many processes averages their gradients. Here each step's rows are those of one
    process, shared out: every row of an epoch is seen once, also where a batch does not divide.
    """

    train_dataset: TrainingRows
    losses: deque[float]
    rows_per_step: int
    job: dict[str, Any]

    def get_train_dataloader(self) -> DataLoader:
        sampler = _Shares(_Order(self), self.rows_per_step, drop_last=False)
        return DataLoader(self.train_dataset, batch_sampler=sampler, collate_fn=self.data_collator)

    def _weight(self) -> float:
        """The weight of this process's mean loss: so weighted, the mean over the processes is the
        mean over the rows of the step."""
        total = len(self.train_dataset)
        done = self.state.global_step % math.ceil(total / self.rows_per_step) * self.rows_per_step
        rows = range(min(self.rows_per_step, total - done))
        return len(distributed.mine(rows)) * distributed.size() / len(rows)

    def compute_loss(
        self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **options: Any
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        return self.batch_loss(model, inputs) * self._weight()

    def batch_loss(self, model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        """The mean over this process's rows."""
        return model(**inputs).loss

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        folder = Path(str(self.args.output_dir))
        with distributed.together(), writing_to(folder):
            try:
                super()._save_checkpoint(*args, **kwargs)
            except RuntimeError as error:  # torch's, on a full disk
                raise OSError(errno.EIO, reason(error)) from error
        checkpoint = folder / f"checkpoint-{self.state.global_step}"
        distributed.by_main(lambda: _seal(checkpoint, self.job))

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        mean = loss.double().cpu() / distributed.size()
        distributed.add_up(mean)
        self.losses.append(mean.item())
        if not math.isfinite(self.losses[-1]):
            raise ValueError(
                f"the loss became {self.losses[-1]} at step {self.state.global_step + 1}: "
                "lower the learning rate, or check the model for NaN weights"
            )
        return loss


class _Taught(_Trainer):
    """A Trainer whose loss asks a teacher beside the labels."""

    teacher: Teacher

    def batch_loss(self, model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        with self.accelerator.autocast():  # for the teacher, which accelerate does not know
            return self.teacher.loss(model, inputs)


class _Monitor(TrainerCallback):
    """The progress bar, and a checkpoint every ``seconds`` and at Ctrl-C, which stops.

    Processes read their clocks, and get Ctrl-C, at different moments: what one asks for, all do.
    """

    def __init__(self, losses: deque[float], progress: bool, seconds: float):
        self.losses, self.progress, self.seconds = losses, progress, seconds
        self.bar: tqdm | None = None
        self.interrupts: list[int] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.saved = time.monotonic()
        total, done = state.max_steps, state.global_step
        self.bar = distributed.bar(
            self.progress, total=total, initial=done, desc="fine-tune", unit="step"
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        assert self.bar is not None  # since on_train_begin
        self.bar.set_postfix(loss=f"{np.mean(self.losses):.3f}", refresh=False)
        self.bar.update()
        due = time.monotonic() - self.saved >= self.seconds
        due, stop = distributed.any_of(due, bool(self.interrupts))
        control.should_save = due or stop
        control.should_training_stop |= stop

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.saved = time.monotonic()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


@distributed.joined()
def finetune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: str | tasks.Task,
    *,
    train: Dataset,
    dev: Dataset | None = None,
    output_dir: str | os.PathLike,
    epochs: float = EPOCHS,
    learning_rate: float = LEARNING_RATE,
    batch_size: int = BATCH_SIZE,
    max_length: int | None = None,
    seed: int = 0,
    resume: bool = True,
    device: str = "auto",
    bf16: bool = False,
    teacher: PreTrainedModel | None = None,
    teacher_weight: float = TEACHER_WEIGHT,
    temperature: float = TEMPERATURE,
    hidden_weight: float = HIDDEN_WEIGHT,
    progress: bool = False,
    checkpoint_seconds: float = 120.0,
) -> Training:
    """Fine-tune a classifier in place and save it, with its tokenizer, into ``output_dir``.

    AdamW (weight decay 0.01), a warm-up over the first tenth of the steps, then linear decay;
    batches of like length. ``epochs`` may be a fraction. Texts of more than ``max_length``
    tokens (128 by default, less if the model takes less) are cut. ``bf16`` computes in bfloat16
    under autocast. Every ``checkpoint_seconds``, and at Ctrl-C or SIGTERM, the state goes to
    ``output_dir/checkpoints``: the same call made again after an interruption goes on from there
    and ends where an uninterrupted one would have. A checkpoint that is torn, by a power cut, say,
    is passed over with a line on stderr. The model's files come into ``output_dir`` at the very
    end, and the checkpoints go.

    Of many processes each takes an equal share of every batch, whose ``batch_size`` rows are
    counted over all of them; the gradients are averaged, so that all end with the same weights.
    They draw other dropout than one process does, so the weights are not bit for bit those that
    one process would end with; two runs with as many processes and the same seed are equal.
    ``output_dir`` must be a folder that all of them see; the main process writes the model.

    A ``teacher`` is a model that was fine-tuned for the task, as a rule the dense original of a
    compressed model. ``teacher_weight`` of the loss then comes from its predictions, at a
    ``temperature``, the rest from the labels (:func:`~obce.running.teaching.prediction_loss`);
    ``hidden_weight`` times the squared difference of the layers' outputs is added
    (:func:`~obce.running.teaching.hidden_loss`). The teacher is not changed.

    Raises:
        ValueError: an argument out of range, rows without labels, a model (or a teacher) whose
            labels are not the task's, a teacher of another kind, a loss that is not finite, or
            checkpoints of another job in ``output_dir`` (``resume=False`` discards them).
        OSError: ``output_dir`` cannot be written.
    """
    start = time.perf_counter()
    info = tasks.get_task(task)
    check_positive(epochs=epochs, learning_rate=learning_rate, batch_size=batch_size)
    processes = distributed.size()
    if batch_size % processes:
        raise ValueError(
            f"batch_size={batch_size} rows cannot be shared equally by {processes} processes: "
            f"choose a multiple of {processes}"
        )
    if "label" not in train.column_names:
        raise ValueError(f"the training rows of {info.name} have no labels")
    tasks.check_labels(info, model.config)
    taught = None
    if teacher is not None:
        taught = Teacher(teacher, teacher_weight, temperature, hidden_weight)
        taught.check(model, info)
        length_limit(teacher, max_length, LENGTH)
    max_length = length_limit(model, max_length, LENGTH)
    target, home = pick_device(device), model.device
    rows = TrainingRows(tokenizer, train, max_length, model)
    job = {
        "task": info.name, "epochs": epochs, "learning_rate": learning_rate,
        "batch_size": batch_size, "max_length": max_length, "seed": seed, "bf16": bf16,
        "training data": tasks.data_sha256(train), "starting model": model_sha256(model),
    }  # fmt: skip
    if teacher is not None:
        job |= {
            "teacher": model_sha256(teacher), "teacher weight": teacher_weight,
            "temperature": temperature, "hidden weight": hidden_weight,
        }  # fmt: skip
    output_dir = Path(output_dir)
    checkpoints = output_dir / "checkpoints"
    last = distributed.by_main(lambda: _last_checkpoint(checkpoints, job, resume))
    set_labels(model.config, info)
    losses: deque[float] = deque(maxlen=50)
    monitor = _Monitor(losses, progress, checkpoint_seconds)
    with quiet(), ExitStack() as stack:
        if teacher is not None:
            stack.enter_context(on_device(teacher, device))
            stack.enter_context(evaluating(teacher))
        trainer = (_Taught if taught else _Trainer)(
            model=model,
            args=TrainingArguments(
                output_dir=str(checkpoints),
                num_train_epochs=epochs,
                learning_rate=learning_rate,
                per_device_train_batch_size=batch_size // processes,
                warmup_steps=0.1,  # a fraction of all steps
                weight_decay=0.01,
                seed=seed,
                bf16=bf16,
                use_cpu=target.type == "cpu",
                report_to="none",
                logging_strategy="no",
                save_strategy="no",  # _Monitor asks for checkpoints
                save_total_limit=None,  # _seal removes the older ones
                disable_tqdm=True,
                average_tokens_across_devices=False,  # _Trainer weighs the losses
                ddp_find_unused_parameters=any(p.numel() == 0 for p in model.parameters()),
            ),
            train_dataset=rows,
            data_collator=right_padding(tokenizer),
            callbacks=[monitor],
        )
        trainer.losses, trainer.rows_per_step, trainer.job = losses, batch_size, job
        if isinstance(trainer, _Taught) and taught:
            trainer.teacher = taught
        if distributed.rank():
            torch.manual_seed(seed + distributed.rank())  # other dropout for other rows
        trainer.remove_callback(PrinterCallback)
        try:
            with noted() as monitor.interrupts:
                steps = trainer.train(resume_from_checkpoint=last).global_step
            if any(distributed.any_of(bool(monitor.interrupts))):
                raise KeyboardInterrupt
        except ValueError:
            if distributed.is_main():  # resumed, the same job would come to the same end
                shutil.rmtree(checkpoints)
            raise
        finally:
            monitor.close()
            module: torch.nn.Module = model
            module.to(home).eval()

    def save() -> None:
        save_classifier(model, tokenizer, output_dir, by=checkpoints)
        shutil.rmtree(checkpoints)

    distributed.by_main(save)
    metrics = {}
    if dev is not None:
        logits = predict(
            model, tokenizer, dev, max_length=max_length, device=device, progress=progress
        )
        metrics = tasks.compute_metrics(info, logits, dev["label"])
    resumed_from = int(last.rpartition("-")[2]) if last else 0
    loss = float(np.mean(losses)) if losses else None
    return Training(steps, resumed_from, time.perf_counter() - start, loss, metrics)


def _last_checkpoint(checkpoints: Path, job: dict[str, Any], resume: bool) -> str | None:
    """Make the folder of a job's checkpoints; return its last whole one, if there is any."""
    if checkpoints.exists() and not resume:
        shutil.rmtree(checkpoints)
    checkpoints.mkdir(parents=True, exist_ok=True)
    torn, whole = [], None
    for folder in sorted(checkpoints.glob("checkpoint-*"), key=_step, reverse=True):
        found = _sealed(folder)
        if found is None:
            torn.append(folder)
            continue
        changed = [key for key in {**job, **found} if found.get(key) != job.get(key)]
        if changed:
            raise ValueError(
                f"{checkpoints.parent} holds an unfinished run with another {', '.join(changed)}: "
                "finish it, discard it with resume=False, or choose another folder"
            )
        whole = folder
        break
    if torn:
        start = f"step {_step(whole)}" if whole else "the start"
        names = ", ".join(folder.name for folder in torn)
        distributed.say(f"{names} is torn: fine-tuning goes on from {start}")
        for folder in torn:
            shutil.rmtree(folder)
    return str(whole) if whole else None


def _step(checkpoint: Path) -> int:
    """The step after which a checkpoint was written; -1 for a folder of another name."""
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def _seal(checkpoint: Path, job: dict[str, Any]) -> None:
    """Write down of which job a checkpoint is and what its files hold; then remove older ones.

    Its files are on the disk before it is sealed, and it is sealed before an older one goes: so
    after a power cut a whole one is left.
    """
    files = {path.name: path for path in sorted(checkpoint.iterdir())}
    for path in files.values():
        sync(path)
    seal = {"job": job, "files": {name: _sha256(path) for name, path in files.items()}}
    save_sealed(seal, checkpoint / SEAL)
    for other in checkpoint.parent.glob("checkpoint-*"):
        if other != checkpoint:
            shutil.rmtree(other)


def _sealed(checkpoint: Path) -> dict[str, Any] | None:
    """The job of a checkpoint whose files hold what they held when it was sealed, or None."""
    try:
        seal = load_sealed(checkpoint / SEAL)
        whole = all(_sha256(checkpoint / n) == sha for n, sha in seal["files"].items())
        return dict(seal["job"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
