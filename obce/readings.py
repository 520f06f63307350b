"""Readings: what the residual maps of a BERT read over a corpus, and what the loss feels of them.

A unit by itself cannot know its worth: others may say the same, and nobody may listen. A *reading*
is the view of the map that listens: the outputs of all units of one group, token by token (of
value units, what attention has made of them), beside the weights with which the map reads them.

The *metric* says how far apart two things are that a map writes: ``plain`` forgets the weights,
``norm`` takes them as they are, ``loss`` weighs the coordinates of the residual stream by what the
model's predictions feel of them. No labels are used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import BertModel, PreTrainedModel, PreTrainedTokenizerBase

from obce.base import distributed
from obce.base.checks import check_choice
from obce.base.devices import evaluating, on_device
from obce.base.settings import BATCH_SIZE, METRICS, READ_POINTS
from obce.texts import Encoding, Text, batches, encode, length_limit, model_inputs
from obce.units import READS, WEIGHTS, Group, Shape, dense_bert, shape_of

READ_KINDS = tuple(READS.values())  # value, intermediate
FLOOR = 0.1  # of the loss's metric: directions that no prediction feels keep so much weight


@dataclass
class Readings:
    """What :func:`read` gives.

    Attributes:
        shape: the model's ``Shape``.
        points: ``{(layer, kind): float32 (points, units)}``: the outputs that the map reads.
        weights: ``{(layer, kind): float32 (hidden, units)}``: the weights that read them.
        felt: ``{(layer, kind): float64 (hidden, hidden)}``: the metric of the loss, if asked for.
        info: how they were made.
    """

    shape: Shape
    points: dict[Group, np.ndarray]
    weights: dict[Group, np.ndarray]
    felt: dict[Group, np.ndarray] = field(default_factory=dict)
    info: dict = field(default_factory=dict)

    def squared_norms(self, group: Group, metric: str = "norm") -> np.ndarray:
        """``(units,)`` float64: what one unit of output moves what the map writes, squared."""
        check_choice("metric", metric, METRICS)
        weights = self.weights[group].astype(np.float64)
        if metric == "plain":
            return np.ones(weights.shape[1])
        if metric == "norm":
            return np.einsum("hu,hu->u", weights, weights)
        if group not in self.felt:
            raise ValueError("metric 'loss' needs read(..., loss=True)")
        return np.einsum("hu,hk,ku->u", weights, self.felt[group], weights, optimize=True)


def read(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    *,
    points: int = READ_POINTS,
    loss: bool = False,
    max_length: int | None = None,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    device: str = "auto",
    progress: bool = False,
) -> Readings:
    """Run a BERT over texts and keep what its residual maps read at a sample of tokens.

    Args:
        model: a transformers BERT, or a model that holds one (with a task's head, for ``loss``).
        texts: strings, or pairs of strings.
        points: tokens that are kept, drawn from all with ``seed``; all, if there are no more.
        loss: also measure the metric of the loss, by one backward pass per batch.
        max_length: tokens to which texts are cut; 64, if left out.
        device: see :mod:`obce.base.devices`.

    Memory: 4 bytes for each point and unit.

    Raises:
        ValueError: no BERT, no texts, or ``loss`` with a model that has no head.
    """
    bert = dense_bert(model)
    shape = shape_of(bert)
    if points < 2:
        raise ValueError(f"points={points}: a cloud needs at least two")
    if loss and bert is model:
        raise ValueError("the loss's metric needs a model with a task head")
    limit = length_limit(bert, max_length)
    encodings = encode(tokenizer, texts, limit, model=bert)
    batched = batches(encodings, batch_size)
    kept = _sample(encodings, batched, points, seed)
    groups = [group for group in shape.groups() if group[1] in READ_KINDS]
    parts: dict[Group, list[np.ndarray]] = {group: [] for group in groups}
    hidden = (shape.hidden, shape.hidden)
    felt = {group: torch.zeros(hidden, dtype=torch.float64) for group in groups if loss}
    generator = torch.Generator().manual_seed(seed)
    bar = distributed.bar(progress, batched, desc="readings", unit="batch")
    with on_device(model, device), evaluating(model), torch.set_grad_enabled(loss):
        for batch, rows in zip(bar, kept, strict=True):
            inputs = model_inputs(encodings, batch, bert.device)
            with _reading(bert, groups) as seen:
                output: Any = (model if loss else bert)(**inputs)
            for group, (values, _) in seen.items():
                flat = values.detach().float().flatten(0, 1)
                parts[group].append(flat[rows].cpu().numpy())
            if loss:
                written = [seen[group][1] for group in groups]
                slopes = torch.autograd.grad(_own_log_likelihood(output.logits, generator), written)
                for group, slope in zip(groups, slopes, strict=True):
                    flat = slope.float().flatten(0, 1)
                    felt[group] += (flat.T @ flat).double().cpu()
    layers: Any = bert.encoder.layer
    weights = {
        (layer, kind): layers[layer].get_submodule(WEIGHTS[outer]).weight
        for layer in range(shape.layers)
        for outer, kind in READS.items()
    }
    return Readings(
        shape,
        {group: np.concatenate(part) for group, part in parts.items()},
        {group: weight.detach().float().cpu().numpy() for group, weight in weights.items()},
        {group: _with_floor(matrix.numpy()) for group, matrix in felt.items()},
        {"texts": len(encodings), "max_length": limit, "points": sum(map(len, kept)), "seed": seed},
    )


def _sample(
    encodings: list[Encoding], batched: list[list[int]], points: int, seed: int
) -> list[np.ndarray]:
    """For each batch the indexes of the tokens that are kept, among all tokens of the batch."""
    sizes = [sum(len(encodings[text]["input_ids"]) for text in batch) for batch in batched]
    total = sum(sizes)
    if total <= points:
        return [np.arange(size) for size in sizes]
    drawn = np.sort(np.random.default_rng(seed).choice(total, points, replace=False))
    starts = np.cumsum([0, *sizes])
    return [
        drawn[(drawn >= start) & (drawn < stop)] - start
        for start, stop in zip(starts[:-1], starts[1:], strict=True)
    ]


@contextmanager
def _reading(
    bert: BertModel, groups: Sequence[Group]
) -> Iterator[dict[Group, tuple[torch.Tensor, torch.Tensor]]]:
    """Fills ``{group: (what its map read, what the map wrote)}`` while the model runs."""
    seen: dict[Group, tuple[torch.Tensor, torch.Tensor]] = {}
    outer = {kind: place for place, kind in READS.items()}
    handles = []
    try:
        for layer, kind in groups:
            module = bert.encoder.layer[layer].get_submodule(WEIGHTS[outer[kind]])

            def hook(
                module: torch.nn.Module,
                inputs: tuple[torch.Tensor],
                output: torch.Tensor,
                group: Group = (layer, kind),
            ) -> None:
                if torch.is_grad_enabled() and not output.requires_grad:
                    output.requires_grad_()  # of a frozen encoder
                seen[group] = inputs[0], output

            handles.append(module.register_forward_hook(hook))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _own_log_likelihood(logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The log-probability of classes drawn from the model's own predictions, summed; of a
    regression, the predictions."""
    if logits.shape[-1] == 1:
        return logits.sum()
    flat = logits.flatten(0, -2)
    drawn = torch.multinomial(flat.detach().float().softmax(-1).cpu(), 1, generator=generator)
    return flat.log_softmax(-1).gather(1, drawn.to(flat.device)).sum()


def _with_floor(matrix: np.ndarray) -> np.ndarray:
    mean = matrix.diagonal().mean()
    return (matrix / mean if mean > 0 else matrix) + FLOOR * np.eye(len(matrix))
