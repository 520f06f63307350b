"""A rival: dropping whole layers, in its strongest form that reads no labels.

Of all ways to keep so many layers, the one whose predictions are nearest to the dense model's.

Source: H. Sajjad, F. Dalvi, N. Durrani, P. Nakov, "On the effect of dropping layers of pre-trained
transformer models" (2020), which compares fixed places (top, bottom, every other).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from math import comb
from typing import Any

import numpy as np
from torch import nn
from transformers import PreTrainedModel

from obce.study import measures
from obce.units import find_bert

MOST = 1000  # subsets that are tried


def with_layers(model: PreTrainedModel, kept: Sequence[int]) -> PreTrainedModel:
    """A model of some of the layers, which shares its weights with the dense one."""
    shared: dict[int, Any] = {id(tensor): tensor for tensor in _tensors(model)}
    small = copy.deepcopy(model, shared)
    encoder: Any = find_bert(small).encoder
    encoder.layer = nn.ModuleList(encoder.layer[index] for index in kept)
    small.config.num_hidden_layers = len(kept)
    return small


def _tensors(model: nn.Module) -> Iterator[Any]:
    return itertools.chain(model.parameters(), model.buffers())


def drop_layers(group: Any, keep: float, rows: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The best model with a share ``keep`` of the layers, to the nearest whole one.

    Args:
        group: the :class:`~obce.study.group.Group`.
        rows: calibration texts, a data set, on which models are compared.

    Returns:
        a model of its own weights, and which layers it has, for a record.
    """
    total = find_bert(group.model).config.num_hidden_layers
    count = max(1, int(keep * total + 0.5))
    if comb(total, count) > MOST:
        raise ValueError(
            f"{comb(total, count):,} ways to keep {count} of {total} layers are too many to try"
        )
    dense = group.predict(group.model, rows)
    found: list[tuple[float, tuple[int, ...]]] = []
    for kept in itertools.combinations(range(total), count):
        small = with_layers(group.model, kept)
        rows_off = measures.divergences(dense, group.predict(small, rows))
        found.append((float(np.mean(rows_off)), kept))
    divergence, kept = min(found)
    info = {"score": "drop_layers", "layers": list(kept), "tried": len(found), "texts": len(rows)}
    small = copy.deepcopy(with_layers(group.model, kept))
    return small, info | {"divergence_on_texts": divergence}
