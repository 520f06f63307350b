"""The cut: a plan and a dense BERT in, a really smaller BERT out; and the repair of what is left.

``none`` only cuts. ``constant`` folds a typical output (the median) of each removed unit into the
bias of the map that read it. ``least_squares`` refits the two residual maps of every layer, one
after the other, on the already compressed model, so that each again gives what the dense one gave.
"""

from __future__ import annotations

import bisect
import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import transformers
from torch import nn
from tqdm.auto import tqdm

from obce import distributed, modeling
from obce.activations import Text, batches, encode, evaluating, length_limit, model_inputs
from obce.modeling import ObceBertConfig
from obce.pruning import Plan
from obce.units import find_bert

REPAIRS = ("none", "constant", "least_squares")
# On few calibration texts smaller ones fit what is chance: held-out error grows. On 2,000 texts
# 1e-4 to 0.1 gave nearly the same accuracy.
DEFAULT_RIDGE = 0.1

# Which residual map of a layer reads which units, and where they live in a BertLayer.
RESIDUAL_MAPS = {"attention_output": "attention.output.dense", "output": "output.dense"}
READS = {"attention_output": "value", "output": "intermediate"}
MEDIAN_TOKENS = 20_000


@dataclass
class Fit:
    """The calibration error of one residual map: the mean squared difference between what the
    dense layer and the compressed one put before the LayerNorm, before and after its refit."""

    layer: int
    kind: str
    before: float
    after: float


def compress(
    model,
    plan: Plan,
    *,
    repair: str = "none",
    texts: Sequence[Text] | None = None,
    tokenizer=None,
    max_length: int | None = None,
    batch_size: int = 32,
    ridge: float = DEFAULT_RIDGE,
    progress: bool = False,
):
    """Cut a BERT to a plan, and repair it.

    Args:
        model: the dense model, a transformers BERT of any of the classes in
            ``obce.modeling.AUTO_CLASSES``. It is not changed.
        plan: from :func:`obce.plan <obce.pruning.plan>`.
        repair: ``none``, ``constant`` or ``least_squares``.
        texts, tokenizer: calibration texts for the repairs other than ``none``; no labels.
        max_length: tokens to which they are cut; 64, if left out.
        ridge: for ``least_squares``, the weight of staying near the cut weights, relative to the
            mean variance of the inputs.

    Returns:
        the compressed model, in evaluation mode, on the dense one's device and in its dtype.
        After ``least_squares``, its attribute ``repair_fits`` lists a :class:`Fit` per map.

    Raises:
        ValueError: no BERT, a class that isn't supported, a plan for another shape, an unknown
            repair or one without texts.
    """
    if repair not in REPAIRS:
        raise ValueError(f"unknown repair {repair!r}; there are {', '.join(REPAIRS)}")
    if repair != "none" and (texts is None or tokenizer is None):
        raise ValueError(f"repair={repair!r} needs texts= and tokenizer= for calibration")
    if not ridge >= 0:
        raise ValueError(f"ridge={ridge}: it must not be negative")
    plan.check(model)
    small = cut(model, plan)
    if repair == "none":
        return small
    encodings = encode(tokenizer, texts, length_limit(find_bert(model), max_length))
    if repair == "constant":
        _repair_constant(model, small, plan, encodings, batch_size, progress)
    else:
        small.repair_fits = _repair_least_squares(
            model, small, plan, encodings, batch_size, ridge, progress
        )
    return small


def cut(model, plan: Plan):
    """The compressed model: the kept rows and columns of the dense one's matrices."""
    name = f"Obce{type(model).__name__}"
    if name not in {cls.__name__ for cls in modeling.AUTO_CLASSES.values()}:
        raise ValueError(
            f"cannot compress a {type(model).__name__}; of the transformers classes, "
            f"{', '.join(cls.__name__[4:] for cls in modeling.AUTO_CLASSES.values())} can be"
        )
    weights = model.state_dict()
    prefix = "" if find_bert(model) is model else "bert."
    for layer in range(plan.shape.layers):
        _cut_layer(weights, f"{prefix}encoder.layer.{layer}.", plan, layer)
    pooled = getattr(find_bert(model), "pooler", None) is not None
    options = {"add_pooling_layer": pooled} if prefix == "" else {}
    with torch.device("meta"):
        small = getattr(modeling, name)(_config(model.config, plan), **options)
    small.load_state_dict({key: value.clone() for key, value in weights.items()}, assign=True)
    _restore_buffers(model, small)
    small.tie_weights()
    return small.eval()


