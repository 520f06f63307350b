"""The compressed BERT: a transformers model whose matrices are really smaller.

This file imports torch and transformers only. ``save_pretrained`` copies it into the saved
folder, so that the model loads with ``trust_remote_code=True`` where obce isn't installed.

The structure (how wide every map is) is in the configuration; the weights, and which residual
coordinates are written, are in the safetensors file. Three things differ from transformers' BERT:

* query, key and value have their own widths, head by head; the attention scale stays that of
  the dense head, whatever the width;
* ``attention.output.dense`` and ``output.dense`` may write some residual coordinates only;
* widths may be 0: a head, a whole attention or a whole feed-forward may have been removed.

And where nothing but the first token's output is read, as a classifier does, the last layer
computes that of no other token: see :func:`reads_first_token`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import nn
from torch.nn import functional as F

if int(transformers.__version__.split(".")[0]) < 5:
    raise ImportError(
        f"this model needs transformers 5 or newer, here is {transformers.__version__}: "
        "pip install -U transformers"
    )

from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    BertPreTrainedModel,
)
from transformers.activations import ACT2FN
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bert.modeling_bert import (
    BertIntermediate,
    BertLayer,
    BertSelfAttention,
    eager_attention_forward,
)


class ObceBertConfig(BertConfig):
    r"""A ``BertConfig`` of the dense model and, in ``layer_widths``, what each layer kept.

    layer_widths (`list[dict]`): for each layer ``query_key`` and ``value``, a width per dense
        head; ``attention_output``, ``intermediate`` and ``output``, a number of units. ``None``
        means that nothing was removed.

    >>> config = ObceBertConfig(hidden_size=4, num_hidden_layers=1, num_attention_heads=2,
    ...                         intermediate_size=8)
    >>> config.layer_widths[0]["value"], config.layer_widths[0]["intermediate"]
    ([2, 2], 8)
    """

    model_type = "obce_bert"
    layer_widths: Any = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.layer_widths is None:
            per_head = [self.hidden_size // self.num_attention_heads] * self.num_attention_heads
            self.layer_widths = [
                {
                    "query_key": list(per_head),
                    "value": list(per_head),
                    "attention_output": self.hidden_size,
                    "intermediate": self.intermediate_size,
                    "output": self.hidden_size,
                }
                for _ in range(self.num_hidden_layers)
            ]


class UninitializedLinear(nn.Linear):
    """``nn.Linear`` that leaves its numbers to transformers, or to the file that is loaded.

    A model to be loaded is built on the meta device first, where there are no numbers to draw;
    torch would still go through its initialization there, which takes a good part of the time of
    loading. And torch warns when it initializes an empty map.
    """

    def reset_parameters(self) -> None:
        pass


def linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """An ``nn.Linear`` whose numbers are not drawn.

    Unless it is empty, its class is ``nn.Linear`` itself: torch's ``quantize_dynamic`` and other
    tools find linear maps by their exact class.

    >>> linear(3, 2)
    Linear(in_features=3, out_features=2, bias=True)
    """
    made = UninitializedLinear(inputs, outputs, bias)
    if made.weight.numel():
        made.__class__ = nn.Linear  # type: ignore[assignment]
    return made


class ResidualLinear(nn.Module):
    """A map onto the residual stream that writes some of its coordinates.

    Args:
        inputs: units that it reads.
        kept: coordinates that it writes.
        hidden: coordinates of the residual stream.

    Attributes:
        linear: from ``inputs`` to ``kept``, without a bias.
        bias: ``(hidden,)``, of all coordinates: the constant of a removed unit stays there.
        rows: ``(kept,)`` the coordinates that are written, in ascending order.

    >>> ResidualLinear(inputs=3, kept=2, hidden=4)(torch.ones(1, 1, 3)).shape
    torch.Size([1, 1, 4])
    """

    def __init__(self, inputs: int, kept: int, hidden: int):
        super().__init__()
        self.linear = linear(inputs, kept, bias=False)
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.rows = nn.Buffer(torch.arange(kept))

    @property
    def weight(self) -> torch.Tensor:
        """``(kept, inputs)``"""
        return self.linear.weight

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """``(batch, tokens, inputs)`` -> ``(batch, tokens, hidden)``"""
        shape = (*hidden_states.shape[:-1], len(self.bias))
        if 0 in (self.linear.in_features, self.linear.out_features):
            return self.bias.expand(shape)
        written = self.linear(hidden_states)  # (batch, tokens, kept)
        return self.bias.expand(shape).index_add(-1, self.rows, written.to(self.bias.dtype))


class Columns(nn.Module):
    """Takes columns of (batch, tokens, inputs) by number; the number ``inputs`` gives zeros.

    One gather moves all heads of unequal widths into place, where slicing and padding them one
    by one would be dozens of small steps.

    >>> Columns([1, 0, 2], inputs=2)(torch.tensor([[[5.0, 7.0]]]))
    tensor([[[7., 5., 0.]]])
    """

    def __init__(self, numbers: list[int], inputs: int):
        super().__init__()
        self.pads = inputs in numbers
        # Computed from the configuration and in no file, so it must not be a buffer: loading would
        # leave a buffer on the meta device, where models are built, and fill it with anything.
        self.index = torch.tensor(numbers, device="cpu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.index.device != x.device:
            with torch.inference_mode(False):  # or training could not use it later
                self.index = self.index.to(x.device)
        x = F.pad(x, (0, 1)) if self.pads else x  # a column of zeros behind the last
        # On a CPU, index_select takes columns of a matrix several times faster.
        return x.flatten(0, 1).index_select(1, self.index).unflatten(0, x.shape[:2])


class ObceSelfAttention(BertSelfAttention):
    """Self-attention whose heads may be unequally wide, empty or gone.

    A head without value units is gone. A head with value units but without query and key units
    attends to all tokens alike, which is what a dense head with masked queries does. It inherits
    from BertSelfAttention so that transformers finds it when attentions are asked for.
    """

    def __init__(self, config: ObceBertConfig, layer_idx: int):
        nn.Module.__init__(self)  # the dense maps are not wanted
        self.config = config
        self.layer_idx = layer_idx
        self.is_causal = False
        self.scaling = (config.hidden_size // config.num_attention_heads) ** -0.5
        widths = config.layer_widths[layer_idx]
        self.pair_widths, self.value_widths = list(widths["query_key"]), list(widths["value"])
        pairs, values = sum(self.pair_widths), sum(self.value_widths)
        self.query = linear(config.hidden_size, pairs)
        self.key = linear(config.hidden_size, pairs)
        self.value = linear(config.hidden_size, values)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self.live = [head for head, width in enumerate(self.value_widths) if width]
        # One width for all live heads, since the fast kernels take no other, and a multiple of 8,
        # which fills vector registers: kernels are slower at a width of 19 than at 24.
        widest = max(self.pair_widths + self.value_widths)
        self.width = min(-(-widest // 8) * 8, config.hidden_size // config.num_attention_heads)
        self.spread_pairs = self._spread(self.pair_widths)
        self.spread_values = self._spread(self.value_widths)
        self.join = None
        if self.spread_values is not None:  # the same columns in the other direction
            spread = self.spread_values.index.tolist()
            position = {unit: column for column, unit in enumerate(spread)}
            self.join = Columns([position[unit] for unit in range(values)], len(spread))

    def _spread(self, widths: list[int]) -> Columns | None:
        """What moves heads of unequal widths apart; None if the live ones are equally wide."""
        units = sum(widths)
        if units == len(self.live) * max(widths[head] for head in self.live or [0]):
            return None
        starts = [sum(widths[:head]) for head in range(len(widths))]
        return Columns(
            [
                starts[head] + column if column < widths[head] else units  # which gives zeros
                for head in self.live
                for column in range(self.width)
            ],
            units,
        )

    def heads(self, projected: torch.Tensor, spread: Columns | None) -> torch.Tensor:
        """(batch, tokens, sum of widths) -> (batch, live heads, tokens, width), padded by zeros.

        Zeros add nothing to the products of queries and keys, and the columns that they give
        in the values are dropped again. Heads that are gone are left out.
        """
        heads = len(self.live)
        if spread is not None:
            return spread(projected).unflatten(-1, (heads, self.width)).transpose(1, 2)
        width = projected.shape[-1] // heads
        split = projected.unflatten(-1, (heads, width))  # (batch, tokens, live heads, width)
        split = F.pad(split, (0, self.width - width)) if width < self.width else split
        return split.transpose(1, 2)

    def forward(  # type: ignore[override]
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        asking: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(batch, tokens, hidden) -> (batch, asking, sum of value widths), attention weights.

        ``asking`` (batch, asking, hidden) are the tokens that attend to all tokens: all, if None.
        """
        asking = hidden_states if asking is None else asking
        if not self.live:
            batch, tokens = hidden_states.shape[:2]
            eager = self.config._attn_implementation == "eager"
            none = hidden_states.new_empty(batch, 0, asking.shape[1], tokens) if eager else None
            return asking[..., :0], none
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        context, weights = attend(  # weights: (batch, live heads, tokens, tokens), if eager
            self,
            self.heads(self.query(asking), self.spread_pairs),
            self.heads(self.key(hidden_states), self.spread_pairs),
            self.heads(self.value(hidden_states), self.spread_values),
            attention_mask,
            dropout=self.dropout.p if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )  # context: (batch, asking, live heads, width)
        if self.join is not None:
            return self.join(context.flatten(-2)), weights
        return context[..., : self.value_widths[self.live[0]]].flatten(-2), weights


