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

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tqdm.auto import tqdm

from obce import distributed, homology
from obce.activations import (
    CLOUDS,
    Activations,
    batches,
    evaluating,
    hooked,
    model_inputs,
)
from obce.files import replacing
from obce.units import KINDS, PATHS, Key, dense_bert, shape_of

DEFAULT_CLOUD = "mean"


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


CLOUD_SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "merge_radius": homology.merge_radius,
    "total_persistence": total_persistence,
    "persistent_entropy": persistent_entropy,
    "std": std,
    "rms": rms,
}
ON_DEVICE = ("merge_radius", "total_persistence", "persistent_entropy")  # others read once, and add


def random(activations: Activations, seed: int) -> dict[Key, np.ndarray]:
    """Uniform random numbers: the baseline that every score has to beat."""
    generator = np.random.default_rng(seed)
    return {key: generator.random(activations.shape.width(key[1])) for key in activations.keys}


def magnitude(activations: Activations, model) -> dict[Key, np.ndarray]:
    """Euclidean norm of a unit's incoming weights.

    Source: S. Han et al., "Learning both weights and connections", 2015, by rows.
    """
    layers = dense_bert(model).encoder.layer
    result = {}
    for layer, kind in activations.keys:
        path = "intermediate.dense" if kind == "intermediate" else PATHS[kind]
        weight = layers[layer].get_submodule(path).weight.detach()
        result[layer, kind] = weight.float().norm(dim=1).cpu().numpy()
    return result


def taylor(
    activations: Activations, model, labels: Sequence[float], batch_size: int = 16
) -> dict[Key, np.ndarray]:
    """First-order estimate of what a unit's removal does to the loss.

    The mean over texts of ``|sum over tokens of output x gradient|``. The only score that needs
    labels, one per text, and a model with a task head.

    Source: P. Molchanov et al., "Pruning convolutional neural networks for resource efficient
    inference", ICLR 2017.
    """
    if len(labels) != len(activations):
        raise ValueError(f"taylor needs a label per text: {len(labels)} for {len(activations)}")
    bert, encodings = dense_bert(model), activations.encodings
    if bert is model:
        raise ValueError("taylor needs a model with a task head, which a plain BertModel lacks")
    regression = model.config.num_labels == 1
    labels = torch.tensor(labels, dtype=torch.float if regression else torch.long)
    if not regression and not 0 <= labels.min() <= labels.max() < model.config.num_labels:
        raise ValueError(f"taylor: a label is not one of 0 to {model.config.num_labels - 1}")
    widths = [activations.shape.width(kind) for _, kind in activations.keys]
    groups = batches(encodings, batch_size)
    units, processes = sum(widths), distributed.size()
    shares = [distributed.share(units, process, processes) for process in range(processes)]
    own = shares[distributed.rank()]
    total = torch.zeros(own.stop - own.start, dtype=torch.float64)
    outputs: dict[Key, torch.Tensor] = {}

    def receive(key: Key, output: torch.Tensor) -> None:
        # The outputs of a frozen encoder have gradients too.
        outputs[key] = output if output.requires_grad else output.requires_grad_()

    with (
        evaluating(model),
        torch.enable_grad(),
        hooked(bert, activations.keys, receive),
    ):
        # One batch per process at a time; then each adds up its share of the units, in the order
        # of the batches, so that the sums do not depend on the number of processes.
        for one_round in distributed.rounds(groups):
            found = torch.zeros(0, units)
            for batch in distributed.mine(one_round):
                found = _taylor_of_batch(model, bert, encodings, batch, labels, outputs)
                found = torch.cat([found[key].float().cpu() for key in activations.keys])[None]
            rows = [len(one_round[process : process + 1]) for process in range(processes)]
            for row in distributed.transpose(found, rows):
                total += row.double()
    everything = distributed.gather(total, [part.stop - part.start for part in shares])
    parts = (everything / len(activations)).split(widths)
    return {key: part.numpy() for key, part in zip(activations.keys, parts, strict=True)}


