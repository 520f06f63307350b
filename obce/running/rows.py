"""Rows of a task as tokens: a block at a time, and all of them in little memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from obce import tasks
from obce.texts import Encoding, encode

BLOCK = 16_384  # rows that are tokenized together
COLUMNS = {"input_ids": np.int32, "token_type_ids": np.int8}


def encoded_blocks(
    tokenizer: PreTrainedTokenizerBase, dataset: Dataset, max_length: int, model: PreTrainedModel
) -> Iterator[list[Encoding]]:
    """The rows of a data set as tokens, in order, in lists of at most ``BLOCK`` rows."""
    for start in range(0, len(dataset), BLOCK):
        block = dataset.select(range(start, min(start + BLOCK, len(dataset))))
        yield encode(tokenizer, tasks.texts(block), max_length, start, model=model)


class TrainingRows(torch.utils.data.Dataset):
    """Tokenized rows with their labels, for a Trainer: ``rows[i]`` is a dict of plain lists.

    A token takes 5 bytes here, and 32 or more in lists of Python's numbers.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        dataset: Dataset,
        max_length: int,
        model: PreTrainedModel,
    ):
        """ValueError: no rows, or what :func:`obce.texts.encode` refuses."""
        if not len(dataset):
            raise ValueError("the data set is empty: there are no rows to train on")
        parts: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS}
        self.lengths: list[int] = []
        for block in encoded_blocks(tokenizer, dataset, max_length, model):
            self.lengths += [len(row["input_ids"]) for row in block]
            for name, kind in COLUMNS.items():
                numbers = chain.from_iterable(row[name] for row in block)
                parts[name].append(np.fromiter(numbers, kind))
        self.columns = {name: np.concatenate(parts.pop(name)) for name in COLUMNS}
        self.ends = np.cumsum(self.lengths)
        self.labels = np.array(dataset["label"][:])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        place = slice(self.ends[index] - self.lengths[index], self.ends[index])
        row = {name: values[place].tolist() for name, values in self.columns.items()}
        return row | {"label": self.labels[index].item()}
