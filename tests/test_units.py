"""Units and parameters: published counts, true counts, and what is no BERT encoder."""

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    RobertaConfig,
    RobertaModel,
)

from obce import count_parameters, units

BASE = {}
LARGE = {
    "num_hidden_layers": 24,
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
MINILM = {"num_hidden_layers": 6, "hidden_size": 384, "intermediate_size": 1536}


def on_meta(model_class, **config):
    """A model with shapes but no weights."""
    with torch.device("meta"):
        return model_class(BertConfig(**config))


@pytest.mark.parametrize(("config", "number"), [(BASE, 82_944), (LARGE, 221_184), (MINILM, 20_736)])
def test_number_of_units(config, number):
    shape = units.shape_of(on_meta(BertModel, **config))
    assert shape.units == number
    assert shape.units == shape.layers * (5 * shape.hidden + shape.intermediate)


def test_number_of_units_of_the_embedded_model(embedded):
    assert units.shape_of(embedded).units == 20_736
    assert count_parameters(embedded).total == 22_713_216


@pytest.mark.parametrize(
    ("config", "total", "encoder", "embeddings"),
    [
        (BASE, 109_482_240, 85_054_464, 23_837_184),
        (LARGE, 335_141_888, 302_309_376, 31_782_912),
        (MINILM, 22_713_216, 10_646_784, 11_918_592),
    ],
)
def test_number_of_parameters(config, total, encoder, embeddings):
    pooler = total - encoder - embeddings
    expected = units.Parameters(total, encoder, embeddings, pooler)
    assert count_parameters(on_meta(BertModel, **config)) == expected
    hidden = config.get("hidden_size", 768)
    assert pooler == hidden * (hidden + 1)


def test_a_task_head_counts_as_head():
    plain = count_parameters(on_meta(BertModel))
    classifier = count_parameters(on_meta(BertForSequenceClassification, num_labels=3))
    assert classifier == plain._replace(total=plain.total + 769 * 3, head=plain.head + 769 * 3)


def test_tied_matrices_count_once(tiny_config):
    # The decoder reads the word embeddings; its bias, a dense layer and a LayerNorm are its own.
    model = BertForMaskedLM(tiny_config)
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    d, vocabulary = tiny_config.hidden_size, tiny_config.vocab_size
    assert count_parameters(model).head == vocabulary + d * (d + 1) + 2 * d


def test_widths_of_a_layer(tiny_bert):
    shape = units.shape_of(tiny_bert)
    assert shape.as_dict() == {"layers": 3, "hidden": 24, "heads": 4, "intermediate": 40}
    assert units.Shape(**shape.as_dict()) == shape
    assert shape.head_size == 6
    assert str(shape) == "3 layers, hidden size 24, 4 heads, intermediate size 40"
    for layer in tiny_bert.encoder.layer:
        for kind, path in units.OUTPUTS.items():
            path = "intermediate.dense" if kind == "intermediate" else path
            assert layer.get_submodule(path).out_features == shape.width(kind)


def test_layer_parameters_of_a_whole_layer(tiny_bert):
    shape = units.shape_of(tiny_bert)
    whole = {kind: shape.width(kind) for kind in units.KINDS}
    for layer in tiny_bert.encoder.layer:
        assert shape.layer_parameters(whole) == sum(p.numel() for p in layer.parameters())
    assert shape.layers * shape.layer_parameters(whole) == count_parameters(tiny_bert).encoder


def test_layer_parameters_of_a_cut_layer():
    """Counted on matrices of the sizes that are left: rows are units, columns are inputs."""
    shape = units.Shape(layers=1, hidden=8, heads=2, intermediate=16)
    left = {
        "query": 3,
        "key": 3,
        "value": 5,
        "attention_output": 6,
        "intermediate": 7,
        "output": 4,
    }
    maps = [nn.Linear(8, 3), nn.Linear(8, 3), nn.Linear(8, 5), nn.Linear(8, 7)]
    maps += [nn.Linear(5, 6, bias=False), nn.Linear(7, 4, bias=False)]
    true = sum(p.numel() for m in maps for p in m.parameters())
    true += 2 * 8  # the biases of the residual maps stay, also where no unit writes any more
    true += sum(p.numel() for p in nn.ModuleList([nn.LayerNorm(8), nn.LayerNorm(8)]).parameters())
    assert shape.layer_parameters(left) == true
    nothing = dict.fromkeys(units.KINDS, 0)
    assert shape.layer_parameters(nothing) == 2 * 8 + 4 * 8


def test_the_bert_inside(tiny_classifier, tiny_config):
    assert units.find_bert(tiny_classifier) is tiny_classifier.bert
    assert units.find_bert(tiny_classifier.bert) is tiny_classifier.bert
    assert units.find_bert(nn.Sequential(BertForQuestionAnswering(tiny_config)))
    twice = nn.ModuleList([tiny_classifier, tiny_classifier.bert])  # the same one, two ways
    assert units.find_bert(twice) is tiny_classifier.bert
    assert not units.is_compressed(tiny_classifier)


def two_berts(config):
    return nn.ModuleList([BertModel(config), BertModel(config)])


def encoder_decoder(config):
    return EncoderDecoderModel(EncoderDecoderConfig.from_encoder_decoder_configs(config, config))


def decoder(config):
    config.is_decoder = True
    return BertModel(config)


def roberta(config):
    return RobertaModel(RobertaConfig(**{**config.to_dict(), "model_type": "roberta"}))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (roberta, "RobertaModel is no BERT"),
        (lambda config: nn.Linear(2, 2), "Linear is no BERT"),
        (lambda config: "bert-base-uncased", "str is no BERT"),
        (lambda config: None, "NoneType is no BERT"),
        (two_berts, "holds 2 BertModels; pass one of them"),
        (encoder_decoder, "EncoderDecoderModel holds 2 BertModels"),
        (decoder, "BertModel is a BERT decoder"),
    ],
)
@pytest.mark.parametrize("function", [units.shape_of, count_parameters])
def test_what_is_no_bert_encoder(make, message, function, tiny_config):
    with pytest.raises(ValueError, match=message):
        function(make(tiny_config))
