"""What a job is going to do, said before it starts: stages, rows and a rough guess of the time."""

from __future__ import annotations

from typing import Any

from obce import tasks
from obce.base import distributed
from obce.base.devices import pick_device
from obce.base.settings import TIMING_ROUNDS
from obce.jobs.arguments import Analysis, Cut, Tuning
from obce.jobs.judges import Judge, Labelled, LoadedModel
from obce.jobs.progress import say
from obce.running.speed import time_per_1000
from obce.running.tables import duration

SAMPLE = 32  # texts whose forward pass is timed
# The cost of a stage per text, in forward passes. Training: one forward pass, and a backward pass,
# which takes as long as two. Analysis: one, and homology. Repair: both models run, and every layer
# is solved for.
TRAINING, ANALYSIS, REPAIR = 3.0, 1.5, 4.0
TEACHING = 1.0  # a teacher's forward pass, beside the training's

Stage = tuple[str, int, float]
"""Its name, its rows, and the forward passes that each of them takes."""


def say_stages(
    judge: Judge,
    loaded: LoadedModel,
    stages: list[Stage],
    max_length: int | None,
    device: str,
    progress: bool,
) -> None:
    """Print the stages that are still to come, with their rows and a rough guess of the time."""
    if not (progress and distributed.is_main()):
        return
    texts = tasks.texts(judge.sample(SAMPLE))
    found = time_per_1000(
        loaded.model, loaded.tokenizer, texts, max_length=max_length, repeats=1, device=device,
    )  # fmt: skip
    per_row = found["median"] / 1000
    where = f"{pick_device(device).type}, rough guesses from {len(texts)} texts"
    say(f"{judge.title}: what is going to be done ({where}):", progress)
    if judge.task is not None and judge.task.data:
        labels = ", ".join(judge.task.labels) or "scores (a regression)"
        say(f"  labels: {labels:.200}", progress)
    for name, rows, passes in stages:
        say(f"  {name:<28} {rows:>9,} rows  ~{duration(rows * passes * per_row)}", progress)
    total = sum(rows * passes for _, rows, passes in stages) * per_row
    say(f"  {'together':<28} {'':>14}  ~{duration(total)}", progress)


def planned(
    judge: Judge,
    loaded: LoadedModel,
    analysis: Analysis,
    cut: Cut,
    tuning: Tuning,
    again: float,
    timing: bool,
    state: dict[str, Any],
) -> list[Stage]:
    """The stages of a compression job that are not done yet."""
    stages: list[Stage] = []
    done, judged = state["stages"], len(judge.judged)

    def training(name: str, epochs: float, passes: float = TRAINING) -> None:
        assert isinstance(judge, Labelled)  # texts alone train nothing
        stages.append((f"{name}, {epochs:g} epochs", len(judge.train), passes * epochs))

    if not judge.is_ready(loaded) and "tuning" not in state:
        training("fine-tune", tuning.epochs)
    if judge.task is not None and "dense" not in done:
        stages.append(("judge: dense", judged, 1.0))
    if cut.plan_file is None and cut.scores_file is None:
        stages.append(("analyze", len(judge.sample(analysis.texts)), ANALYSIS))
    if "cut" not in done:
        stages.append(("judge: cut", judged, 1.0 if judge.task else 2.0))
    if cut.repair != "none" and "repaired" not in done:
        stages.append(("repair", len(judge.sample(cut.repair_texts)), REPAIR))
        stages.append(("judge: repaired", judged, 1.0 if judge.task else 2.0))
    if again and "tuning_again" not in state:
        training("fine-tune again", again, TRAINING + (TEACHING if tuning.teacher else 0))
        stages.append(("judge: fine-tuned", judged, 1.0))
    if timing:
        stages.append(("time both models", min(1000, judged), 2.0 * TIMING_ROUNDS))
    return stages
