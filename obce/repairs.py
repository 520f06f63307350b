"""Repairs: what is done for the surviving weights after units have gone.

``constant`` folds a typical output (the median) of each removed unit into the bias of the map that
read it. ``least_squares`` refits the two residual maps of every layer, one after the other, on the
already compressed model, so that each again gives what the dense one gave.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from obce.base import distributed
from obce.base.checks import check_choice
from obce.base.devices import evaluating
from obce.base.settings import BATCH_SIZE, REPAIRS, RIDGE
from obce.pruning import Plan
from obce.surgery import cut, layer_widths
from obce.texts import Text, batches, encode, length_limit, model_inputs
from obce.units import READS, WEIGHTS, find_bert, is_compressed

MEDIAN_TOKENS = 20_000


@dataclass
class Fit:
    """The calibration error of one residual map: the mean squared difference between what the
    dense layer and the compressed one put before the LayerNorm, before and after its refit."""

    layer: int
    kind: str
    before: float
    after: float


def repair(
    model: PreTrainedModel,
    small: PreTrainedModel,
    plan: Plan,
    *,
    texts: Sequence[Text],
    tokenizer: PreTrainedTokenizerBase,
    method: str = "least_squares",
    max_length: int | None = None,
    batch_size: int = BATCH_SIZE,
    ridge: float = RIDGE,
    progress: bool = False,
) -> list[Fit]:
    """Repair a model that :func:`obce.cut <obce.surgery.cut>` has made, in place.

    Args:
        model: the dense model. It is not changed.
        small: the compressed one, on the same device.
        plan: that it was cut to.
        texts: calibration texts, strings or pairs of strings; no labels.
        method: ``least_squares`` or ``constant`` (or ``none``, which does nothing).
        max_length: tokens to which the texts are cut; 64, if left out.
        batch_size: texts run at once.
        ridge: for ``least_squares``, the weight of staying near the cut weights, relative to the
            mean variance of the inputs.

    Returns:
        for ``least_squares`` a :class:`Fit` per residual map, layer by layer; else nothing.

    Raises:
        ValueError: models or a plan that do not belong together, an unknown method, no texts, or
            outputs that are not finite.
    """
    check_choice("repair", method, REPAIRS)
    if not ridge >= 0:
        raise ValueError(f"ridge={ridge}: it must not be negative")
    plan.check(model)
    _check_cut_to(small, plan)
    if method == "none":
        return []
    bert = find_bert(model)
    encodings = encode(tokenizer, texts, length_limit(bert, max_length), model=bert)
    if method == "constant":
        _fold_medians(model, small, plan, encodings, batch_size, progress)
        return []
    return _refit_all(model, small, plan, encodings, batch_size, ridge, progress)


def _check_cut_to(small: PreTrainedModel, plan: Plan) -> None:
    if not is_compressed(small):
        raise ValueError("repair wants the compressed model that cut has made, this one is dense")
    if find_bert(small).config.layer_widths != layer_widths(plan):
        raise ValueError("the compressed model was cut to another plan")


def compress(
    model: PreTrainedModel,
    plan: Plan,
    *,
    repair: str = "none",
    texts: Sequence[Text] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_length: int | None = None,
    batch_size: int = BATCH_SIZE,
    ridge: float = RIDGE,
    progress: bool = False,
) -> PreTrainedModel:
    """:func:`obce.cut <obce.surgery.cut>` and, if asked for, :func:`repair`, in one call.

    Args:
        model: the dense model, a transformers BERT of any of the classes in
            ``obce.modeling.AUTO_CLASSES``. It is not changed.
        plan: from :func:`obce.plan <obce.pruning.plan>`.
        repair: ``none``, ``constant`` or ``least_squares``.
        texts, tokenizer: calibration texts for the repairs other than ``none``; no labels.
        max_length, batch_size, ridge: as for :func:`repair`.

    Returns:
        the compressed model, in evaluation mode, on the dense one's device and in its dtype.

    Raises:
        ValueError: no BERT, a class that isn't supported, a plan for another shape, an unknown
            repair or one without texts.
    """
    check_choice("repair", repair, REPAIRS)
    if repair == "none":
        return cut(model, plan)
    if texts is None or tokenizer is None:
        raise ValueError(f"repair={repair!r} needs texts= and tokenizer= for calibration")
    small = cut(model, plan)
    _repair(
        model, small, plan, texts=texts, tokenizer=tokenizer, method=repair,
        max_length=max_length, batch_size=batch_size, ridge=ridge, progress=progress,
    )  # fmt: skip
    return small


_repair = repair  # in compress, ``repair`` is an argument


def _fold_medians(model, small, plan, encodings, batch_size, progress) -> None:
    """Fold a typical value of what each removed unit fed into the bias of the map that read it.

    Typical is the median, since a few units fire hugely on [CLS] and [SEP] alone and have a mean
    that they never put out. For a value unit it is the median of what attention made of it:
    attention often rests on [SEP], so a typical value is no typical contribution. A constant
    query-key pair adds the same to all attention scores: nothing to repair. A removed unit of a
    residual map leaves its own median as the bias.

    Of many processes each does the same, since a median needs all values; the main one's counts.
    """
    dense_bert, small_bert = find_bert(model), find_bert(small)
    # A median needs all values at once: as many tokens as it takes, not all of a large corpus.
    total = list(itertools.accumulate(len(encoding["input_ids"]) for encoding in encodings))
    encodings = encodings[: bisect.bisect_left(total, MEDIAN_TOKENS) + 1]
    layers = list(zip(dense_bert.encoder.layer, small_bert.encoder.layer, strict=True))
    bar = distributed.bar(progress, layers, desc="repair", unit="layer")
    with evaluating(model), evaluating(small), torch.no_grad():
        hidden = _embedded(dense_bert, encodings, batches(encodings, batch_size))
        for index, (dense, compressed) in enumerate(bar):
            for kind in READS:
                place = WEIGHTS[kind]
                old, new = dense.get_submodule(place), compressed.get_submodule(place)
                inputs = [_inputs(dense, kind, state) for state in hidden]
                outputs = [old(x) for x in inputs]
                typical = _median(inputs)
                typical[plan.kept[index, READS[kind]]] = 0
                constant = new.bias + old.weight @ typical
                gone = torch.ones_like(constant, dtype=torch.bool)
                gone[plan.kept[index, kind]] = False
                bias = torch.where(gone, _median(outputs), constant)
                if not bias.isfinite().all():
                    raise ValueError(
                        f"layer {index}, {kind}: the model puts out values that are not finite"
                    )
                distributed.from_main(bias)
                new.bias.copy_(bias)
                norm = _layer_norm(dense, kind)
                hidden = [norm(x + y) for x, y in zip(hidden, outputs, strict=True)]


def _embedded(bert, encodings, groups) -> list[torch.Tensor]:
    """The hidden states below the first layer, one tensor per batch."""
    return [bert.embeddings(**model_inputs(encodings, batch, bert.device)) for batch in groups]


def _median(parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([part.flatten(0, 1) for part in parts]).median(dim=0).values


def _refit_all(model, small, plan, encodings, batch_size, ridge, progress) -> list[Fit]:
    """Refit the residual maps, layer after layer.

    Two hidden states of the calibration texts are carried from layer to layer: the dense
    model's and the compressed one's. A residual map is refitted so that what it writes, added to
    *its own* hidden state, meets the dense sum: so drift from the layers below is made good, too.

    Memory: the two hidden states (8 bytes x tokens x hidden size in float32), one batch's
    outputs, and one Gram matrix in float64. Many processes share the texts out and add up
    those sums, which then differ from one process's by rounding, and are the same on all.
    """
    dense_bert, small_bert = find_bert(model), find_bert(small)
    groups = distributed.mine(batches(encodings, batch_size))
    fits = []
    with evaluating(model), evaluating(small), torch.no_grad():
        wanted = _embedded(dense_bert, encodings, groups)
        hidden = list(wanted)
        layers = list(zip(dense_bert.encoder.layer, small_bert.encoder.layer, strict=True))
        bar = distributed.bar(progress, layers, desc="repair", unit="layer")
        for index, (dense, compressed) in enumerate(bar):
            for kind in READS:
                # ``wanted`` holds the dense sums for a moment, then their LayerNorms
                for i, state in enumerate(wanted):
                    wanted[i] = state + dense.get_submodule(WEIGHTS[kind])(
                        _inputs(dense, kind, state)
                    )
                fits.append(_refit(compressed, plan, index, kind, hidden, wanted, ridge))
                for i, state in enumerate(hidden):
                    written = compressed.get_submodule(WEIGHTS[kind])(
                        _inputs(compressed, kind, state)
                    )
                    hidden[i] = _layer_norm(compressed, kind)(state + written)
                    wanted[i] = _layer_norm(dense, kind)(wanted[i])
    return fits


def _inputs(layer, kind: str, hidden: torch.Tensor) -> torch.Tensor:
    """What a residual map reads. The texts of a batch are equally long: no mask is needed."""
    if kind == "attention_output":
        return layer.attention.self(hidden)[0]
    return layer.intermediate(hidden)


def _layer_norm(layer, kind: str) -> nn.Module:
    return (layer.attention.output if kind == "attention_output" else layer.output).LayerNorm


def _refit(layer, plan: Plan, index: int, kind: str, hidden, wanted, ridge: float) -> Fit:
    """Ridge regression of what is still missing on the map's inputs, in float64.

    The unknown is the *change* of the weights, so the ridge pulls towards the cut weights. The
    bias is not penalised. A change that would not lower the calibration error is not made.
    """
    place = layer.get_submodule(WEIGHTS[kind])
    rows = torch.from_numpy(plan.kept[index, kind]).to(place.bias.device)
    inputs, outputs = place.weight.shape[1], len(place.bias)
    options = {"dtype": torch.float64, "device": place.bias.device}
    gram, cross = torch.zeros(inputs, inputs, **options), torch.zeros(inputs, outputs, **options)
    sum_x, sum_r = torch.zeros(inputs, **options), torch.zeros(outputs, **options)
    squares, count = torch.zeros((), **options), torch.zeros((), **options)
    for state, target in zip(hidden, wanted, strict=True):
        x = _inputs(layer, kind, state)
        r = (target - state - place(x)).flatten(0, 1).double()
        x = x.flatten(0, 1).double()
        gram += x.T @ x
        cross += x.T @ r
        sum_x += x.sum(0)
        sum_r += r.sum(0)
        squares += r.square().sum()
        count += len(r)
    distributed.add_up(gram, cross, sum_x, sum_r, squares, count)
    squares, count = squares.item(), int(count)
    before = squares / (count * outputs)
    if not math.isfinite(before):
        raise ValueError(f"layer {index}, {kind}: the model puts out values that are not finite")

    mean_x, mean_r = sum_x / count, sum_r / count
    centred = gram - count * torch.outer(mean_x, mean_x)
    # Never below the rounding of the sums: constant inputs leave nothing but that.
    floor = 1e-12 * gram.diagonal().max().item() if inputs else 0.0
    penalty = max(ridge * centred.diagonal().mean().item() if inputs else 0.0, floor)
    centred.diagonal().add_(penalty or 1.0)
    change = torch.zeros(inputs, outputs, **options)
    change[:, rows] = torch.cholesky_solve(
        (cross - count * torch.outer(mean_x, mean_r))[:, rows], torch.linalg.cholesky(centred)
    )
    weight = (place.weight + change.T[rows]).to(place.weight.dtype)
    bias = (place.bias + mean_r - mean_x @ change).to(place.bias.dtype)

    # The error of the weights as they are stored, by the same sums.
    change[:, rows] = (weight.double() - place.weight.double()).T
    shift = bias.double() - place.bias.double()
    squares += (
        (change * (gram @ change)).sum()
        - 2 * (change * cross).sum()
        + 2 * ((sum_x @ change) * shift).sum()
        - 2 * (sum_r * shift).sum()
        + count * shift.square().sum()
    ).item()
    after = max(squares, 0.0) / (count * outputs)
    # All processes go on with one and the same map, whatever their hardware makes of the sums.
    after = distributed.told_by_main(after)
    distributed.from_main(weight, bias)
    if after >= before:
        return Fit(index, kind, before, before)
    place.weight.copy_(weight)
    place.bias.copy_(bias)
    return Fit(index, kind, before, after)
