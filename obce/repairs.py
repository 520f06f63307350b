"""Repairs: what is done for the surviving weights after units have gone.

``constant`` folds a typical output (the median) of each removed unit into the bias of the map that
read it. ``least_squares`` refits the two residual maps of every layer, one after the other, on the
already compressed model, so that each again gives what the dense one gave. Where query-key pairs
went, the keys that stay are mixed anew first: see :mod:`obce.pairs`.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import BertModel, PreTrainedModel, PreTrainedTokenizerBase

from obce.base import distributed
from obce.base.checks import check_choice, check_positive, check_ridge
from obce.base.devices import evaluating, on_device
from obce.base.settings import (
    BATCH_SIZE,
    DEFAULT_WEIGHTING,
    REPAIRS,
    RIDGE,
    RIDGES,
    WEIGHTINGS,
)
from obce.pairs import Moments, pair_moments, repair_pairs
from obce.pruning import Plan
from obce.surgery import cut, layer_widths
from obce.texts import Encoding, Text, batches, encode, length_limit, model_inputs
from obce.units import READS, WEIGHTS, dense_bert, find_bert, is_compressed

MEDIAN_TOKENS = 20_000  # that a median is taken of, at least, if there are so many
SMALL_RIDGE = 1e-3  # below it, sums are taken in float64
HELD_OUT = 4  # every fourth batch is held out where the ridge is chosen


@dataclass
class Fit:
    """The calibration error of one residual map, before and after its refit.

    The error is the mean squared difference between the sums that the dense layer and the
    compressed one hand to the LayerNorm behind this map, tokens weighted as the repair was told.
    """

    layer: int
    kind: str
    before: float
    after: float
    ridge: float = RIDGE


class Calibration:
    """What a repair needs of the dense model. Made once, it serves all cuts of that model.

    It holds the texts, tokenized, and for each residual map the sums that the dense model hands to
    the LayerNorm behind it. Memory: 8 bytes x layers x tokens x hidden size. The moments of query
    and key units are taken when a plan first cuts pairs.

    Args:
        model, tokenizer, texts, max_length, batch_size: as for :func:`repair`.

    Raises:
        ValueError: no BERT, or no texts.

    >>> import obce
    >>> model, tokenizer = obce.load_bert()
    >>> texts = Calibration(model, tokenizer, ["A good film.", "It rained."])
    >>> scores = obce.score(None, "magnitude", model=model)
    >>> plans = [obce.plan(model, scores, keep_encoder=keep) for keep in (0.5, 0.7)]
    >>> fits = [obce.repair(model, obce.cut(model, p), p, calibration=texts) for p in plans]
    >>> [len(each) for each in fits]
    [12, 12]
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        texts: Sequence[Text],
        *,
        max_length: int | None = None,
        batch_size: int = BATCH_SIZE,
        device: str = "auto",
    ):
        bert = dense_bert(model)
        encodings = encode(tokenizer, texts, length_limit(bert, max_length), model=bert)
        self.batched = distributed.mine(batches(encodings, batch_size))
        with on_device(bert, device), evaluating(bert), torch.no_grad():
            self.embedded = _embedded(bert, encodings, self.batched)
            self.sums = list(_dense_sums(bert, self.embedded))
        self._measure_pairs = partial(
            pair_moments, model, tokenizer, texts,
            max_length=max_length, batch_size=batch_size, device=device,
        )  # fmt: skip

    @cached_property
    def pairs(self) -> list[Moments]:
        return self._measure_pairs()