def _config(dense: transformers.BertConfig, plan: Plan) -> ObceBertConfig:
    settings = copy.deepcopy(dense).to_dict()
    for name in ("model_type", "architectures", "transformers_version", "auto_map"):
        settings.pop(name, None)
    widths = [
        {
            "query_key": plan.head_widths(layer, "query"),
            "value": plan.head_widths(layer, "value"),
            "attention_output": len(plan.kept[layer, "attention_output"]),
            "intermediate": len(plan.kept[layer, "intermediate"]),
            "output": len(plan.kept[layer, "output"]),
        }
        for layer in range(plan.shape.layers)
    ]
    config = ObceBertConfig(**settings, layer_widths=widths)
    config._attn_implementation = dense._attn_implementation
    return config


def _cut_layer(weights: dict[str, torch.Tensor], path: str, plan: Plan, layer: int) -> None:
    """Slice one layer's matrices, in place in the dict of weights."""
    kept = {
        kind: torch.from_numpy(plan.kept[layer, kind]).to(
            weights[f"{path}output.dense.bias"].device
        )
        for kind in ("query", "key", "value", "intermediate", *RESIDUAL_MAPS)
    }
    for kind in ("query", "key", "value"):
        for name in ("weight", "bias"):
            full = f"{path}attention.self.{kind}.{name}"
            weights[full] = weights[full][kept[kind]]
    for name in ("weight", "bias"):
        full = f"{path}intermediate.dense.{name}"
        weights[full] = weights[full][kept["intermediate"]]
    for kind, place in RESIDUAL_MAPS.items():
        rows, columns = kept[kind], kept[READS[kind]]
        weight, bias = weights[f"{path}{place}.weight"], weights[f"{path}{place}.bias"]
        gone = torch.ones_like(bias, dtype=torch.bool)
        gone[rows] = False
        weights[f"{path}{place}.weight"] = weight[rows][:, columns]
        weights[f"{path}{place}.bias"] = bias.masked_fill(gone, 0)
        if len(rows) < len(bias) or len(columns) == 0:  # else it stays a plain nn.Linear
            weights[f"{path}{place}.rows"] = rows


def _restore_buffers(model, small) -> None:
    """Buffers that no state dict holds (positions) come from the dense model."""
    dense = dict(model.named_buffers())
    for name, buffer in list(small.named_buffers()):
        if buffer.is_meta:
            owner, _, last = name.rpartition(".")
            setattr(small.get_submodule(owner), last, dense[name].clone())


def _repair_constant(model, small, plan, encodings, batch_size, progress) -> None:
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
    off = not (progress and distributed.is_main())
    bar = tqdm(layers, desc="repair", unit="layer", disable=off)
    with evaluating(model), torch.no_grad():
        hidden = _embedded(dense_bert, encodings, batches(encodings, batch_size))
        for index, (dense, compressed) in enumerate(bar):
            for kind, place in RESIDUAL_MAPS.items():
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


def _repair_least_squares(model, small, plan, encodings, batch_size, ridge, progress) -> list[Fit]:
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
    with evaluating(model), torch.no_grad():
        wanted = _embedded(dense_bert, encodings, groups)
        hidden = list(wanted)
        layers = list(zip(dense_bert.encoder.layer, small_bert.encoder.layer, strict=True))
        off = not (progress and distributed.is_main())
        bar = tqdm(layers, desc="repair", unit="layer", disable=off)
        for index, (dense, compressed) in enumerate(bar):
            for kind in RESIDUAL_MAPS:
                # ``wanted`` holds the dense sums for a moment, then their LayerNorms
                for i, state in enumerate(wanted):
                    wanted[i] = state + dense.get_submodule(RESIDUAL_MAPS[kind])(
                        _inputs(dense, kind, state)
                    )
                fits.append(_refit(compressed, plan, index, kind, hidden, wanted, ridge))
                for i, state in enumerate(hidden):
                    written = compressed.get_submodule(RESIDUAL_MAPS[kind])(
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
    place = layer.get_submodule(RESIDUAL_MAPS[kind])
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
