"""What a unit is: the output coordinates of a BERT layer's six linear maps, and their cost.

A *unit* (neuron) is named by its layer, its kind and its index, for example unit 17 of
``(3, "intermediate")``. This module reads shapes and counts parameters; it knows no scores.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

from torch import nn
from transformers import BertConfig, BertModel

from obce.base.settings import KINDS

MODEL_TYPE = "obce_bert"
"""What a compressed model's configuration calls itself."""

# Inside one BertLayer: the module whose output is the units' outputs. For ``intermediate`` that
# is the module that holds the linear map and its GELU.
OUTPUTS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "intermediate": "intermediate",
    "output": "output.dense",
}
# And the linear map: a unit is one row of its weight matrix, with one entry of its bias.
WEIGHTS = OUTPUTS | {"intermediate": "intermediate.dense"}
# The maps that write to the residual stream, and the kind of unit that each of them reads. The
# other maps read the stream itself.
READS = {"attention_output": "value", "output": "intermediate"}

Group = tuple[int, str]
"""(layer, kind): the address of one group of units."""


class Parameters(NamedTuple):
    """Parameter counts of a model; tied matrices count once. ``head`` is all that is neither
    embeddings nor encoder: the pooler and whatever task head sits on top."""

    total: int
    encoder: int
    embeddings: int
    head: int


