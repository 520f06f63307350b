"""The compressed BERT: a transformers model whose matrices are really smaller.

This file imports torch and transformers only. ``save_pretrained`` copies it into the saved
folder, so that the model loads with ``trust_remote_code=True`` where obce isn't installed.

The structure (how wide every map is) lives in the configuration, the weights and the places of
residual rows in the safetensors file. Three things differ from transformers' BERT:

* query, key and value have their own widths, head by head; the attention scale stays that of
  the dense head, whatever the width;
* ``attention.output.dense`` and ``output.dense`` may write some residual coordinates only;
* widths may be 0: a head, a whole attention or a whole feed-forward may have vanished.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
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
    """

    model_type = "obce_bert"
    layer_widths: list | None = None

    def __post_init__(self, **kwargs):
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


class Linear(nn.Linear):
    """``nn.Linear`` that may be empty, and that loads fast.

    A model to be loaded is built on the meta device first, where there are no numbers to draw.
    Going through the motions there, map by map, takes a good part of the time of loading.
    """

    def reset_parameters(self) -> None:
        if self.weight.is_meta:
            return
        if self.weight.numel():
            super().reset_parameters()
        else:  # which nn.Linear would warn of
            nn.init.zeros_(self.bias)


class ResidualLinear(nn.Module):
    """A map onto the residual stream that writes ``rows`` of its coordinates.

    ``weight`` is (kept, inputs) and ``rows`` names the kept coordinates, in ascending order;
    ``bias`` has all ``hidden`` entries: the constant of a removed unit stays there.
    """

    def __init__(self, inputs: int, kept: int, hidden: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(kept, inputs))
        if not self.weight.is_meta and self.weight.numel():
            nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # as nn.Linear does
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.rows = nn.Buffer(torch.arange(kept))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        kept, inputs = self.weight.shape
        shape = (*hidden_states.shape[:-1], len(self.bias))
        if 0 in (kept, inputs):
            return self.bias.expand(shape)
        written = F.linear(hidden_states, self.weight)
        return self.bias.expand(shape).index_add(-1, self.rows, written.to(self.bias.dtype))


