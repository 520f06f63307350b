"""Scores: one number per unit, higher = more worth keeping.

Cloud scores read the point clouds of :mod:`obce.activations`; the other scores read the weights,
the gradients or a random number generator. All are asked for through :func:`score`.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from transformers import (
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForTokenClassification,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from obce import homology
from obce.activations import Activations, hooked
from obce.base import distributed
from obce.base.checks import check_choice
from obce.base.devices import evaluating, on_device, pick_device
from obce.base.files import parse_json, replacing
from obce.base.records import plain_number
from obce.base.settings import (
    CLOUD_SCORES,
    CLOUDS,
    COVARIANCES,
    DEFAULT_CLOUD,
    DEFAULT_COVARIANCE,
    DEFAULT_OF_CLOUDS,
    DEFAULT_SCORE,
    DEGREE,
    METRICS,
    READ_POINTS,
    SCORES,
    metric_of,
    of_layer,
)
from obce.layer_scores import LAYER_FUNCTIONS, of_pairs, options_of
from obce.readings import Readings, read
from obce.texts import Encoding, Text, batches, encode, length_limit, model_inputs
from obce.units import KINDS, WEIGHTS, Group, Shape, dense_bert, shape_of

# Their losses take something else than one label per text.
OTHER_HEADS = (
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForTokenClassification,
)


def std(clouds: np.ndarray) -> np.ndarray:
    """Standard deviation: the root mean squared distance of a cloud's points to their mean.

    Args:
        clouds: ``(units, n)`` or ``(units, n, d)``.

    Returns:
        ``(units,)`` float64.

    >>> std(np.array([[1.0, 3.0], [5.0, 5.0]]))
    array([1., 0.])
    """
    return rms(clouds - clouds.mean(axis=1, keepdims=True))


def rms(clouds: np.ndarray) -> np.ndarray:
    """Root mean squared distance of a cloud's points to the origin.

    Args and returns as for :func:`std`.

    >>> rms(np.array([[3.0, -3.0], [0.0, 0.0]]))
    array([3., 0.])
    """
    flat = clouds.reshape(len(clouds), -1).astype(np.float64)
    return np.sqrt(np.einsum("ui,ui->u", flat, flat) / clouds.shape[1])


def total_persistence(clouds: np.ndarray, device: str | torch.device = "cpu") -> np.ndarray:
    """Sum of the finite H0 deaths: the length of the minimum spanning tree.

    Args and returns as for :func:`std`; ``device`` as for
    :func:`obce.homology.merge_radius`.

    Source: D. Cohen-Steiner et al., "Lipschitz functions have L_p-stable persistence", 2010.

    >>> total_persistence(np.array([[0.0, 1.0, 5.0]]))
    array([5.])
    """
    return homology.batched_deaths(clouds, device).sum(axis=1)


def persistent_entropy(clouds: np.ndarray, device: str | torch.device = "cpu") -> np.ndarray:
    """Shannon entropy (nats) of the finite H0 deaths as shares of their sum; 0 if all are 0.

    Args and returns as for :func:`total_persistence`.

    Source: M. Rucco et al., "Characterisation of the idiotypic immune network through
    persistent entropy", 2016.

    >>> persistent_entropy(np.array([[0.0, 1.0, 2.0]])).round(3)  # two equal deaths: log 2
    array([0.693])
    """
    deaths = homology.batched_deaths(clouds, device)
    total = deaths.sum(axis=1, keepdims=True)
    share = np.divide(deaths, total, out=np.zeros_like(deaths), where=total > 0)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    return -(share * logs).sum(axis=1)


CLOUD_FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
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

    Returns:
        ``{(layer, kind): (units,)}``, from 0 to 1.

    >>> sorted(random(Shape(layers=1, hidden=4, heads=2, intermediate=8)))[0]
    (0, 'attention_output')
    """
    generator = np.random.default_rng(seed)
    return {group: generator.random(shape.width(group[1])) for group in shape.groups()}


def magnitude(model: PreTrainedModel) -> dict[Group, np.ndarray]:
    """Euclidean norm of a unit's incoming weights.

    Returns:
        ``{(layer, kind): float32 (units,)}``.

    Raises:
        ValueError: no dense BERT.

    Source: S. Han et al., "Learning both weights and connections", 2015, by rows.

    >>> import obce
    >>> model, _ = obce.load_bert()
    >>> magnitude(model)[0, "value"].shape
    (384,)
    """
    bert = dense_bert(model)
    norms = {}
    for layer, kind in shape_of(bert).groups():
        linear: Any = bert.encoder.layer[layer].get_submodule(WEIGHTS[kind])
        norms[layer, kind] = linear.weight.detach().float().norm(dim=1).cpu().numpy()
    return norms