class Intermediate(BertIntermediate):
    """The feed-forward part's first map and its activation function, ``inner`` units wide."""

    def __init__(self, config: ObceBertConfig, inner: int):
        nn.Module.__init__(self)  # the dense map is not wanted
        self.dense = linear(config.hidden_size, inner)
        self.intermediate_act_fn = ACT2FN[config.hidden_act]


class Residual(nn.Module):
    """A map onto the residual stream, the sum with the stream, and its LayerNorm."""

    def __init__(self, config: ObceBertConfig, inputs: int, kept: int):
        super().__init__()
        hidden = config.hidden_size
        whole = inputs > 0 and kept == hidden  # a plain map does
        self.dense = linear(inputs, hidden) if whole else ResidualLinear(inputs, kept, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, inputs: torch.Tensor, stream: torch.Tensor) -> torch.Tensor:
        written = self.dense(inputs)
        return self.LayerNorm((self.dropout(written) if self.training else written) + stream)


class ObceLayer(BertLayer):
    """A BertLayer with the compressed maps, whose forward pass calls them directly.

    The wrappers and checks of transformers' BertLayer are left out: on a short text they take as
    long as some of the maps, and they would not shrink with the maps.
    """

    attention: Any
    output: Any

    def __init__(self, config: ObceBertConfig, layer_idx: int):
        nn.Module.__init__(self)  # the dense maps are not wanted
        widths = config.layer_widths[layer_idx]
        inner = widths["intermediate"]
        self.attention = nn.Module()
        self.attention.self = ObceSelfAttention(config, layer_idx)
        self.attention.output = Residual(config, sum(widths["value"]), widths["attention_output"])
        self.intermediate = Intermediate(config, inner)
        self.output = Residual(config, inner, widths["output"])
        self.is_last = layer_idx == config.num_hidden_layers - 1

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None,
        past_key_values: Any = None,
        first_only: bool = False,
        **kwargs: Any,
    ) -> torch.Tensor:
        """(batch, tokens, hidden) -> the same; with ``first_only`` the last layer gives (batch, 1,
        hidden). Masks that are not (batch, heads, tokens, tokens), of kernels that have their own,
        are not cut to the first token; there the whole layer is computed."""
        stream = hidden_states
        whole_mask = attention_mask is not None and getattr(attention_mask, "ndim", 0) != 4
        if first_only and self.is_last and not whole_mask:
            stream = hidden_states[:, :1]
            attention_mask = None if attention_mask is None else attention_mask[:, :, :1]
        attended, _ = self.attention.self(hidden_states, attention_mask, asking=stream, **kwargs)
        hidden_states = self.attention.output(attended, stream)
        return self.output(self.intermediate(hidden_states), hidden_states)


