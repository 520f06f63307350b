"""What may stand in a config.json: other types and ranges are refused before a model is built."""

import json

import pytest
from transformers import BertConfig

from obce.running.configs import read_config
from obce.running.loading import load_bert, load_classifier


@pytest.fixture
def config(tmp_path):
    """Writes a config.json with some fields changed; returns its path."""

    def write(**changes):
        path = tmp_path / "config.json"
        path.write_text(json.dumps(BertConfig().to_dict() | changes), encoding="utf-8")
        return path

    return write


def test_a_whole_one_is_read(config):
    found = read_config(config(architectures=["BertForMaskedLM"], id2label={"0": "a", "1": "b"}))
    assert found["hidden_size"] == 768


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": 7},
        {"architectures": [7]},
        {"architectures": "BertModel"},
        {"hidden_size": "768"},
        {"hidden_size": True},
        {"hidden_size": 768.0},
        {"num_hidden_layers": 0},
        {"num_hidden_layers": 10**9},
        {"num_attention_heads": None},
        {"vocab_size": -1},
        {"max_position_embeddings": []},
        {"hidden_dropout_prob": 1.5},
        {"classifier_dropout": "0.1"},
        {"layer_norm_eps": 1e12},
        {"layer_norm_eps": "1e-12"},
        {"initializer_range": -1},
        {"hidden_act": "glue"},
        {"hidden_act": 7},
        {"model_type": 7},
        {"is_decoder": "no"},
        {"return_dict": 3},
        {"chunk_size_feed_forward": -1},
        {"pad_token_id": 30522},
        {"id2label": ["a", "b"]},
        {"id2label": {"0": "a", "2": "b"}},
        {"id2label": {"0": None}},
        {"label2id": {"a": "0"}},
        {"num_labels": 3, "id2label": {"0": "a", "1": "b"}},
    ],
)
def test_other_types_and_ranges(config, changes):
    path = config(**changes)
    name = next(iter(changes))
    with pytest.raises(ValueError, match=f"{name} is .*; it must be "):
        read_config(path)
    for load in (load_bert, lambda folder: load_classifier(folder, "sst2")):
        with pytest.raises(ValueError, match=name) as error:
            load(path.parent)
        assert len(str(error.value)) < 400


@pytest.mark.parametrize("text", ["[]", "{", "7", "[" * 10**5, '{"hidden_size": NaN}', "\0"])
def test_what_is_no_configuration(tmp_path, text):
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="is no model's configuration"):
        load_bert(tmp_path)


def test_another_models_fields_are_its_own(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "hidden_size": "x"}')
    assert read_config(tmp_path / "config.json")["model_type"] == "gpt2"