def taylor(
    model: PreTrainedModel,
    encodings: Sequence[Encoding],
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
        batch_size: texts run at once.

    Returns:
        ``{(layer, kind): float64 (units,)}``.

    Raises:
        ValueError: a model without such a head, or labels that do not fit it.

    Source: P. Molchanov et al., "Pruning convolutional neural networks for resource efficient
    inference", ICLR 2017.

    >>> from transformers import BertConfig, BertForSequenceClassification
    >>> config = BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1,
    ...                     num_attention_heads=2, intermediate_size=8)
    >>> model = BertForSequenceClassification(config)
    >>> text = {"input_ids": [1, 7, 2], "token_type_ids": [0, 0, 0]}
    >>> taylor(model, [text, text], [0, 1], [(0, "value")])[0, "value"].shape
    (4,)
    """
    bert = dense_bert(model)
    checked = _checked_labels(model, bert, labels, len(encodings))
    shape, batched = shape_of(bert), batches(encodings, batch_size)
    widths = [shape.width(kind) for _, kind in groups]
    units, processes = sum(widths), distributed.size()
    shares = [distributed.share(units, process, processes) for process in range(processes)]
    counts = [len(range(units)[part]) for part in shares]
    total = torch.zeros(counts[distributed.rank()], dtype=torch.float64)
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
                sums = _taylor_of_batch(model, bert, encodings, batch, checked, outputs)
                block = torch.cat([sums[group].float().cpu() for group in groups])[None]
            rows = [len(one_round[process : process + 1]) for process in range(processes)]
            for row in distributed.transpose(block, rows):
                total += row.double()
    everything = distributed.gather(total, counts)
    parts = (everything / len(encodings)).split(widths)
    return {group: part.numpy() for group, part in zip(groups, parts, strict=True)}


def _checked_labels(
    model: PreTrainedModel, bert: BertModel, labels: Sequence[float], texts: int
) -> torch.Tensor:
    """The labels as a tensor; ValueError for a model whose loss takes others."""
    name = type(model).__name__
    if bert is model:
        raise ValueError("taylor needs a model with a task head, which a plain BertModel lacks")
    several = model.config.problem_type == "multi_label_classification"
    takes_labels = "labels" in inspect.signature(model.forward).parameters
    if several or isinstance(model, OTHER_HEADS) or not takes_labels:
        kind = f"{name} with several labels per text" if several else name
        raise ValueError(f"taylor needs a loss of one label per text, which a {kind} does not have")
    if len(labels) != texts:
        raise ValueError(f"taylor needs a label per text: {len(labels)} for {texts}")
    classes: Any = model.config.num_labels
    numbers = np.asarray(labels)
    if numbers.ndim != 1 or numbers.dtype.kind not in "biuf":
        raise ValueError("taylor needs labels that are numbers, one per text")
    if classes == 1:
        return torch.from_numpy(numbers.astype(np.float32))
    if (numbers != np.floor(numbers)).any() or not 0 <= numbers.min() <= numbers.max() < classes:
        raise ValueError(f"taylor: a label is not one of 0 to {classes - 1}")
    return torch.from_numpy(numbers.astype(np.int64))


def _taylor_of_batch(
    model: PreTrainedModel,
    bert: BertModel,
    encodings: Sequence[Encoding],
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
    for group, grad in zip(groups, grads, strict=True):  # (texts, tokens, units) each
        sums[group] = (outputs[group].detach() * grad).sum(dim=1).abs().sum(dim=0)
    outputs.clear()
    return sums


class Scores(dict[Group, np.ndarray]):
    """``{(layer, kind): float32 array (units,)}``, with ``info`` on how they were made.

    >>> shape = Shape(layers=1, hidden=4, heads=2, intermediate=8)
    >>> scores = Scores(random(shape), {"score": "random"})
    >>> scores[0, "intermediate"].shape, scores.info["score"]
    ((8,), 'random')
    """

    def __init__(self, values: Mapping[Group, np.ndarray], info: dict[str, Any] | None = None):
        super().__init__(values)
        self.info = dict(info or {})

    def save(self, path: str | os.PathLike) -> None:
        """Write to one safetensors file; ``info`` and a checksum stand in its header."""
        tensors = {
            # float32; safetensors ignores strides
            f"{layer:02d}.{kind}": np.ascontiguousarray(value, dtype=np.float32)
            for (layer, kind), value in self.items()
        }
        notes = {"checksum": _checksum(tensors, self.info), "info": self.info}
        # One entry: safetensors writes several in any order, and equal scores are equal files.
        header = {"obce_scores": json.dumps(notes, allow_nan=False)}
        with replacing(path) as part:
            save_file(tensors, part, metadata=header)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Scores:
        """Read what ``save`` wrote (files of earlier versions, without a checksum, too).

        Raises:
            ValueError: no such file, not a file of scores, or one that was changed.
        """
        if not Path(path).is_file():
            raise ValueError(f"no scores file at {path}")
        try:
            with safe_open(path, "numpy") as file:
                header = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            info = parse_json(header["obce_scores"])
            if not isinstance(info, dict):
                raise ValueError("its notes are no JSON object")
            if info.keys() & {"checksum", "info"}:
                checksum, info = info["checksum"], info["info"]
                if checksum != _checksum(tensors, info):
                    raise ValueError("its checksum is another: it was changed after it was written")
            return cls({_group_of(name, value): value for name, value in tensors.items()}, info)
        except (SafetensorError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a file of obce scores: {error!s:.300}") from error


def _checksum(tensors: dict[str, np.ndarray], info: dict[str, Any]) -> str:
    """Of the names, the numbers and the notes of a file of scores."""
    total = hashlib.sha256(json.dumps(info, allow_nan=False, sort_keys=True).encode())
    for name in sorted(tensors):
        total.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        total.update(tensors[name].tobytes())
    return total.hexdigest()


def _group_of(name: str, values: np.ndarray) -> Group:
    """(layer, kind) of a tensor's name, ``03.value``; ValueError for what are no scores."""
    layer, _, kind = name.partition(".")
    if not (layer.isascii() and layer.isdigit() and kind in KINDS and len(layer) < 6):
        raise ValueError(f"it holds {name!r:.40}, which names no layer and kind")
    if values.dtype != np.float32 or values.ndim != 1 or not len(values):
        raise ValueError(f"{name} is {values.dtype} {values.shape}, not a row of float32 scores")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds scores that are not finite")
    return int(layer), kind