class CompressedBert(BertPreTrainedModel):
    """Mixed into transformers' BERT classes: swaps the dense maps for the compressed ones."""

    config_class = ObceBertConfig

    def __init__(self, config: ObceBertConfig, *args: Any, **kwargs: Any):
        if config.is_decoder or config.add_cross_attention:
            raise ValueError("a compressed BERT is an encoder: is_decoder is not supported")
        layers = config.num_hidden_layers
        if len(config.layer_widths) != layers:
            raise ValueError(f"layer_widths has {len(config.layer_widths)} layers, not {layers}")
        config.num_hidden_layers = 0  # building the dense layers would take time
        try:
            super().__init__(config, *args, **kwargs)
        finally:
            config.num_hidden_layers = layers
        bert: Any = self if isinstance(self, BertModel) else self.bert
        bert.encoder.layer.extend(ObceLayer(config, index) for index in range(layers))
        self.init_weights()  # of the new layers: transformers has marked the others as done

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | os.PathLike, **kwargs: Any
    ) -> None:
        """As transformers does; all classes of this file load from the folder's copy of it."""
        module = __name__.split(".")[-1]
        self.config.auto_map = {"AutoConfig": f"{module}.ObceBertConfig"} | {
            auto: f"{module}.{cls.__name__}" for auto, cls in AUTO_CLASSES.items()
        }
        super().save_pretrained(save_directory, **kwargs)