def repair(
    model: PreTrainedModel,
    small: PreTrainedModel,
    plan: Plan,
    *,
    texts: Sequence[Text] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    calibration: Calibration | None = None,
    method: str = "least_squares",
    max_length: int | None = None,
    batch_size: int = BATCH_SIZE,
    ridge: float | str = RIDGE,
    weighting: str = DEFAULT_WEIGHTING,
    device: str = "auto",
    progress: bool = False,
) -> list[Fit]:
    """Repair a model that :func:`obce.cut <obce.surgery.cut>` has made, in place.

    Args:
        model: the dense model. It is not changed.
        small: the compressed one.
        plan: that it was cut to.
        texts, tokenizer: calibration texts, strings or pairs of strings; no labels.
        calibration: in their place, for ``least_squares``, a :class:`Calibration` of this model.
        method: ``least_squares`` or ``constant`` (or ``none``, which does nothing).
        max_length: tokens to which the texts are cut; 64, if left out.
        batch_size: texts run at once.
        ridge: for ``least_squares``, the weight of staying near the cut weights, relative to the
            mean variance of the inputs; or ``auto``: for each map the one, of a few, that leaves
            the least error on texts that are held out.
        weighting: for ``least_squares``, how much a token counts: ``layer_norm``, one over the
            variance of its sum, by which the LayerNorm behind the map will divide it; or ``none``,
            all tokens alike.
        device: where both models run meanwhile: ``auto``, ``cpu`` or ``cuda`` (see
            :mod:`obce.base.devices`).
        progress: whether to show a progress bar.

    Returns:
        for ``least_squares`` a :class:`Fit` per residual map, layer by layer; else nothing.

    Raises:
        ValueError: models or a plan that do not belong together, an unknown method, no texts, or
            outputs that are not finite.

    >>> import obce
    >>> model, tokenizer = obce.load_bert()
    >>> scores = obce.score(None, "magnitude", model=model)
    >>> plan = obce.plan(model, scores, keep_encoder=0.6)
    >>> small = obce.cut(model, plan)
    >>> texts = ["A good film.", "The plot is thin.", "It rained."]
    >>> fits = obce.repair(model, small, plan, texts=texts, tokenizer=tokenizer)
    >>> len(fits), fits[0].kind, fits[0].after < fits[0].before
    (12, 'attention_output', True)
    """
    check_choice("repair", method, REPAIRS)
    check_choice("weighting", weighting, WEIGHTINGS)
    check_ridge(ridge)
    check_positive(batch_size=batch_size)
    plan.check(model)
    _check_cut_to(small, plan)
    if method == "none":
        return []
    dense, compressed = find_bert(model), find_bert(small)
    if method == "constant" or calibration is None:
        if texts is None or tokenizer is None:
            raise ValueError(f"repair={method!r} needs texts= and tokenizer= for calibration")
        encodings = encode(tokenizer, texts, length_limit(dense, max_length), model=dense)
    if method == "least_squares" and _cuts_pairs(plan):
        if calibration is not None:
            moments = calibration.pairs
        else:
            assert texts is not None and tokenizer is not None  # see above
            moments = pair_moments(
                model, tokenizer, texts,
                max_length=max_length, batch_size=batch_size, device=device,
            )  # fmt: skip
        repair_pairs(small, plan, moments)
    with (
        on_device(dense, device), on_device(compressed, device),
        evaluating(dense), evaluating(compressed), torch.no_grad(),
    ):  # fmt: skip
        if method == "constant":
            _fold_medians(dense, compressed, plan, encodings, batch_size, progress)
            return []
        if calibration is not None:
            embedded, sums = calibration.embedded, iter(calibration.sums)
        else:
            batched = distributed.mine(batches(encodings, batch_size))
            embedded = _embedded(dense, encodings, batched)
            sums = _dense_sums(dense, embedded)
        return _refit_all(compressed, plan, embedded, sums, ridge, weighting, progress)


def _cuts_pairs(plan: Plan) -> bool:
    return any(len(plan.kept[group]) < plan.shape.width("key") for group in plan.kept
               if group[1] == "key")  # fmt: skip


def _check_cut_to(small: PreTrainedModel, plan: Plan) -> None:
    """ValueError for a model that was not cut to this plan."""
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
    ridge: float | str = RIDGE,
    weighting: str = DEFAULT_WEIGHTING,
    device: str = "auto",
    progress: bool = False,
) -> PreTrainedModel:
    """:func:`obce.cut <obce.surgery.cut>` and, if asked for, :func:`repair`, in one call.

    Args:
        model: the dense model, a transformers BERT of any of the classes in
            ``obce.modeling.AUTO_CLASSES``. It is not changed.
        plan: from :func:`obce.plan <obce.pruning.plan>`.
        repair: ``none``, ``constant`` or ``least_squares``.
        texts, tokenizer: calibration texts for the repairs other than ``none``; no labels.
        max_length, batch_size, ridge, weighting, device, progress: as for :func:`repair`.

    Returns:
        the compressed model, in evaluation mode, on the dense one's device and in its dtype.

    Raises:
        ValueError: no BERT, a class that isn't supported, a plan for another shape, an unknown
            repair or one without texts.

    >>> import obce
    >>> model, tokenizer = obce.load_bert()
    >>> plan = obce.plan(model, obce.score(None, "magnitude", model=model), keep_encoder=0.6)
    >>> small = obce.compress(
    ...     model, plan, repair="constant", texts=["A good film."], tokenizer=tokenizer
    ... )
    >>> obce.count_parameters(small) == plan.parameters
    True
    """
    check_choice("repair", repair, REPAIRS)
    if repair == "none":
        return cut(model, plan)
    if texts is None or tokenizer is None:
        raise ValueError(f"repair={repair!r} needs texts= and tokenizer= for calibration")
    small = cut(model, plan)
    _repair(
        model, small, plan, texts=texts, tokenizer=tokenizer, method=repair,
        max_length=max_length, batch_size=batch_size, ridge=ridge, weighting=weighting,
        device=device, progress=progress,
    )  # fmt: skip
    return small