def score(
    source: Activations | Readings | None,
    name: str | None = None,
    *,
    cloud: str = DEFAULT_CLOUD,
    length: int = 0,
    model: PreTrainedModel | None = None,
    labels: Sequence[float] | None = None,
    texts: Sequence[Text] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_length: int | None = None,
    metric: str | None = None,
    covariance: str = DEFAULT_COVARIANCE,
    degree: float = DEGREE,
    points: int = READ_POINTS,
    seed: int = 0,
    device: str = "auto",
    progress: bool = False,
) -> Scores:
    """Score all units.

    Args:
        source: for scores of clouds the activations, from
            :func:`obce.collect <obce.activations.collect>`; for scores of a layer its readings,
            from :func:`obce.read <obce.readings.read>`, which give numbers for value and
            intermediate units (``fisher``, and ``second_order`` in the metric ``loss``, for query
            and key units, too, a pair's two alike). ``random`` and ``magnitude`` need neither
            (give ``None``); ``taylor`` and the scores of a layer take ``texts`` instead.
        name: of a cloud: ``merge_radius``, ``total_persistence``, ``persistent_entropy``, ``std``,
            ``rms``. Of a layer (see :mod:`obce.layer_scores`): ``persistence_share``,
            ``second_order``, ``unit_homology``, ``fisher``, and ``std`` and ``rms`` if a
            ``metric`` is named. Others: ``random`` (``model``, ``seed``), ``magnitude``
            (``model``), ``taylor`` (``model`` and ``labels``). If left out, ``merge_radius`` of
            activations, else ``second_order``.
        cloud: ``mean``, ``texts``, ``tokens`` or ``cls``.
        length: tokens per text in the ``texts`` cloud; all, if 0.
        model: the dense model, for the scores that read it.
        labels: one per text, for ``taylor``: the index of a class, or a number.
        texts, tokenizer, max_length: for ``taylor`` without activations and for scores of a
            layer without readings, as for ``collect``.
        metric: of a layer: ``plain``, ``norm`` or ``loss``. If left out, ``loss`` for
            ``second_order``, else ``norm``.
        covariance: of ``second_order``: over ``points`` or along the edges of the ``tree``.
        degree: of ``persistence_share``: 1 or more, or infinity.
        points: how many tokens make a layer's cloud, as for ``read``.
        seed: of ``random``, and of the tokens of a layer's cloud.
        device: where homology is computed, and where the model runs for ``taylor``: ``auto``,
            ``cpu`` or ``cuda`` (see :mod:`obce.base.devices`).
        progress: whether to show a progress bar.

    Returns:
        ``Scores``: ``{(layer, kind): float32 array (units,)}``.

    Raises:
        ValueError: an unknown name or cloud, or something missing that the score needs.

    >>> import obce
    >>> model, tokenizer = obce.load_bert()
    >>> with obce.collect(model, tokenizer, ["Good.", "A bad film."], layers=[0]) as activations:
    ...     scores = obce.score(activations, "merge_radius", cloud="mean")
    >>> scores[0, "query"].shape, scores[0, "query"].dtype
    ((384,), dtype('float32'))
    >>> readings = obce.read(model, tokenizer, ["Good.", "A bad film."])
    >>> sorted(obce.score(readings, "persistence_share"))[:2]
    [(0, 'intermediate'), (0, 'value')]
    """
    if name is None:
        name = DEFAULT_OF_CLOUDS if isinstance(source, Activations) else DEFAULT_SCORE
    check_choice("score", name, SCORES)
    check_choice("cloud", cloud, CLOUDS)
    check_choice("covariance", covariance, COVARIANCES)
    if metric is not None:
        check_choice("metric", metric, METRICS)
    if isinstance(source, Readings) and name not in LAYER_FUNCTIONS:
        raise ValueError(f"score {name!r} is none of a layer: it does not take readings")
    if of_layer(name, metric) or isinstance(source, Readings):
        options = options_of(
            name, metric=metric_of(name, metric), covariance=covariance, degree=degree
        )
        if not isinstance(source, Readings):
            if source is not None or model is None or texts is None or tokenizer is None:
                raise ValueError(
                    f"score {name!r} needs readings, or model=, texts= and tokenizer= "
                    "(no activations)"
                )
            source = read(
                model, tokenizer, texts, points=points, max_length=max_length, seed=seed,
                loss="loss" in options.values() or name == "fisher",
                moments=name == "second_order" and covariance == "points",
                device=device, progress=progress,
            )  # fmt: skip
        return _of_layers(source, name, options)
    activations = source
    target = pick_device(device)
    shape, groups = _shape_and_groups(activations, name, model)
    info: dict[str, Any] = {"score": name}
    values: Mapping[Group, np.ndarray]
    if name == "random":
        values, info["seed"] = random(shape, seed), seed
    elif name == "magnitude":
        assert model is not None  # _shape_and_groups has seen to it
        values = magnitude(model)
    elif name == "taylor":
        assert model is not None
        if labels is None:
            raise ValueError("score 'taylor' needs labels=, one per text")
        encodings, limit = _encodings(activations, model, texts, tokenizer, max_length)
        info |= {"texts": len(encodings), "max_length": limit}
        with on_device(model, device):
            values = taylor(model, encodings, labels, groups)
    else:
        assert activations is not None
        info |= {"texts": len(activations), "max_length": activations.max_length}
        info |= {"cloud": cloud, "special_tokens": activations.special_tokens}
        if cloud == "texts":
            info["length"] = length or activations.max_length
        values = _of_clouds(activations, name, cloud, length, target, progress)
    return Scores({group: values[group].astype(np.float32) for group in groups}, info)


