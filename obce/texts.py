"""Texts: from strings to tokens, and from tokens to batches.

Two ways to batch. The analysis runs texts of *equal* length together, so that no padding token is
ever fed to the model. Evaluation sorts by length and pads, which takes fewer passes.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers import DataCollatorWithPadding, PreTrainedModel, PreTrainedTokenizerBase

from obce.base.settings import ANALYSIS_LENGTH

Text = str | tuple[str, str]
"""A text, or a pair of texts that the model reads together."""

Encoding = dict[str, list[int]]
"""A tokenized text: ``input_ids``, ``token_type_ids`` and ``special_tokens_mask``."""


def length_limit(
    model: PreTrainedModel, max_length: int | None, default: int = ANALYSIS_LENGTH
) -> int:
    """Tokens to which texts are cut: ``max_length``, or ``default`` if the model has as many.

    Raises:
        ValueError: ``max_length`` is more than the model has positions for.
    """
    positions = model.config.max_position_embeddings
    if max_length is None:
        return min(default, positions)
    if not 2 < max_length <= positions:
        raise ValueError(f"max_length={max_length}: this model takes 3 to {positions} tokens")
    return max_length


def check_texts(texts: object) -> None:
    """ValueError for what is no list of texts, though Python could iterate over it.

    >>> check_texts({"sentence": ["Good.", "Bad."], "label": [1, 0]})
    Traceback (most recent call last):
    ValueError: texts must be a list of texts, not a dict: pass one of its columns (sentence, label)
    """
    kind = type(texts).__name__
    if isinstance(texts, (str, bytes)):
        raise ValueError("texts must be a list of texts, not one string")
    if isinstance(texts, (set, frozenset)):
        raise ValueError(f"texts must be a list of texts, not a {kind}, which has no order")
    # A data set or an Arrow table, a data frame, a dict or what a tokenizer gives
    names = getattr(texts, "column_names", None) or getattr(texts, "columns", None)
    names = list(texts) if isinstance(texts, Mapping) else names
    if names is not None:
        shown = ", ".join(map(str, list(names)[:4]))
        raise ValueError(
            f"texts must be a list of texts, not a {kind}: pass one of its columns ({shown})"
        )


def encode(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    max_length: int,
    first: int = 0,
    model: PreTrainedModel | None = None,
) -> list[Encoding]:
    """Tokenize texts or pairs of texts, cut to ``max_length``, without padding.

    A pair that is too long loses tokens of its longer text first.

    Args:
        first: number of the first text, for messages, where these are a part of many.
        model: that the tokens are for; without it they are not checked against its embeddings.

    Returns:
        one dict per text, with ``input_ids``, ``token_type_ids`` and ``special_tokens_mask``.

    Raises:
        ValueError: no texts at all, one that is neither a string nor a pair of strings, or tokens
            that the model has no embedding for.

    Warns:
        UserWarning: the tokenizer does not know most of the words.
    """
    check_texts(texts)
    texts = list(texts)
    if not texts:
        raise ValueError("the corpus is empty: at least two texts are needed")
    for number, text in enumerate(texts, first):
        pair = isinstance(text, (tuple, list)) and len(text) == 2
        if not all(isinstance(part, str) for part in (text if pair else [text])):
            raise ValueError(
                f"text {number} is neither a string nor a pair of strings: {text!r:.60}"
            )
    encoded = tokenizer(
        [text if isinstance(text, str) else tuple(text) for text in texts],
        truncation=True,
        max_length=max_length,
        return_token_type_ids=True,
        return_special_tokens_mask=True,
        return_attention_mask=False,
    )
    names = ("input_ids", "token_type_ids", "special_tokens_mask")
    columns = [encoded[name] for name in names]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    if model is not None:
        _check_embeddings(model, rows)
    _warn_of_unknown(tokenizer, rows)
    return rows


def _check_embeddings(model: PreTrainedModel, rows: Sequence[Encoding]) -> None:
    """ValueError for numbers without an embedding, over which torch would stumble."""
    config, token = model.config, max(max(row["input_ids"], default=0) for row in rows)
    if token >= config.vocab_size:
        raise ValueError(
            f"the tokenizer gives token number {token}, and the model has {config.vocab_size} "
            "embeddings (from 0): it is another model's, or resize_token_embeddings was left out"
        )
    if config.type_vocab_size < 2 and any(1 in row["token_type_ids"] for row in rows):
        raise ValueError("these are pairs of texts, and the model reads single ones only")


def _warn_of_unknown(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Encoding]) -> None:
    unknown = sum(row["input_ids"].count(tokenizer.unk_token_id) for row in rows)
    words = sum(row["special_tokens_mask"].count(0) for row in rows)
    if unknown > words / 2:
        warnings.warn(
            f"{unknown / words:.0%} of the tokens of these texts are {tokenizer.unk_token}: the "
            "tokenizer does not know most of the words. Is it this model's?".replace("%", " %"),
            stacklevel=3,
        )


def batches(encodings: Sequence[Encoding], batch_size: int) -> list[list[int]]:
    """Indexes of texts that run together: equally long, at most ``batch_size`` of them.

    >>> batches([{"input_ids": [1] * n} for n in (3, 5, 3, 3)], batch_size=2)
    [[1], [0, 2], [3]]
    """
    by_length: dict[int, list[int]] = {}
    for index, encoding in enumerate(encodings):
        by_length.setdefault(len(encoding["input_ids"]), []).append(index)
    return [
        group[start : start + batch_size]
        for _, group in sorted(by_length.items(), reverse=True)  # the largest first: fail early
        for start in range(0, len(group), batch_size)
    ]


def model_inputs(
    encodings: Sequence[Encoding], batch: Sequence[int], device: torch.device
) -> dict[str, torch.Tensor]:
    """The tensors of one batch of equally long texts, each (texts, tokens)."""
    return {
        name: torch.tensor([encodings[index][name] for index in batch], device=device)
        for name in ("input_ids", "token_type_ids")
    }


def sorted_batches(encodings: Sequence[Encoding], batch_size: int) -> list[list[int]]:
    """Indexes of texts that run together, longest first: little is spent on padding.

    >>> sorted_batches([{"input_ids": [1] * n} for n in (3, 5, 4)], batch_size=2)
    [[1, 2], [0]]
    """
    order = sorted(
        range(len(encodings)), key=lambda index: len(encodings[index]["input_ids"]), reverse=True
    )
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def right_padding(tokenizer: PreTrainedTokenizerBase) -> DataCollatorWithPadding:
    """Pads batches on the right, whatever the tokenizer does (it is not changed).

    BERT numbers its positions from the left: behind padding, a text would be another one in every
    batch.
    """
    tokenizer = copy.copy(tokenizer)
    tokenizer.padding_side = "right"
    return DataCollatorWithPadding(tokenizer)


def padded(
    tokenizer: PreTrainedTokenizerBase,
    encodings: Sequence[Encoding],
    groups: Sequence[list[int]],
    device: torch.device,
) -> Iterator[tuple[list[int], Any]]:
    """Padded batches on ``device``, each with the indexes of its texts."""
    collate = right_padding(tokenizer)
    names = ("input_ids", "token_type_ids")
    for group in groups:
        rows = [{name: encodings[index][name] for name in names} for index in group]
        batch: Any = collate(rows)  # a BatchEncoding, typed as a plain dict
        yield group, batch.to(device)
