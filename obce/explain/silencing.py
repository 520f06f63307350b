"""What happens to a model when units fall silent: to its predictions, all of them and one by one.

A silent unit puts out its median for every token, which is an output that did occur. (The mean may
be one that never did: a unit that fires hugely on [CLS] alone has a mean that is wrong for all.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import BertForSequenceClassification, PreTrainedModel

from obce.activations import hooked
from obce.base.devices import inference
from obce.base.settings import BATCH_SIZE
from obce.texts import Encoding, batches, model_inputs
from obce.units import Group, find_bert


@dataclass
class Silence:
    """How a model without some units differs from the same model with them, over texts.

    Attributes:
        units: which fell silent.
        divergence: ``(texts,)``: the Kullback-Leibler divergence of the predictions (nats); for a
            regression the squared difference over the variance of the untouched predictions; of a
            model without a head, 1 - the cosine of the mean of the last hidden states.
        prediction: ``(texts,)``: the class, or the number; of a model without a head, 0.
    """

    units: tuple[int, ...]
    divergence: np.ndarray
    prediction: np.ndarray


def predictor(model: PreTrainedModel) -> PreTrainedModel:
    """What is watched: a classifier or regressor of texts as it is, of all others the BERT."""
    several = model.config.problem_type == "multi_label_classification"
    one = isinstance(model, BertForSequenceClassification) and not several
    return model if one else find_bert(model)


def silence(
    model: PreTrainedModel,
    encodings: Sequence[Encoding],
    group: Group,
    sets: Sequence[Sequence[int]],
    medians: np.ndarray,
    device: str = "auto",
) -> list[Silence]:
    """Run a model over texts once as it is, and once without each of some sets of units.

    Args:
        encodings: tokenized texts, from :func:`obce.texts.encode`.
        group: (layer, kind) of all the units.
        sets: the units that fall silent together.
        medians: ``(units,)``: what they put out then.

    Returns:
        for the untouched model (no units, no divergence) and then for each set.
    """
    model, bert = predictor(model), find_bert(model)
    runs: list[Sequence[int]] = [(), *sets]
    fill = torch.from_numpy(medians)
    quiet: torch.Tensor = torch.zeros(0, dtype=torch.long)
    outputs: list[list[torch.Tensor]] = [[] for _ in runs]
    batched = batches(encodings, BATCH_SIZE)

    def receive(_: Group, output: torch.Tensor) -> None:
        output[..., quiet] = fill[quiet].to(output)  # in place: the next map reads it

    with inference(model, device) as target, hooked(bert, [group], receive):
        for batch in batched:
            inputs = model_inputs(encodings, batch, target)
            for run, units in zip(outputs, runs, strict=True):
                quiet = torch.as_tensor(list(units), dtype=torch.long)
                run.append(_output(model, bert, inputs).double().cpu())
    order = np.argsort([text for batch in batched for text in batch])
    dense, *others = (torch.cat(run)[order] for run in outputs)
    compare = _compare_vectors if bert is model else compare_predictions
    return [
        Silence(tuple(map(int, units)), *compare(dense, each))
        for units, each in zip(runs, [dense, *others], strict=True)
    ]


def _output(model: nn.Module, bert: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """(texts, logits); without a head the mean of the last hidden states, (texts, hidden)."""
    output: Any = model(**inputs)
    return output.last_hidden_state.mean(dim=1) if bert is model else output.logits


def _compare_vectors(dense: torch.Tensor, other: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    cosine = nn.functional.cosine_similarity(dense, other)
    return (1 - cosine).clamp(min=0).numpy(), np.zeros(len(dense))


def compare_predictions(dense: torch.Tensor, other: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Divergence and prediction of each text, as in :class:`Silence`, of float64 (texts, logits).

    >>> dense, other = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> divergence, prediction = compare_predictions(dense.double(), other.double())
    >>> divergence.round(3).tolist(), prediction.tolist()
    ([0.12], [1])
    """
    if dense.shape[1] == 1:
        variance = dense.var(unbiased=False).clamp(min=1e-12)
        return ((other - dense)[:, 0] ** 2 / variance).numpy(), other[:, 0].numpy()
    old, new = dense.log_softmax(-1), other.log_softmax(-1)
    divergence = (old.exp() * (old - new)).sum(-1).clamp(min=0)
    return divergence.numpy(), other.argmax(-1).numpy()


def matched(spread: np.ndarray, units: Sequence[int], number: int) -> list[tuple[int, ...]]:
    """Other units whose standard deviations are nearest to those of some units.

    Args:
        spread: ``(units,)``: the standard deviation of every unit of the group.
        units: the units to match.
        number: how many sets are wanted.

    Returns:
        sets as large as ``units``, no unit in two of them; fewer, where units run out.

    >>> matched(np.array([1.0, 5.0, 1.1, 0.8, 5.5]), [0], 2)
    [(2,), (3,)]
    """
    free = [unit for unit in range(len(spread)) if unit not in set(units)]
    found = []
    for _ in range(min(number, len(free) // max(len(units), 1))):
        chosen = []
        for unit in units:
            nearest = min(free, key=lambda other: abs(spread[other] - spread[unit]))
            free.remove(nearest)
            chosen.append(nearest)
        found.append(tuple(chosen))
    return found
