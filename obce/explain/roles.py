"""A unit's part in its layer: its share of the persistence, and who reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import BertModel, PreTrainedModel, PreTrainedTokenizerBase

from obce import homology
from obce.activations import collect
from obce.layer_scores import persistence_share
from obce.readings import read
from obce.texts import Text
from obce.units import READS, WEIGHTS, Group

SHARE_POINTS = 2048  # tokens in a layer's cloud
STRONGEST = 6  # weights that a card names
PARTNER = {"query": "key", "key": "query"}


def shares_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    groups: Sequence[Group],
    *,
    max_length: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> dict[Group, np.ndarray]:
    """Each unit's part of the total persistence of its layer's cloud, summing to 1.

    Of value and intermediate units, which a map reads, see
    :func:`obce.layer_scores.persistence_share`. The cloud of the other kinds knows no weights.
    """
    options: dict[str, Any] = {"max_length": max_length, "device": device}
    found = {}
    if any(kind in READS.values() for _, kind in groups):
        readings = read(model, tokenizer, texts, points=SHARE_POINTS, seed=seed, **options)
        found = {group: persistence_share(readings, group) for group in groups
                 if group in readings.points}  # fmt: skip
    for layer, kind in groups:
        if kind not in READS.values():
            watched: Any = {"layers": [layer], "kinds": [kind], "clouds": ["tokens"]}
            with collect(model, tokenizer, texts, **watched, **options) as activations:
                outputs = activations.cloud(layer, kind, "tokens").T  # (tokens, units)
            drawn = np.random.default_rng(seed).permutation(len(outputs))[:SHARE_POINTS]
            found[layer, kind] = homology.persistence_shares(outputs[drawn])
    return {group: found[group] / (found[group].sum() or 1.0) for group in groups}


def readers(bert: BertModel, group: Group, unit: int) -> dict[str, Any]:
    """What reads a unit: the strongest weights on its output.

    A value or intermediate unit is read by one map, which writes to the residual stream; a unit of
    ``attention_output`` or ``output`` *is* a direction of the stream, which the next maps read; a
    query is read by the key of the same number, and a key by its query.

    Args:
        bert: a dense one, from ``obce.units.dense_bert``, which checks it once for all units.

    Returns:
        ``by``: the kind that reads it; ``to``: what its numbers are; ``strongest``: pairs of a
        number and its weight; ``norm``: of all the weights.
    """
    layer, kind = group
    if kind in PARTNER:
        return {"by": PARTNER[kind], "to": "unit of the same head", "strongest": [[unit, 1.0]],
                "norm": 1.0}  # fmt: skip
    layers: Any = bert.encoder.layer
    by = {read: place for place, read in READS.items()}.get(kind)
    to = "direction of the residual stream"
    if by is None:
        following = (layer, "intermediate") if kind == "attention_output" else (layer + 1, "value")
        layer, by = following
        to = f"unit of layer {layer}"
        if layer == len(layers):
            return {"by": "the head", "to": "nothing in the encoder", "strongest": [], "norm": 0.0}
    weights: torch.Tensor = layers[layer].get_submodule(WEIGHTS[by]).weight.detach()[:, unit]
    column = weights.double().cpu().numpy()
    first = np.argsort(-np.abs(column), kind="stable")[:STRONGEST]
    return {
        "by": by, "to": to, "strongest": [[int(i), float(column[i])] for i in first],
        "norm": float(np.linalg.norm(column)),
    }  # fmt: skip