class Columns(nn.Module):
    """Takes columns of (batch, tokens, inputs) by number; the number ``inputs`` gives zeros.

    One gather moves all heads of unequal widths into place, where slicing and padding them one
    by one would be dozens of small steps.
    """

    def __init__(self, numbers: list[int], inputs: int):
        super().__init__()
        self.pads = inputs in numbers
        # It follows from the configuration and is in no file. No buffer, then: loading would
        # leave it on the meta device, where models are built, and fill it with anything.
        self.index = torch.tensor(numbers, device="cpu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.index.device != x.device:
            with torch.inference_mode(False):  # or training could not use it later
                self.index = self.index.to(x.device)
        x = F.pad(x, (0, 1)) if self.pads else x
        # As a matrix: index_select takes columns of one several times faster on a CPU.
        return x.flatten(0, 1).index_select(1, self.index).unflatten(0, x.shape[:2])


class ObceSelfAttention(BertSelfAttention):
    """Self-attention whose heads may be unequally wide, empty or gone.

    A head without value units has vanished. A head with value units but without query and key
    units attends to all tokens alike, which is what a dense head with masked queries does.
    A BertSelfAttention by name, so that transformers finds it when attentions are asked for.
    """

    def __init__(self, config: ObceBertConfig, layer_idx: int):
        nn.Module.__init__(self)  # the dense maps are not wanted
        self.config = config
        self.layer_idx = layer_idx
        self.is_causal = False
        self.scaling = (config.hidden_size // config.num_attention_heads) ** -0.5
        widths = config.layer_widths[layer_idx]
        self.query_key, self.value_widths = list(widths["query_key"]), list(widths["value"])
        self.query = Linear(config.hidden_size, sum(self.query_key))
        self.key = Linear(config.hidden_size, sum(self.query_key))
        self.value = Linear(config.hidden_size, sum(self.value_widths))
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self.live = [head for head, width in enumerate(self.value_widths) if width]
        # One width for all heads that live, since the fast kernels take no other, and one that
        # fills vector registers: kernels are slower at 19 places than at 24.
        widest = max(self.query_key + self.value_widths)
        self.width = min(-(-widest // 8) * 8, config.hidden_size // config.num_attention_heads)
        self.spread_pairs = self._spread(self.query_key)
        self.spread_values = self._spread(self.value_widths)
        self.join = None
        if self.spread_values is not None:
            inputs = len(self.live) * self.width
            zeros = sum(self.value_widths)
            spread = self.spread_values.index.tolist()
            places = {number: place for place, number in enumerate(spread)}
            self.join = Columns([places[n] for n in range(zeros)], inputs)

    def _spread(self, widths: list[int]) -> Columns | None:
        """What takes heads of unequal widths apart; None if the live ones are equally wide."""
        if sum(widths) == len(self.live) * max(widths[head] for head in self.live or [0]):
            return None
        zeros, starts = sum(widths), [sum(widths[:head]) for head in range(len(widths))]
        return Columns(
            [
                starts[head] + place if place < widths[head] else zeros
                for head in self.live
                for place in range(self.width)
            ],
            zeros,
        )

    def heads(self, projected: torch.Tensor, spread: Columns | None) -> torch.Tensor:
        """(batch, tokens, sum of widths) -> (batch, live heads, tokens, width), padded by zeros.

        Zeros add nothing to the products of queries and keys, and the columns that they give
        in the values are dropped again. Vanished heads are left out.
        """
        heads = len(self.live)
        if spread is not None:
            return spread(projected).unflatten(-1, (heads, self.width)).transpose(1, 2)
        width = projected.shape[-1] // heads
        split = projected.unflatten(-1, (heads, width))
        split = F.pad(split, (0, self.width - width)) if width < self.width else split
        return split.transpose(1, 2)

    def forward(self, hidden_states, attention_mask=None, past_key_values=None, **kwargs):
        if not self.live:
            batch, tokens = hidden_states.shape[:2]
            eager = self.config._attn_implementation == "eager"
            none = hidden_states.new_empty(batch, 0, tokens, tokens) if eager else None
            return hidden_states[..., :0], none
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        context, weights = attend(
            self,
            self.heads(self.query(hidden_states), self.spread_pairs),
            self.heads(self.key(hidden_states), self.spread_pairs),
            self.heads(self.value(hidden_states), self.spread_values),
            attention_mask,
            dropout=self.dropout.p if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )  # context: (batch, tokens, live heads, width)
        if self.join is not None:
            return self.join(context.flatten(-2)), weights
        return context[..., : self.value_widths[self.live[0]]].flatten(-2), weights


class Intermediate(BertIntermediate):
    """The feed-forward part's first map and its activation function, ``inner`` units wide."""

    def __init__(self, config: ObceBertConfig, inner: int):
        nn.Module.__init__(self)  # the dense map is not wanted
        self.dense = Linear(config.hidden_size, inner)
        self.intermediate_act_fn = ACT2FN[config.hidden_act]


class Residual(nn.Module):
    """A map onto the residual stream, the sum with it and the LayerNorm behind."""

    def __init__(self, config: ObceBertConfig, inputs: int, kept: int):
        super().__init__()
        hidden = config.hidden_size
        whole = inputs and kept == hidden  # nothing that a plain map would not do
        self.dense = Linear(inputs, hidden) if whole else ResidualLinear(inputs, kept, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, inputs: torch.Tensor, stream: torch.Tensor) -> torch.Tensor:
        written = self.dense(inputs)
        return self.LayerNorm((self.dropout(written) if self.training else written) + stream)


class ObceLayer(BertLayer):
    """A BertLayer with the compressed maps, without wrapping and checking between its parts.

    On a short text these take as long as some of the maps, and would not shrink with them.
    """

    def __init__(self, config: ObceBertConfig, layer_idx: int):
        nn.Module.__init__(self)  # the dense maps are not wanted
        widths = config.layer_widths[layer_idx]
        values, inner = sum(widths["value"]), widths["intermediate"]
        self.attention = nn.Module()
        self.attention.self = ObceSelfAttention(config, layer_idx)
        self.attention.output = Residual(config, values, widths["attention_output"])
        self.intermediate = Intermediate(config, inner)
        self.output = Residual(config, inner, widths["output"])

    def forward(
        self,
        hidden_states,
        attention_mask=None,
        encoder_hidden_states=None,
        encoder_attention_mask=None,
        past_key_values=None,
        **kwargs,
    ):
        attended, _ = self.attention.self(hidden_states, attention_mask, **kwargs)
        hidden_states = self.attention.output(attended, hidden_states)
        return self.output(self.intermediate(hidden_states), hidden_states)


class CompressedBert:
    """Mixed into transformers' BERT classes: swaps the dense maps for the compressed ones."""

    config_class = ObceBertConfig

    def __init__(self, config: ObceBertConfig, *args, **kwargs):
        if config.is_decoder or config.add_cross_attention:
            raise ValueError("a compressed BERT is an encoder: is_decoder is not supported")
        layers = config.num_hidden_layers
        if len(config.layer_widths) != layers:
            raise ValueError(f"layer_widths has {len(config.layer_widths)} layers, not {layers}")
        config.num_hidden_layers = (
            0  # the dense layers are not wanted, and building them takes time
        )
        try:
            super().__init__(config, *args, **kwargs)
        finally:
            config.num_hidden_layers = layers
        bert = self if isinstance(self, BertModel) else self.bert
        bert.encoder.layer.extend(ObceLayer(config, index) for index in range(layers))

    def save_pretrained(self, save_directory, **kwargs):
        # All classes load from the saved folder's copy of this file, not just this one.
        module = __name__.split(".")[-1]
        self.config.auto_map = {"AutoConfig": f"{module}.ObceBertConfig"} | {
            auto: f"{module}.{cls.__name__}" for auto, cls in AUTO_CLASSES.items()
        }
        super().save_pretrained(save_directory, **kwargs)


class ObceBertModel(CompressedBert, BertModel):
    """``BertModel``, compressed."""


class ObceBertForSequenceClassification(CompressedBert, BertForSequenceClassification):
    """``BertForSequenceClassification``, compressed."""


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


class ObceBertForNextSentencePrediction(CompressedBert, BertForNextSentencePrediction):
    """``BertForNextSentencePrediction``, compressed."""


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