_repair = repair  # in compress, ``repair`` is an argument


def _fold_medians(
    dense_bert: BertModel,
    small_bert: BertModel,
    plan: Plan,
    encodings: Sequence[Encoding],
    batch_size: int,
    progress: bool,
) -> None:
    """Fold a typical value of each removed unit into the bias of the map that read the unit.

    Typical is the median: a few units fire hugely on [CLS] and [SEP] alone, and no token gives
    their mean. For a value unit it is the median of what attention makes of it, and not of the
    unit itself, since attention often rests on [SEP]. A removed query-key pair needs no repair:
    a constant pair adds the same to all attention scores of a token. A removed unit of a residual
    map leaves its own median as the bias.

    With many processes each does the same, since a median needs all values; the main one's result
    counts.
    """
    # As many tokens as it takes, not all of a large corpus: all values are held at once.
    total = list(itertools.accumulate(len(encoding["input_ids"]) for encoding in encodings))
    encodings = encodings[: bisect.bisect_left(total, MEDIAN_TOKENS) + 1]
    layers: list[Any] = list(zip(dense_bert.encoder.layer, small_bert.encoder.layer, strict=True))
    hidden = _embedded(dense_bert, encodings, batches(encodings, batch_size))
    bar = distributed.bar(progress, layers, desc="repair", unit="layer")
    for index, (dense, compressed) in enumerate(bar):
        for kind in READS:
            old, new = _map(dense, kind), _map(compressed, kind)
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


def _embedded(
    bert: BertModel, encodings: Sequence[Encoding], batched: Sequence[list[int]]
) -> list[torch.Tensor]:
    """The hidden states below the first layer, (texts, tokens, hidden) for each batch."""
    return [bert.embeddings(**model_inputs(encodings, batch, bert.device)) for batch in batched]


def _median(parts: list[torch.Tensor]) -> torch.Tensor:
    """(texts, tokens, width) for each batch -> (width,)"""
    return torch.cat([part.flatten(0, 1) for part in parts]).median(dim=0).values


