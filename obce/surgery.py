"""The cut: a plan and a dense BERT in, a really smaller BERT out.

The compressed model holds the rows and columns of the dense matrices that the plan keeps, and
nothing is repaired: :mod:`obce.repairs` does that.
"""

from __future__ import annotations

import copy

import torch
import transformers
from torch import nn

from obce import modeling
from obce.modeling import ObceBertConfig
from obce.pruning import Plan
from obce.units import READS, WEIGHTS, find_bert


def cut(model: transformers.PreTrainedModel, plan: Plan) -> transformers.PreTrainedModel:
    """Cut a BERT to a plan: a new model of the kept rows and columns of the dense one's matrices.

    Args:
        model: the dense model, a transformers BERT of any of the classes in
            ``obce.modeling.AUTO_CLASSES``. It is not changed.
        plan: from :func:`obce.plan <obce.pruning.plan>`.

    Returns:
        the compressed model, in evaluation mode, on the dense one's device and in its dtype.

    Raises:
        ValueError: no BERT, a class that isn't supported, or a plan for another shape.

    >>> import obce
    >>> model, tokenizer = obce.load_bert()
    >>> plan = obce.plan(model, obce.score(None, "magnitude", model=model), keep_encoder=0.5)
    >>> small = obce.cut(model, plan)
    >>> small(**tokenizer("A good film.", return_tensors="pt")).last_hidden_state.shape
    torch.Size([1, 6, 384])
    """
    plan.check(model)
    name = f"Obce{type(model).__name__}"
    if name not in {cls.__name__ for cls in modeling.AUTO_CLASSES.values()}:
        raise ValueError(
            f"cannot compress a {type(model).__name__}; of the transformers classes, "
            f"{', '.join(cls.__name__[4:] for cls in modeling.AUTO_CLASSES.values())} can be"
        )
    bert, weights = find_bert(model), model.state_dict()
    prefix = "" if bert is model else "bert."
    for layer in range(plan.shape.layers):
        _cut_layer(weights, f"{prefix}encoder.layer.{layer}.", plan, layer)
    pooled = getattr(bert, "pooler", None) is not None
    options = {"add_pooling_layer": pooled} if prefix == "" else {}
    with torch.device("meta"):
        small = getattr(modeling, name)(_config(model.config, plan), **options)
    copies = {name: tensor.clone() for name, tensor in weights.items()}
    missing, foreign = small.load_state_dict(copies, strict=False, assign=True)
    if missing or foreign:
        raise ValueError(
            f"this model's weights are not those of a {type(model).__name__}: {len(missing)} are "
            f"missing, {len(foreign)} are others, such as {[*missing, *foreign][0]}"
        )
    _restore_buffers(model, small)
    small.tie_weights()
    return small.eval()


def layer_widths(plan: Plan) -> list[dict]:
    """What a compressed model's configuration says of each layer.

    >>> import obce
    >>> model, _ = obce.load_bert()
    >>> plan = obce.plan(model, obce.score(None, "magnitude", model=model), percentile=50)
    >>> layer_widths(plan)[0]["intermediate"], layer_widths(plan)[0]["value"][:3]
    (768, [16, 16, 16])
    """
    return [
        {
            "query_key": plan.head_widths(layer, "query"),
            "value": plan.head_widths(layer, "value"),
            "attention_output": len(plan.kept[layer, "attention_output"]),
            "intermediate": len(plan.kept[layer, "intermediate"]),
            "output": len(plan.kept[layer, "output"]),
        }
        for layer in range(plan.shape.layers)
    ]


def _config(dense: transformers.PreTrainedConfig, plan: Plan) -> ObceBertConfig:
    settings = copy.deepcopy(dense).to_dict()
    for name in ("model_type", "architectures", "transformers_version", "auto_map"):
        settings.pop(name, None)
    config = ObceBertConfig(**settings, layer_widths=layer_widths(plan))
    config._attn_implementation = dense._attn_implementation
    return config


def _cut_layer(weights: dict[str, torch.Tensor], path: str, plan: Plan, layer: int) -> None:
    """Slice one layer's matrices, in place in the dict of weights."""
    device = weights[f"{path}output.dense.bias"].device
    kept = {kind: torch.from_numpy(plan.kept[layer, kind]).to(device) for kind in WEIGHTS}
    for kind, name in WEIGHTS.items():
        linear, rows = f"{path}{name}", kept[kind]
        weight, bias = weights.pop(f"{linear}.weight"), weights[f"{linear}.bias"]
        if kind not in READS:
            weights[f"{linear}.weight"] = weight[rows]
            weights[f"{linear}.bias"] = bias[rows]
            continue
        columns = kept[READS[kind]]
        gone = torch.ones_like(bias, dtype=torch.bool)
        gone[rows] = False
        weights[f"{linear}.bias"] = bias.masked_fill(gone, 0)
        plain = len(rows) == len(bias) and len(columns) > 0  # else a modeling.ResidualLinear
        weights[f"{linear}.weight" if plain else f"{linear}.linear.weight"] = weight[rows][
            :, columns
        ]
        if not plain:
            weights[f"{linear}.rows"] = rows


def _restore_buffers(model: nn.Module, small: nn.Module) -> None:
    """Copy the buffers that no state dict holds (positions) from the dense model."""
    dense = dict(model.named_buffers())
    for name, buffer in list(small.named_buffers()):
        if buffer.is_meta:
            owner, _, last = name.rpartition(".")
            setattr(small.get_submodule(owner), last, dense[name].clone())
