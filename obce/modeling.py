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
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bert.modeling_bert import BertSelfAttention, eager_attention_forward


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


def linear(inputs: int, outputs: int) -> nn.Linear:
    """``nn.Linear`` that may be empty (whose own initialisation would warn)."""
    layer = nn.Linear(max(inputs, 1), max(outputs, 1))
    if 0 in (inputs, outputs):
        layer.in_features, layer.out_features = inputs, outputs
        layer.weight = nn.Parameter(layer.weight.new_empty(outputs, inputs))
        layer.bias = nn.Parameter(layer.bias.new_zeros(outputs))
    return layer


class ResidualLinear(nn.Module):
    """A map onto the residual stream that writes ``rows`` of its coordinates.

    ``weight`` is (kept, inputs) and ``rows`` names the kept coordinates; ``bias`` has all
    ``hidden`` entries: the constant of a removed unit stays there.
    """

    def __init__(self, inputs: int, kept: int, hidden: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(kept, inputs).normal_(std=0.02))
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.rows = nn.Buffer(torch.arange(kept))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        shape = (*hidden_states.shape[:-1], len(self.bias))
        if 0 in self.weight.shape:
            return self.bias.expand(shape)
        if len(self.rows) == len(self.bias):  # it writes every coordinate, in order
            return F.linear(hidden_states, self.weight, self.bias)
        written = F.linear(hidden_states, self.weight)
        return self.bias.expand(shape).index_add(-1, self.rows, written.to(self.bias.dtype))


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
        self.query = linear(config.hidden_size, sum(self.query_key))
        self.key = linear(config.hidden_size, sum(self.query_key))
        self.value = linear(config.hidden_size, sum(self.value_widths))
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def heads(self, projected: torch.Tensor, widths: list[int], width: int) -> torch.Tensor:
        """(batch, tokens, sum(widths)) -> (batch, heads, tokens, width), padded by zeros.

        Zeros add nothing to the products of queries and keys, and the columns that they give
        in the values are dropped again. Vanished heads are left out.
        """
        live = [head for head, w in enumerate(self.value_widths) if w]
        if len(set(widths)) == 1 and len(live) == len(widths):
            split = projected.unflatten(-1, (len(widths), widths[0]))
            split = F.pad(split, (0, width - widths[0])) if width > widths[0] else split
        else:
            parts = projected.split(widths, -1)
            split = torch.stack([F.pad(parts[h], (0, width - widths[h])) for h in live], -2)
        return split.transpose(1, 2)

    def forward(self, hidden_states, attention_mask=None, past_key_values=None, **kwargs):
        live = [w for w in self.value_widths if w]
        if not live:
            batch, tokens = hidden_states.shape[:2]
            eager = self.config._attn_implementation == "eager"
            none = hidden_states.new_empty(batch, 0, tokens, tokens) if eager else None
            return hidden_states[..., :0], none
        width = max(self.query_key + self.value_widths)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        context, weights = attend(
            self,
            self.heads(self.query(hidden_states), self.query_key, width),
            self.heads(self.key(hidden_states), self.query_key, width),
            self.heads(self.value(hidden_states), self.value_widths, width),
            attention_mask,
            dropout=self.dropout.p if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )  # context: (batch, tokens, heads, width)
        if set(live) == {width}:
            return context.flatten(-2).contiguous(), weights
        if len(set(live)) == 1:
            return context[..., : live[0]].flatten(-2).contiguous(), weights
        parts = [context[..., head, :w] for head, w in enumerate(live)]
        return torch.cat(parts, dim=-1), weights


class CompressedBert:
    """Mixed into transformers' BERT classes: swaps the dense maps for the compressed ones."""

    config_class = ObceBertConfig

    def __init__(self, config: ObceBertConfig, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        if config.is_decoder or config.add_cross_attention:
            raise ValueError("a compressed BERT is an encoder: is_decoder is not supported")
        bert = self if isinstance(self, BertModel) else self.bert
        for index, (layer, widths) in enumerate(
            zip(bert.encoder.layer, config.layer_widths, strict=True)
        ):
            hidden = config.hidden_size
            layer.attention.self = ObceSelfAttention(config, index)
            if sum(widths["value"]) < hidden or widths["attention_output"] < hidden:
                layer.attention.output.dense = ResidualLinear(
                    sum(widths["value"]), widths["attention_output"], hidden
                )
            layer.intermediate.dense = linear(hidden, widths["intermediate"])
            if widths["intermediate"] < config.intermediate_size or widths["output"] < hidden:
                layer.output.dense = ResidualLinear(
                    widths["intermediate"], widths["output"], hidden
                )

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
