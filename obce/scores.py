"""Scores: one number per unit, higher = more worth keeping.

Cloud scores read the point clouds of :mod:`obce.activations`; the other scores read the weights,
the gradients or a random number generator. All are asked for through :func:`score`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from transformers import BertModel, PreTrainedModel, PreTrainedTokenizerBase

from obce import homology
from obce.activations import Activations, hooked
from obce.base import distributed
from obce.base.checks import check_choice
from obce.base.devices import evaluating, pick_device
from obce.base.files import replacing
from obce.base.settings import CLOUD_SCORES, CLOUDS, DEFAULT_CLOUD, DEFAULT_SCORE, SCORES
from obce.texts import Text, batches, encode, length_limit, model_inputs
from obce.units import KINDS, WEIGHTS, Group, Shape, dense_bert, shape_of


def std(clouds: np.ndarray) -> np.ndarray:
    """Standard deviation: the root mean squared distance of a cloud's points to their mean."""
    return rms(clouds - clouds.mean(axis=1, keepdims=True))


def rms(clouds: np.ndarray) -> np.ndarray:
    """Root mean squared distance of a cloud's points to the origin."""
    flat = clouds.reshape(len(clouds), -1).astype(np.float64)
    return np.sqrt(np.einsum("ui,ui->u", flat, flat) / clouds.shape[1])


def total_persistence(clouds: np.ndarray, device: str | torch.device = "cpu") -> np.ndarray:
    """Sum of the finite H0 deaths: the length of the minimum spanning tree.

    Source: D. Cohen-Steiner et al., "Lipschitz functions have L_p-stable persistence", 2010.
    """
    return homology.batched_deaths(clouds, device).sum(axis=1)


def persistent_entropy(clouds: np.ndarray, device: str | torch.device = "cpu") -> np.ndarray:
    """Shannon entropy (nats) of the finite H0 deaths as shares of their sum; 0 if all are 0.

    Source: M. Rucco et al., "Characterisation of the idiotypic immune network through
    persistent entropy", 2016.
    """
    deaths = homology.batched_deaths(clouds, device)
    total = deaths.sum(axis=1, keepdims=True)
    share = np.divide(deaths, total, out=np.zeros_like(deaths), where=total > 0)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    return -(share * logs).sum(axis=1)


CLOUD_FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "merge_radius": homology.merge_radius,
    "total_persistence": total_persistence,
    "persistent_entropy": persistent_entropy,
    "std": std,
    "rms": rms,
}
# std and rms pass over a cloud once: copying it to a GPU would cost more.
ON_DEVICE = ("merge_radius", "total_persistence", "persistent_entropy")


def random(shape: Shape, seed: int = 0) -> dict[Group, np.ndarray]:
    """Uniform random numbers for all units: the baseline that every score has to beat.

    >>> sorted(random(Shape(layers=1, hidden=4, heads=2, intermediate=8)))[0]
    (0, 'attention_output')
    """
    generator = np.random.default_rng(seed)
    return {group: generator.random(shape.width(group[1])) for group in shape.groups()}


def magnitude(model: PreTrainedModel) -> dict[Group, np.ndarray]:
    """Euclidean norm of a unit's incoming weights.

    Source: S. Han et al., "Learning both weights and connections", 2015, by rows.
    """
    bert = dense_bert(model)
    norms = {}
    for layer, kind in shape_of(bert).groups():
        weight = bert.encoder.layer[layer].get_submodule(WEIGHTS[kind]).weight.detach()
        norms[layer, kind] = weight.float().norm(dim=1).cpu().numpy()
    return norms