def _taylor_of_batch(
    model, bert, encodings, batch, labels, outputs: dict[Key, torch.Tensor]
) -> dict[Key, torch.Tensor]:
    """Per key ``(units,)``, summed over a batch's texts; hooks fill ``outputs``."""
    inputs = model_inputs(encodings, batch, bert.device)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    labels = labels[batch].to(bert.device)
    # numbers, not classes, in the model's own type: no other has a gradient everywhere
    labels = labels.to(model.dtype) if labels.is_floating_point() else labels
    loss = model(**inputs, labels=labels).loss
    keys = list(outputs)
    # The loss is a mean over the batch; undone, so that batches do not matter.
    grads = torch.autograd.grad(loss * len(batch), [outputs[key] for key in keys])
    sums = {}
    for key, grad in zip(keys, grads, strict=True):
        sums[key] = (outputs[key].detach() * grad).sum(dim=1).abs().sum(dim=0)
    outputs.clear()
    return sums


SCORES = (*CLOUD_SCORES, "random", "magnitude", "taylor")


class Scores(dict):
    """``{(layer, kind): float32 array (units,)}``, with ``info`` on how they were made."""

    def __init__(self, values: dict[Key, np.ndarray], info: dict | None = None):
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
            keys = {n: (int(layer), KINDS[KINDS.index(kind)]) for n, (layer, kind) in pairs.items()}
        except (SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f"{path} is not a file of obce scores") from error
        return cls({keys[name]: value for name, value in values.items()}, info)


def score(
    activations: Activations,
    name: str = "merge_radius",
    *,
    cloud: str = DEFAULT_CLOUD,
    length: int = 0,
    model=None,
    labels: Sequence[float] | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool = False,
) -> Scores:
    """Score all collected units.

    Args:
        activations: from :func:`obce.collect <obce.activations.collect>`.
        name: ``merge_radius``, ``total_persistence``, ``persistent_entropy``, ``std``, ``rms``
            (which read ``cloud``), ``random`` (``seed``), ``magnitude`` (``model``) or
            ``taylor`` (``model`` and ``labels``).
        cloud: ``mean``, ``texts``, ``tokens`` or ``cls``.
        length: tokens per text in the ``texts`` cloud; all, if 0.
        device: where homology is computed: ``auto`` (a GPU, if there is one), ``cpu`` or ``cuda``.

    Returns:
        ``Scores``: ``{(layer, kind): float32 array (units,)}``.

    Raises:
        ValueError: an unknown name or cloud, or something missing that the score needs.
    """
    if name not in SCORES:
        raise ValueError(f"unknown score {name!r}; there are {', '.join(SCORES)}")
    if cloud not in CLOUDS:
        raise ValueError(f"unknown cloud {cloud!r}; there are {', '.join(CLOUDS)}")
    target = distributed.pick_device(device)
    if name in ("magnitude", "taylor"):
        if model is None:
            raise ValueError(f"score {name!r} needs model=")
        if shape_of(model) != activations.shape:
            raise ValueError(f"the model has {shape_of(model)}; collected: {activations.shape}")
    if name == "taylor" and labels is None:
        raise ValueError("score 'taylor' needs labels=, one per text")

    info = {"score": name, "texts": len(activations), "max_length": activations.max_length}
    if name == "random":
        values, info["seed"] = random(activations, seed), seed
    elif name == "magnitude":
        values = magnitude(activations, model)
    elif name == "taylor":
        values = taylor(activations, model, labels)
    else:
        info |= {"cloud": cloud, "special_tokens": activations.special_tokens}
        if cloud == "texts":
            info["length"] = length or activations.max_length
        function = CLOUD_SCORES[name]
        if name in ON_DEVICE:
            function = partial(function, device=target)
        values = _of_clouds(activations, function, name, cloud, length, progress)
    return Scores({key: value.astype(np.float32) for key, value in values.items()}, info)


def _of_clouds(
    activations: Activations, function: Callable, name: str, cloud: str, length: int, progress: bool
) -> dict[Key, np.ndarray]:
    """A cloud score of all units, chunk by chunk.

    Of many processes, each scores the units that it holds; then all tell all."""
    chunks = [(key, part) for key in activations.keys for part in activations.chunks(*key, cloud)]
    parts: dict[Key, list[np.ndarray]] = {key: [np.zeros(0)] for key in activations.keys}
    total = sum(part.stop - part.start for _, part in chunks)
    off = not (progress and distributed.is_main())
    with tqdm(total=total, desc=name, unit="unit", unit_scale=True, disable=off) as bar:
        for key, part in chunks:
            parts[key].append(function(activations.cloud(*key, cloud, part, length)))
            bar.update(part.stop - part.start)
    return activations.gather({key: np.concatenate(found) for key, found in parts.items()})