def reads_first_token(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Of a head that reads the pooler only: its forward pass, with the last layer for one token.

    The pooler reads the first token, [CLS]. So in the last layer the other tokens' queries,
    residuals and feed-forward are computed for nobody; their keys and values are needed. The
    logits are the same, to rounding. Who asks for hidden states or attentions gets all of them;
    so does who calls ``model.bert`` itself.
    """

    @functools.wraps(forward)  # the signature, too, by which transformers' Trainer sorts inputs
    def first_token(self: Any, *args: Any, **kwargs: Any) -> Any:
        names = ("output_hidden_states", "output_attentions")
        asked = any(kwargs.get(name) or getattr(self.config, name, False) for name in names)
        return forward(self, *args, first_only=not asked, **kwargs)

    return first_token


class ObceBertModel(CompressedBert, BertModel):
    """``BertModel``, compressed."""


class ObceBertForSequenceClassification(CompressedBert, BertForSequenceClassification):
    """``BertForSequenceClassification``, compressed."""

    forward = reads_first_token(BertForSequenceClassification.forward)


class ObceBertForMaskedLM(CompressedBert, BertForMaskedLM):
    """``BertForMaskedLM``, compressed."""


class ObceBertForPreTraining(CompressedBert, BertForPreTraining):
    """``BertForPreTraining``, compressed."""


class ObceBertForTokenClassification(CompressedBert, BertForTokenClassification):
    """``BertForTokenClassification``, compressed."""


class ObceBertForQuestionAnswering(CompressedBert, BertForQuestionAnswering):
    """``BertForQuestionAnswering``, compressed."""


class ObceBertForMultipleChoice(CompressedBert, BertForMultipleChoice):
    """``BertForMultipleChoice``, compressed."""

    forward = reads_first_token(BertForMultipleChoice.forward)


class ObceBertForNextSentencePrediction(CompressedBert, BertForNextSentencePrediction):
    """``BertForNextSentencePrediction``, compressed."""

    forward = reads_first_token(BertForNextSentencePrediction.forward)


AUTO_CLASSES = {
    "AutoModel": ObceBertModel,
    "AutoModelForSequenceClassification": ObceBertForSequenceClassification,
    "AutoModelForMaskedLM": ObceBertForMaskedLM,
    "AutoModelForPreTraining": ObceBertForPreTraining,
    "AutoModelForTokenClassification": ObceBertForTokenClassification,
    "AutoModelForQuestionAnswering": ObceBertForQuestionAnswering,
    "AutoModelForMultipleChoice": ObceBertForMultipleChoice,
    "AutoModelForNextSentencePrediction": ObceBertForNextSentencePrediction,
}

# Marks the classes as custom code, which makes save_pretrained copy this file.
ObceBertConfig.register_for_auto_class()
for _auto, _class in AUTO_CLASSES.items():
    _class.register_for_auto_class(_auto)