def taylor(
    model: PreTrainedModel,
    encodings: Sequence[dict],
    labels: Sequence[float],
    groups: Sequence[Group],
    batch_size: int = 16,
) -> dict[Group, np.ndarray]:
    """First-order estimate of what a unit's removal does to the loss.

    The mean over texts of ``|sum over tokens of output x gradient|``. The only score that needs
    labels, one per text, and a model with a task head.

    Args:
        model: with a task head whose loss takes one label per text.
        encodings: tokenized texts, from :func:`obce.texts.encode`.
        labels: a class or a number for each.
        groups: the groups of units to score.

    Source: P. Molchanov et al., "Pruning convolutional neural networks for resource efficient
    inference", ICLR 2017.
    """
    bert = dense_bert(model)
    labels = _checked_labels(model, bert, labels, len(encodings))
    shape, batched = shape_of(bert), batches(encodings, batch_size)
    widths = [shape.width(kind) for _, kind in groups]
    units, processes = sum(widths), distributed.size()
    shares = [distributed.share(units, process, processes) for process in range(processes)]
    own = shares[distributed.rank()]
    total = torch.zeros(own.stop - own.start, dtype=torch.float64)
    outputs: dict[Group, torch.Tensor] = {}

    def receive(group: Group, output: torch.Tensor) -> None:
        # Outputs of a frozen encoder have no gradient unless they are told to.
        outputs[group] = output if output.requires_grad else output.requires_grad_()

    with evaluating(model), torch.enable_grad(), hooked(bert, groups, receive):
        # One batch per process at a time; then each adds up its share of the units, in the order
        # of the batches, so that the sums do not depend on the number of processes.
        for one_round in distributed.rounds(batched):
            block = torch.zeros(0, units)
            for batch in distributed.mine(one_round):
                sums = _taylor_of_batch(model, bert, encodings, batch, labels, outputs)
                block = torch.cat([sums[group].float().cpu() for group in groups])[None]
            rows = [len(one_round[process : process + 1]) for process in range(processes)]
            for row in distributed.transpose(block, rows):
                total += row.double()
    everything = distributed.gather(total, [part.stop - part.start for part in shares])
    parts = (everything / len(encodings)).split(widths)
    return {group: part.numpy() for group, part in zip(groups, parts, strict=True)}


def _checked_labels(
    model: PreTrainedModel, bert: BertModel, labels: Sequence[float], texts: int
) -> torch.Tensor:
    if bert is model:
        raise ValueError("taylor needs a model with a task head, which a plain BertModel lacks")
    if len(labels) != texts:
        raise ValueError(f"taylor needs a label per text: {len(labels)} for {texts}")
    classes = model.config.num_labels
    tensor = torch.tensor(labels, dtype=torch.float if classes == 1 else torch.long)
    if classes > 1 and not 0 <= tensor.min() <= tensor.max() < classes:
        raise ValueError(f"taylor: a label is not one of 0 to {classes - 1}")
    return tensor


def _taylor_of_batch(
    model: PreTrainedModel,
    bert: BertModel,
    encodings: Sequence[dict],
    batch: list[int],
    labels: torch.Tensor,
    outputs: dict[Group, torch.Tensor],
) -> dict[Group, torch.Tensor]:
    """Per group ``(units,)``, summed over a batch's texts; hooks fill ``outputs``."""
    inputs = model_inputs(encodings, batch, bert.device)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    labels = labels[batch].to(bert.device)
    # numbers, not classes, in the model's own type: no other has a gradient everywhere
    labels = labels.to(model.dtype) if labels.is_floating_point() else labels
    loss = model(**inputs, labels=labels).loss
    groups = list(outputs)
    # The loss is a mean over the batch; undone, so that batches do not matter.
    grads = torch.autograd.grad(loss * len(batch), [outputs[group] for group in groups])
    sums = {}
    for group, grad in zip(groups, grads, strict=True):
        sums[group] = (outputs[group].detach() * grad).sum(dim=1).abs().sum(dim=0)
    outputs.clear()
    return sums


class Scores(dict):
    """``{(layer, kind): float32 array (units,)}``, with ``info`` on how they were made."""

    def __init__(self, values: dict[Group, np.ndarray], info: dict | None = None):
        super().__init__(values)
        self.info = dict(info or {})

    def save(self, path: str | os.PathLike) -> None:
        """Write to one safetensors file, ``info`` in its header."""
        tensors = {
            f"{layer:02d}.{kind}": np.ascontiguousarray(value)  # safetensors ignores strides
            for (layer, kind), value in self.items()
        }
        with replacing(path) as part:
            save_file(tensors, part, metadata={"obce_scores": json.dumps(self.info)})

    @classmethod
    def load(cls, path: str | os.PathLike) -> Scores:
        """Read what ``save`` wrote.

        Raises:
            ValueError: no such file, or not a file of scores.
        """
        if not Path(path).is_file():
            raise ValueError(f"no scores file at {path}")
        try:
            with safe_open(path, "numpy") as file:
                info = dict(json.loads(file.metadata()["obce_scores"]))
                values = {name: file.get_tensor(name) for name in file.keys()}
            pairs = {name: name.split(".") for name in values}
            groups = {
                n: (int(layer), KINDS[KINDS.index(kind)]) for n, (layer, kind) in pairs.items()
            }
        except (SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f"{path} is not a file of obce scores") from error
        return cls({groups[name]: value for name, value in values.items()}, info)


