"""The dense models of a study: each made once, in a folder called by its recipe."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from obce import tasks
from obce.running.loading import Classifier, load_classifier
from obce.running.records import load_record, model_sha256, save_record
from obce.running.training import finetune
from obce.study.config import Recipe, Study
from obce.study.store import locked

FOREVER = -1.0  # seconds to wait for another worker that trains the same model
Say = Callable[[str], None]


def rows_of(task: str, split: str, limit: int | None) -> Any:
    """Rows of a split, all or a fixed sample: the same for every seed of a study."""
    return tasks.load(task, split, limit=limit, seed=0)


def least(*limits: int | None) -> int | None:
    """The smallest of the limits that are given."""
    return min((limit for limit in limits if limit is not None), default=None)


def recipe_record(study: Study, task: str, seed: int, limit: int | None) -> dict[str, Any]:
    """All that a dense model depends on, the model that it starts from as well."""
    recipe = study.recipe(task)
    train_limit = least(recipe.train_limit, limit)
    record = {"task": task, "seed": seed} | asdict(recipe) | {"train_limit": train_limit}
    if Path(recipe.model).is_dir():  # a record names nobody's disk
        record["model"] = f"{Path(recipe.model).name} ({model_sha256(recipe.model)[:8]})"
    if recipe.start is not None:
        record["start"] = recipe_record(study, recipe.start, 0, limit)
        del record["model"]
    return record


def dense_folder(
    study: Study, task: str, seed: int, work: Path, limit: int | None, say: Say, device: str
) -> Path:
    """The folder of a finished dense model, which is trained now if it is missing.

    What holds ``training.json`` is finished; an interrupted training goes on where it stopped.
    """
    recipe = study.recipe(task)
    record = recipe_record(study, task, seed, limit)
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:8]
    folder = work / f"dense-{task}-{seed}-{digest}"
    if (folder / "training.json").is_file():
        return folder
    begin = start_of(study, task, work, limit, say, device)
    with locked(work / f".{folder.name}.lock", FOREVER):
        if (folder / "training.json").is_file():  # another worker has made it meanwhile
            return folder
        say(f"{task} {seed}: fine-tune the dense model")
        start = time.monotonic()
        model, tokenizer, _ = load_start(begin, recipe, task, seed)
        done = tune(
            model, tokenizer, task, folder, recipe, recipe.epochs, seed, limit, device=device
        )
        seconds = round(time.monotonic() - start, 1)
        say(f"{task} {seed}: the dense model took {seconds:.0f} s")
        facts = {"steps": done.steps, "loss": done.loss, "seconds": seconds}
        save_record({"recipe": record, **facts}, folder / "training.json")
    return folder


def start_of(
    study: Study, task: str, work: Path, limit: int | None, say: Say, device: str
) -> str | Path:
    """What a dense model is made from: another task's, which is made now if it is missing."""
    recipe = study.recipe(task)
    if recipe.start is None:
        return recipe.model
    return dense_folder(study, recipe.start, 0, work, limit, say, device)


def load_start(begin: str | Path, recipe: Recipe, task: str, seed: int) -> Classifier:
    """The model that a dense one is made from, with a new head."""
    return load_classifier(begin, task, seed, new_head=recipe.start is not None)


def tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: str,
    folder: Path,
    recipe: Recipe,
    epochs: float,
    seed: int,
    limit: int | None,
    **more: Any,
) -> Any:
    """Fine-tune by a recipe, but for so many epochs."""
    return finetune(
        model,
        tokenizer,
        task,
        train=rows_of(task, "train", least(recipe.train_limit, limit)),
        output_dir=folder,
        epochs=epochs,
        learning_rate=recipe.learning_rate,
        batch_size=recipe.batch_size,
        max_length=recipe.max_length,
        bf16=recipe.bf16,
        seed=seed,
        **more,
    )


def training_facts(folder: Path) -> dict[str, Any]:
    """What ``training.json`` says, without the recipe."""
    return {k: v for k, v in load_record(folder / "training.json").items() if k != "recipe"}