@dataclass(frozen=True)
class Shape:
    """The widths of a dense BERT encoder: all that a plan has to know of a model.

    Raises:
        ValueError: numbers that no BERT has.

    >>> base = Shape(layers=12, hidden=768, heads=12, intermediate=3072)
    >>> base.units, base.head_size, base.width("intermediate")
    (82944, 64, 3072)
    """

    layers: int
    hidden: int
    heads: int
    intermediate: int

    def __post_init__(self) -> None:
        for name, value in self.as_dict().items():
            if type(value) is not int or value < 1:
                raise ValueError(f"{name}={value!r:.40}: it must be a whole number above 0")
        if self.hidden % self.heads:
            raise ValueError(f"hidden={self.hidden} cannot be shared by heads={self.heads}")

    @property
    def head_size(self) -> int:
        """Query, key or value units of one head."""
        return self.hidden // self.heads

    def width(self, kind: str) -> int:
        """Number of units of one kind in one layer."""
        return self.intermediate if kind == "intermediate" else self.hidden

    @property
    def units(self) -> int:
        """Number of units in the whole encoder (82,944 for BERT-base)."""
        return self.layers * sum(self.width(kind) for kind in KINDS)

    def layer_parameters(self, counts: dict[str, int]) -> int:
        """Parameters of one layer that keeps ``counts[kind]`` units of each kind.

        A removed query or key unit takes its row and its bias. A removed value or intermediate
        unit also takes its column of the map that reads it. A removed unit of a residual map
        takes its row only: its bias stays, as the constant that may still be written there.
        """
        d = self.hidden
        attention_in = (counts["query"] + counts["key"] + counts["value"]) * (d + 1)
        attention_out = counts["attention_output"] * counts["value"] + d
        feed_forward_in = counts["intermediate"] * (d + 1)
        feed_forward_out = counts["output"] * counts["intermediate"] + d
        layer_norms = 2 * 2 * d
        return attention_in + attention_out + feed_forward_in + feed_forward_out + layer_norms

    def layer_multiply_adds(
        self, counts: dict[str, int], tokens: int, asking: int | None = None
    ) -> int:
        """Multiply-adds of one layer that keeps ``counts[kind]`` units, for one text of ``tokens``.

        Each weight of the six maps meets each token once. In attention each pair of tokens costs
        one multiply-add for each query-key pair of units (the score) and one for each value unit
        (the mean). Biases, softmax, GELU and LayerNorms are left out. Where the layer's outputs of
        some tokens only are read, ``asking`` is their number: of the others it needs no more than
        keys and values.
        """
        d, asking = self.hidden, tokens if asking is None else asking
        of_all = (counts["key"] + counts["value"]) * d
        of_asking = counts["query"] * d + counts["value"] * counts["attention_output"]
        of_asking += counts["intermediate"] * (d + counts["output"])
        pairs = asking * tokens * (counts["query"] + counts["value"])
        return tokens * of_all + asking * of_asking + pairs

    @classmethod
    def of(cls, config: BertConfig) -> Shape:
        """The widths that a configuration states (of a compressed model: those of its original)."""
        return cls(
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
            config.intermediate_size,
        )

    @property
    def full(self) -> dict[str, int]:
        """Units of each kind in one layer."""
        return {kind: self.width(kind) for kind in KINDS}

    def groups(self) -> list[Group]:
        """All groups of units: every layer, every kind."""
        return [(layer, kind) for layer in range(self.layers) for kind in KINDS]

    def as_dict(self) -> dict[str, int]:
        """The four numbers by name."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.layers} layers, hidden size {self.hidden}, {self.heads} heads, "
            f"intermediate size {self.intermediate}"
        )


def find_bert(model: nn.Module) -> BertModel:
    """The one ``BertModel`` inside ``model``, which may be that BertModel itself.

    Raises:
        ValueError: there is none, or more than one, or it is a decoder.

    >>> find_bert(nn.Linear(2, 2))
    Traceback (most recent call last):
    ValueError: Linear is no BERT: it holds no transformers BertModel
    """
    name = type(model).__name__
    modules = model.modules() if isinstance(model, nn.Module) else ()
    berts = [module for module in modules if isinstance(module, BertModel)]
    if not berts:
        raise ValueError(f"{name} is no BERT: it holds no transformers BertModel")
    if len(berts) > 1:
        raise ValueError(f"{name} holds {len(berts)} BertModels; pass one of them")
    bert = berts[0]
    if bert.config.is_decoder or bert.config.add_cross_attention:
        raise ValueError(f"{name} is a BERT decoder; only encoders can be analyzed")
    return bert


def is_compressed(model: nn.Module) -> bool:
    """Whether ``model`` holds a BERT that obce has already made smaller.

    >>> import obce
    >>> model, _ = obce.load_bert()
    >>> is_compressed(model)
    False
    """
    return find_bert(model).config.model_type == MODEL_TYPE


def dense_bert(model: nn.Module) -> BertModel:
    """:func:`find_bert`, for functions that need the dense maps of every layer.

    Raises:
        ValueError: as :func:`find_bert`; or the model is compressed already, holds adapters, or
            its maps are of other widths than its configuration says.

    >>> import obce
    >>> model, _ = obce.load_bert()
    >>> dense_bert(model) is model
    True
    """
    bert = find_bert(model)
    if is_compressed(model):
        raise ValueError(
            "this model is compressed already; analyze, plan and compress its dense original"
        )
    shape = Shape.of(bert.config)
    for layer, kind in shape.groups():
        linear = bert.encoder.layer[layer].get_submodule(WEIGHTS[kind])
        if not isinstance(linear, nn.Linear):
            raise ValueError(
                f"layer {layer}, {kind}: this map is a {type(linear).__name__}, not a linear map; "
                "merge adapters into the model first, or unload them"
            )
        if linear.out_features != shape.width(kind):
            raise ValueError(
                f"layer {layer}, {kind}: this map has {linear.out_features} units, not "
                f"{shape.width(kind)} as the configuration says"
            )
    return bert


def shape_of(model: nn.Module) -> Shape:
    """The ``Shape`` of the dense BERT inside ``model``.

    Raises:
        ValueError: as :func:`dense_bert`.

    >>> import torch, transformers
    >>> with torch.device("meta"):  # BERT-base without its weights
    ...     model = transformers.BertModel(transformers.BertConfig())
    >>> print(shape_of(model))
    12 layers, hidden size 768, 12 heads, intermediate size 3072
    """
    return Shape.of(dense_bert(model).config)


def count_multiply_adds(
    model: nn.Module, texts: int = 1, tokens: int = 128, first_only: bool = False
) -> int:
    """Multiply-adds of one forward pass of the BertModel inside ``model``, dense or compressed.

    The encoder by :meth:`Shape.layer_multiply_adds`, and the pooler; embeddings are looked up and
    cost none, and a task's head is left out.

    Args:
        texts, tokens: the size of the batch.
        first_only: whether the last layer's output is computed for each text's first token alone,
            as a compressed classifier does.

    Returns:
        multiply-adds; twice as many floating-point operations (FLOPs).

    Raises:
        ValueError: ``model`` holds no BERT, or there are no texts or tokens.

    >>> import torch, transformers
    >>> with torch.device("meta"):  # BERT-base without its weights
    ...     model = transformers.BertModel(transformers.BertConfig())
    >>> count_multiply_adds(model, texts=1, tokens=128)
    11174215680
    """
    if texts < 1 or tokens < 1:
        raise ValueError(f"texts={texts}, tokens={tokens}: there must be at least one of each")
    bert = find_bert(model)
    config = bert.config
    shape = Shape.of(config)
    if is_compressed(model):
        layers = [_counts_of(widths) for widths in config.layer_widths]
    else:
        layers = [shape.full] * shape.layers
    encoder = sum(shape.layer_multiply_adds(counts, tokens) for counts in layers[:-1])
    encoder += shape.layer_multiply_adds(layers[-1], tokens, 1 if first_only else tokens)
    pooler = shape.hidden**2 if getattr(bert, "pooler", None) is not None else 0
    return texts * (encoder + pooler)


def _counts_of(widths: dict) -> dict[str, int]:
    """Units per kind of one entry of a compressed model's ``layer_widths``."""
    pairs = sum(widths["query_key"])
    residual = {kind: widths[kind] for kind in ("attention_output", "intermediate", "output")}
    return {"query": pairs, "key": pairs, "value": sum(widths["value"])} | residual


def count_parameters(model: nn.Module) -> Parameters:
    """Count the parameters of a BERT, dense or compressed.

    Returns:
        ``Parameters(total, encoder, embeddings, head)``.

    Raises:
        ValueError: ``model`` holds no BERT.

    >>> import torch, transformers
    >>> with torch.device("meta"):  # BERT-base without its weights
    ...     model = transformers.BertModel(transformers.BertConfig())
    >>> count_parameters(model)
    Parameters(total=109482240, encoder=85054464, embeddings=23837184, head=590592)
    """
    bert = find_bert(model)

    def size(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())  # shared tensors are listed once

    total, encoder, embeddings = size(model), size(bert.encoder), size(bert.embeddings)
    return Parameters(total, encoder, embeddings, total - encoder - embeddings)