def _of_layers(readings: Readings, name: str, options: dict[str, Any]) -> Scores:
    function = LAYER_FUNCTIONS[name]
    groups = readings.fisher if name == "fisher" else readings.points
    values = {group: function(readings, group, **options) for group in groups}
    if (name, options.get("metric")) == ("second_order", "loss"):
        for layer in (layer for layer, kind in groups if kind == "value"):
            row = of_pairs(readings, layer, values[layer, "value"])
            values[layer, "query"] = values[layer, "key"] = row
    said = {option: plain_number(each) for option, each in options.items()}
    about = {"score": name, **said, **readings.info}
    return Scores({group: row.astype(np.float32) for group, row in values.items()}, about)


def _encodings(
    activations: Activations | None,
    model: PreTrainedModel,
    texts: Sequence[Text] | None,
    tokenizer: PreTrainedTokenizerBase | None,
    max_length: int | None,
) -> tuple[Sequence[Encoding], int]:
    """The tokenized texts that ``taylor`` reads, and to how many tokens they were cut."""
    if activations is not None:
        return activations.encodings, activations.max_length
    if texts is None or tokenizer is None:
        raise ValueError("score 'taylor' needs activations, or texts= and tokenizer=")
    limit = length_limit(dense_bert(model), max_length)
    return encode(tokenizer, texts, limit, model=dense_bert(model)), limit


def _shape_and_groups(
    activations: Activations | None, name: str, model: PreTrainedModel | None
) -> tuple[Shape, Sequence[Group]]:
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
    activations: Activations,
    name: str,
    cloud: str,
    length: int,
    device: torch.device,
    progress: bool,
) -> dict[Group, np.ndarray]:
    """A cloud score of all units, chunk by chunk.

    Of many processes, each scores the units that it holds; then each gets the scores of all."""
    function = CLOUD_FUNCTIONS[name]
    if name in ON_DEVICE:
        function = partial(function, device=device)
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
