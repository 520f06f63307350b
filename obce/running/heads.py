"""What stands on a BERT: a task's head, or the pooling of a sentence encoder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Every head that BERT has in transformers, and the class that reads it. "" is none.
HEADS = {
    "": "AutoModel",
    "sequence classification": "AutoModelForSequenceClassification",  # or a regression
    "multiple labels": "AutoModelForSequenceClassification",
    "token classification": "AutoModelForTokenClassification",
    "question answering": "AutoModelForQuestionAnswering",
    "multiple choice": "AutoModelForMultipleChoice",
    "pre-training": "AutoModelForPreTraining",
    "masked words": "AutoModelForMaskedLM",
    "next sentence": "AutoModelForNextSentencePrediction",
}

_BERT = ("embeddings.", "encoder.", "pooler.")
_TENSORS = ("classifier.", "qa_outputs.", "cls.predictions.", "cls.seq_relationship.")


@dataclass(frozen=True)
class SentenceEncoder:
    """How a sentence-transformers folder makes one vector of a text's tokens.

    ``pooling``: ``mean``, ``cls``, ``max`` or ``mean_sqrt_len_tokens``; several are joined.
    ``normalize``: the vectors get length 1. ``max_length``: tokens to which texts are cut, None
    where the folder does not say. ``lower``: texts are put in lower case first. ``path``: where
    in the folder the BERT lies, "" or, for example, ``0_Transformer``. ``files``: the folder's
    own settings, path -> text, as they were.
    """

    pooling: tuple[str, ...]
    normalize: bool
    max_length: int | None
    lower: bool
    path: str
    files: dict[str, str]


class Loaded(NamedTuple):
    """A BERT with its tokenizer, the name of its head (see ``HEADS``) and, if it came from a
    sentence-transformers folder, how its vectors are made."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    head: str
    encoder: SentenceEncoder | None


def head_of(tensors: Iterable[str], architectures: Iterable[str] = ()) -> str:
    """The head that weights hold, by the names of their tensors.

    Some tensors fit several heads: a multiple-choice model has those of a regression, and a token
    classifier may have kept a pooler that it does not use. There the class that ``config.json``
    states decides, if it is one of these heads.

    Raises:
        ValueError: there are tensors of a head that transformers' BERT does not have.

    >>> head_of(["bert.pooler.dense.weight", "classifier.weight"])
    'sequence classification'
    >>> head_of(["classifier.weight"], ["BertForSequenceClassification"])  # it would need a pooler
    'token classification'
    """
    names = {name.removeprefix("bert.") for name in tensors}
    fitting = _fitting(names)
    classes = {name.removeprefix("Obce") for name in architectures}
    stated = [head for head in fitting if HEADS[head].replace("AutoModel", "Bert") in classes]
    if stated:
        return stated[0]
    unknown = sorted(name for name in names if not name.startswith((*_BERT, *_TENSORS)))
    if unknown:
        raise ValueError(
            f"they hold {len(unknown)} tensors of a head that transformers' BERT does not have: "
            f"see {unknown[0]}"
        )
    return fitting[0]


def _fitting(names: set[str]) -> list[str]:
    """The heads that tensors are enough for, the likeliest first."""
    pooled = "pooler.dense.weight" in names
    words = any(name.startswith("cls.predictions.") for name in names)
    following = "cls.seq_relationship.weight" in names and pooled
    found = []
    if "classifier.weight" in names:
        found += ["sequence classification", "multiple choice"] if pooled else []
        found += ["token classification"]
    if "qa_outputs.weight" in names:
        found += ["question answering"]
    if words:
        found += ["pre-training"] if following else []
        found += ["masked words"]
    if following:
        found += ["next sentence"]
    return found or [""]