def score(
    activations: Activations | None,
    name: str = DEFAULT_SCORE,
    *,
    cloud: str = DEFAULT_CLOUD,
    length: int = 0,
    model: PreTrainedModel | None = None,
    labels: Sequence[float] | None = None,
    texts: Sequence[Text] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_length: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool = False,
) -> Scores:
    """Score all units.

    Args:
        activations: from :func:`obce.collect <obce.activations.collect>`. ``random`` and
            ``magnitude`` need none (give ``None``), and ``taylor`` none if it has ``texts``.
        name: ``merge_radius``, ``total_persistence``, ``persistent_entropy``, ``std``, ``rms``
            (which read ``cloud``), ``random`` (``model``, ``seed``), ``magnitude`` (``model``) or
            ``taylor`` (``model`` and ``labels``).
        cloud: ``mean``, ``texts``, ``tokens`` or ``cls``.
        length: tokens per text in the ``texts`` cloud; all, if 0.
        texts, tokenizer, max_length: for ``taylor`` without activations, as for ``collect``.
        device: where homology is computed: ``auto`` (a GPU, if there is one), ``cpu`` or ``cuda``.

    Returns:
        ``Scores``: ``{(layer, kind): float32 array (units,)}``.

    Raises:
        ValueError: an unknown name or cloud, or something missing that the score needs.
    """
    check_choice("score", name, SCORES)
    check_choice("cloud", cloud, CLOUDS)
    target = pick_device(device)
    shape, groups = _shape_and_groups(activations, name, model)
    info: dict[str, Any] = {"score": name}
    if name == "taylor":
        if labels is None:
            raise ValueError("score 'taylor' needs labels=, one per text")
        if activations is not None:
            encodings, limit = activations.encodings, activations.max_length
        elif texts is None or tokenizer is None:
            raise ValueError("score 'taylor' needs activations, or texts= and tokenizer=")
        else:
            limit = length_limit(dense_bert(model), max_length)
            encodings = encode(tokenizer, texts, limit, model=dense_bert(model))
        info |= {"texts": len(encodings), "max_length": limit}
        values = taylor(model, encodings, labels, groups)
    elif name == "magnitude":
        values = magnitude(model)
    elif name == "random":
        values, info["seed"] = random(shape, seed), seed
    else:
        info |= {"texts": len(activations), "max_length": activations.max_length}
        info |= {"cloud": cloud, "special_tokens": activations.special_tokens}
        if cloud == "texts":
            info["length"] = length or activations.max_length
        function = CLOUD_FUNCTIONS[name]
        if name in ON_DEVICE:
            function = partial(function, device=target)
        values = _of_clouds(activations, function, name, cloud, length, progress)
    return Scores({group: values[group].astype(np.float32) for group in groups}, info)


def _shape_and_groups(
    activations: Activations | None, name: str, model: PreTrainedModel | None
) -> tuple[Shape, list[Group]]:
    """What is scored: all that was collected, or all units of the model."""
    if name in CLOUD_SCORES and activations is None:
        raise ValueError(f"score {name!r} reads clouds: it needs activations")
    if name in ("magnitude", "taylor") and model is None:
        raise ValueError(f"score {name!r} needs model=")
    if activations is None:
        if model is None:
            raise ValueError(f"score {name!r} needs model=, or activations")
        shape = shape_of(model)
        return shape, shape.groups()
    if model is not None and shape_of(model) != activations.shape:
        raise ValueError(f"the model has {shape_of(model)}; collected: {activations.shape}")
    return activations.shape, activations.groups


def _of_clouds(
    activations: Activations, function: Callable, name: str, cloud: str, length: int, progress: bool
) -> dict[Group, np.ndarray]:
    """A cloud score of all units, chunk by chunk.

    Of many processes, each scores the units that it holds; then all tell all."""
    groups = activations.groups
    chunks = [(group, part) for group in groups for part in activations.chunks(*group, cloud)]
    parts: dict[Group, list[np.ndarray]] = {group: [np.zeros(0)] for group in groups}
    total = sum(part.stop - part.start for _, part in chunks)
    with distributed.bar(progress, total=total, desc=name, unit="unit", unit_scale=True) as bar:
        for group, part in chunks:
            parts[group].append(function(activations.cloud(*group, cloud, part, length)))
            bar.update(part.stop - part.start)
    own = {group: np.concatenate(part) for group, part in parts.items()}
    return activations.of_all_processes(own)