def _dense_sums(bert: BertModel, embedded: list[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """For each residual map, from below, the sums that the dense model hands to the LayerNorm
    behind it: (texts, tokens, hidden) for each batch."""
    hidden = list(embedded)
    layers: list[Any] = list(bert.encoder.layer)
    for layer in layers:
        for kind in READS:
            sums = [state + _map(layer, kind)(_inputs(layer, kind, state)) for state in hidden]
            yield sums
            hidden = [_layer_norm(layer, kind)(each) for each in sums]


def _refit_all(
    bert: BertModel,
    plan: Plan,
    embedded: list[torch.Tensor],
    dense_sums: Iterator[list[torch.Tensor]],
    ridge: float | str,
    weighting: str,
    progress: bool,
) -> list[Fit]:
    """Refit the residual maps of the compressed model, layer after layer.

    Two hidden states of the calibration texts are carried from layer to layer: the dense model's
    and the compressed one's. A residual map is refitted so that what it writes, added to *its
    own* hidden state, meets the dense sum. So the drift that comes from the layers below is
    repaired as well.

    Memory: two hidden states (8 bytes x tokens x hidden size in float32), one batch's
    outputs, and one Gram matrix in float64. With many processes each runs a share of the texts;
    they add up their sums, which are the same on all and differ from one process's by rounding.
    """
    fits = []
    hidden = list(embedded)
    layers: list[Any] = list(bert.encoder.layer)
    bar = distributed.bar(progress, layers, desc="repair", unit="layer")
    for index, layer in enumerate(bar):
        for kind in READS:
            wanted = next(dense_sums)
            fits.append(_refit(layer, plan, index, kind, hidden, wanted, ridge, weighting))
            for i, state in enumerate(hidden):
                written = _map(layer, kind)(_inputs(layer, kind, state))
                hidden[i] = _layer_norm(layer, kind)(state + written)
    return fits


def _map(layer: nn.Module, kind: str) -> Any:
    """The linear map of one kind."""
    return layer.get_submodule(WEIGHTS[kind])


def _inputs(layer: Any, kind: str, hidden: torch.Tensor) -> torch.Tensor:
    """What a residual map reads. The texts of a batch are equally long: no mask is needed."""
    if kind == "attention_output":
        return layer.attention.self(hidden)[0]
    return layer.intermediate(hidden)


def _layer_norm(layer: Any, kind: str) -> nn.Module:
    return (layer.attention.output if kind == "attention_output" else layer.output).LayerNorm


class _Sums(NamedTuple):
    """What a ridge regression needs of its rows, in float64: inputs x, less ``centre``, and
    residuals r.

    A residual is what is still missing in the map's output. Rows count by their weights. The
    centre, about the inputs' mean, keeps the products small where units put out large constants.
    """

    gram: torch.Tensor  # (inputs, inputs): x^T x
    cross: torch.Tensor  # (inputs, outputs): x^T r
    x: torch.Tensor  # (inputs,)
    r: torch.Tensor  # (outputs,)
    squares: torch.Tensor  # (): of all residuals
    rows: torch.Tensor  # (): the sum of their weights
    centre: torch.Tensor  # (inputs,): the same in all sums of a map

    def minus(self, other: _Sums) -> _Sums:
        parts = [one - two for one, two in zip(self[:-1], other[:-1], strict=True)]
        return _Sums._make([*parts, self.centre])


def _refit(
    layer: Any,
    plan: Plan,
    index: int,
    kind: str,
    hidden: list[torch.Tensor],
    wanted: list[torch.Tensor],
    ridge: float | str,
    weighting: str,
) -> Fit:
    """Refit one residual map by ridge regression, unless that would not lower its error.

    The unknown is the *change* of the weights, so that the ridge pulls towards the cut weights.
    The bias is not penalised.
    """
    linear = _map(layer, kind)
    sums, held = _summed(layer, kind, hidden, wanted, ridge, weighting)
    entries = sums.rows.item() * len(linear.bias)
    before = sums.squares.item() / entries
    if not math.isfinite(before):
        raise ValueError(f"layer {index}, {kind}: the model puts out values that are not finite")
    rows = torch.from_numpy(plan.kept[index, kind]).to(linear.bias.device)
    if isinstance(ridge, str):  # auto
        chosen = distributed.told_by_main(_best_ridge(sums, held, rows, linear.bias))
    else:
        chosen = float(ridge)
    change, bias = _solved(sums, rows, chosen, linear.bias)
    weight = (linear.weight + change.T[rows]).to(linear.weight.dtype)
    bias = bias.to(linear.bias.dtype)
    # The error is that of the weights as they are stored, after rounding.
    change[:, rows] = (weight.double() - linear.weight.double()).T
    squares = _squares_after(sums, change, bias.double() - linear.bias.double())
    # All processes go on with one and the same map, whatever their hardware makes of the sums.
    after = distributed.told_by_main(max(squares, 0.0) / entries)
    distributed.from_main(weight, bias)
    if after >= before:
        return Fit(index, kind, before, before, chosen)
    linear.weight.copy_(weight)
    linear.bias.copy_(bias)
    return Fit(index, kind, before, after, chosen)


def _summed(
    layer: Any,
    kind: str,
    hidden: list[torch.Tensor],
    wanted: list[torch.Tensor],
    ridge: float | str,
    weighting: str,
) -> tuple[_Sums, _Sums]:
    """The sums over all tokens of all processes; beside them, for the choice of a ridge, those of
    the batches held out.

    A batch's products are taken in float32, in half the time, unless the ridge is too small to
    cover their rounding; they are added up in float64.
    """
    linear = _map(layer, kind)
    inputs, outputs = linear.weight.shape[1], len(linear.bias)
    sizes = ((inputs, inputs), (inputs, outputs), (inputs,), (outputs,), (), ())
    options: dict[str, Any] = {"dtype": torch.float64, "device": linear.bias.device}
    exact, hold_out = ridge != "auto" and float(ridge) < SMALL_RIDGE, ridge == "auto"
    work = torch.float64 if exact else torch.float32
    centre = torch.zeros(inputs, **options).to(work)
    if hidden:
        centre = _inputs(layer, kind, hidden[0]).flatten(0, 1).to(work).mean(dim=0)
    distributed.from_main(centre)
    sums, held = (
        _Sums._make([*(torch.zeros(size, **options) for size in sizes), centre.double()])
        for _ in range(2)
    )
    weights = _weights(wanted, weighting)
    for place, (state, target, weight) in enumerate(zip(hidden, wanted, weights, strict=True)):
        x = _inputs(layer, kind, state)  # (texts, tokens, inputs)
        r = (target - state - linear(x)).flatten(0, 1).to(work)  # (rows, outputs)
        x = x.flatten(0, 1).to(work) - centre  # (rows, inputs)
        weight = weight.to(work)
        weighted = weight[:, None] * r
        part = (
            x.T @ (weight[:, None] * x),
            x.T @ weighted,
            weight @ x,
            weight @ r,
            (weighted * r).sum(dtype=torch.float64),
            weight.sum(dtype=torch.float64),
        )
        for total in (sums, held) if hold_out and place % HELD_OUT == 0 else (sums,):
            for one, more in zip(total[:-1], part, strict=True):
                one.add_(more)
    distributed.add_up(*sums[:-1])
    if hold_out:
        distributed.add_up(*held[:-1])
    return sums, held


def _weights(wanted: list[torch.Tensor], weighting: str) -> list[torch.Tensor]:
    """For each batch ``(rows,)``: how much its tokens count, given the sums of the dense layer."""
    if weighting == "none":
        return [each.new_ones(each.shape[:2]).flatten() for each in wanted]
    variances = [each.flatten(0, 1).float().var(dim=1, correction=0) for each in wanted]
    total = sum(each.double().sum().item() for each in variances)
    sums = torch.tensor([total, sum(map(len, variances))], dtype=torch.float64)
    distributed.add_up(sums)
    # A constant sum is divided by LayerNorm's epsilon; no token may outweigh all others so.
    floor = (1e-3 * sums[0] / sums[1]).item() + 1e-12
    return [1 / each.clamp_min(floor) for each in variances]


def _best_ridge(sums: _Sums, held: _Sums, rows: torch.Tensor, bias: torch.Tensor) -> float:
    """The ridge that, fitted to the other batches, leaves least error on those held out."""
    others = sums.minus(held)
    if not (held.rows > 0 and others.rows > 0):
        return RIDGE
    errors = {}
    for ridge in RIDGES:
        change, refitted = _solved(others, rows, ridge, bias)
        errors[ridge] = _squares_after(held, change, (refitted - bias).double())
    return min(errors, key=errors.__getitem__)


def _solved(
    sums: _Sums, rows: torch.Tensor, ridge: float, bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The change of the weights, (inputs, outputs), in some rows only; the bias, (outputs,)."""
    inputs, count = len(sums.x), sums.rows.item()
    mean_x, mean_r = sums.x / count, sums.r / count
    centred = sums.gram - count * torch.outer(mean_x, mean_x)
    # Never below the rounding of the sums: constant inputs leave nothing but that.
    floor = 1e-12 * sums.gram.diagonal().max().item() if inputs else 0.0
    penalty = max(ridge * centred.diagonal().mean().item() if inputs else 0.0, floor)
    centred.diagonal().add_(penalty or 1.0)
    change = torch.zeros_like(sums.cross)
    change[:, rows] = torch.cholesky_solve(
        (sums.cross - count * torch.outer(mean_x, mean_r))[:, rows], torch.linalg.cholesky(centred)
    )
    return change, bias + mean_r - (sums.centre + mean_x) @ change


def _squares_after(sums: _Sums, change: torch.Tensor, shift: torch.Tensor) -> float:
    """The sum of the squared residuals after a change of the weights and the bias."""
    shift = shift + sums.centre @ change
    return (
        sums.squares.item()
        + (
            (change * (sums.gram @ change)).sum()
            - 2 * (change * sums.cross).sum()
            + 2 * ((sums.x @ change) * shift).sum()
            - 2 * (sums.r * shift).sum()
            + sums.rows * shift.square().sum()
        ).item()
    )
