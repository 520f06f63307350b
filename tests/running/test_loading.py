"""Loading: odd checkpoints are read as what they are, or refused in one line; none is misread."""

import importlib.util
import json
import pickle
import shutil

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from conftest import make_config, with_random_weights
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertForSequenceClassification, BertTokenizer

import obce
from obce import modeling, tasks
from obce.running import loading
from obce.running.heads import head_of
from obce.texts import right_padding


def write(folder, kind="BertForSequenceClassification", tokenizer=None, **settings):
    """A folder with a tiny BERT of that class."""
    config = make_config()
    for name, value in settings.items():
        setattr(config, name, value)
    with_random_weights(getattr(transformers, kind)(config)).save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def change(path, **settings):
    found = json.loads(path.read_text()) | settings
    path.write_text(json.dumps({k: v for k, v in found.items() if v is not None}))


def change_weights(folder, more=(), without=()):
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights = {k: v for k, v in weights.items() if k not in without}
    save_file(weights | {name: torch.ones(3) for name in more}, path, metadata={"format": "pt"})


@pytest.fixture
def saved(tokenizer, tmp_path):
    """A folder with a classifier of two labels without names."""
    return write(tmp_path / "saved", tokenizer=tokenizer)


def sst2(rows=12, texts=("a fine film", "dull")):
    columns = {
        "sentence": [texts[i % len(texts)] for i in range(rows)],
        "label": [0, 1] * (rows // 2),
    }
    return tasks.load("mini-sentiment", "dev", limit=rows).map(
        lambda row, i: {k: v[i] for k, v in columns.items()}, with_indices=True
    )


# The head is what the weights hold (U4, U27)


def test_each_head_by_its_tensors():
    bert, pooler = "bert.encoder.layer.0.output.dense.bias", "bert.pooler.dense.weight"
    words, following = "cls.predictions.bias", "cls.seq_relationship.weight"
    assert head_of([bert, pooler]) == head_of(["encoder.layer.0.output.dense.bias"]) == ""
    assert head_of([bert, "classifier.weight"]) == "token classification"
    assert head_of([bert, pooler, "classifier.weight"]) == "sequence classification"
    assert head_of([bert, "qa_outputs.weight"]) == "question answering"
    assert head_of([bert, words]) == "masked words"
    assert head_of([bert, pooler, words, following]) == "pre-training"
    assert head_of([bert, pooler, following]) == "next sentence"
    for kind, head in (
        ("BertForMultipleChoice", "multiple choice"),
        ("ObceBertForMultipleChoice", "multiple choice"),
        ("BertForTokenClassification", "token classification"),  # with a pooler it does not use
        ("BertForQuestionAnswering", "sequence classification"),  # no: it holds no such weights
        ("BertModel", "sequence classification"),
    ):
        assert head_of([bert, pooler, "classifier.weight"], [kind]) == head
    assert head_of([bert, pooler, words, following], ["BertForMaskedLM"]) == "masked words"
    with pytest.raises(ValueError, match="1 tensors of a head .* does not have: see crf.start"):
        head_of([bert, pooler, "classifier.weight", "crf.start"])


@pytest.mark.parametrize("stated", [None, [], ["BertModel"], ["BertForMaskedLM"]])
def test_what_the_config_says_of_the_head_does_not_matter(saved, stated):
    change(saved / "config.json", architectures=stated)
    loaded = loading.load_model(saved)
    assert loaded.head == "sequence classification"
    assert type(loaded.model) is BertForSequenceClassification
    assert loading.load_classifier(saved, None).fine_tuned
    change(saved / "config.json", id2label={"0": "positive", "1": "negative"})
    with pytest.raises(ValueError, match="positive, negative.*negative, positive"):
        loading.load_classifier(saved, "sst2")


def test_a_head_for_something_else_is_not_taken_for_a_classifier(tokenizer, tmp_path):
    for kind, head in (
        ("BertForTokenClassification", "token classification"),
        ("BertForMultipleChoice", "multiple choice"),
        ("BertForQuestionAnswering", "question answering"),
    ):
        folder = write(tmp_path / kind, kind, tokenizer)
        with pytest.raises(ValueError, match=f"no classifier of texts: its head is for {head}"):
            loading.load_classifier(folder, "sst2")
        with pytest.raises(ValueError, match=f"no classifier's head, it is for {head}"):
            loading.load_classifier(folder, None)
    several = write(tmp_path / "m", tokenizer=tokenizer, problem_type="multi_label_classification")
    with pytest.raises(ValueError, match="its head is for multiple labels"):
        loading.load_classifier(several, "sst2")
    assert loading.load_model(several).head == "multiple labels"
    words = write(tmp_path / "w", "BertForPreTraining", tokenizer)
    assert not loading.load_classifier(words, "sst2").fine_tuned  # as bert-base-uncased is


def test_a_head_of_no_known_kind_is_not_dropped(saved):
    change_weights(saved, more=["crf.transitions"])
    change(saved / "config.json", architectures=["BertCRF"])
    with pytest.raises(ValueError, match="saved are not a BERT's alone: .* see crf.transitions"):
        loading.load_model(saved)
    assert loading.load_bert(saved).model.config.hidden_size == 24


def test_the_decoder_stays_tied(tokenizer, tmp_path):
    loaded = loading.load_model(write(tmp_path, "BertForMaskedLM", tokenizer))
    words = loaded.model.bert.embeddings.word_embeddings.weight
    assert loaded.model.cls.predictions.decoder.weight is words


def test_half_a_head_is_no_head(saved):
    change_weights(saved, without=["classifier.bias"])
    for load in (loading.load_model, lambda name: loading.load_classifier(name, "sst2")):
        with pytest.raises(ValueError, match="config.json says: see classifier.bias"):
            load(saved)


# Another model than the one that was trained (U3)


@pytest.mark.parametrize(
    "name", ["bert.encoder.layer.1.attention.self.distance_embedding.weight",
             "bert.encoder.layer.0.output.adapters.a.down.weight", "bert.invertible.weight",
             "bert.encoder.layer.3.output.dense.bias"],
)  # fmt: skip
def test_tensors_that_bert_has_no_place_for(saved, name):
    change_weights(saved, more=[name])
    for load in (
        loading.load_model,
        loading.load_bert,
        lambda x: loading.load_classifier(x, "sst2"),
    ):
        with pytest.raises(ValueError, match=f"no place for, .*see {name}"):
            load(saved)


def test_harmless_tensors(saved):
    change_weights(saved, more=["bert.embeddings.position_ids"])
    assert loading.load_model(saved).head == "sequence classification"


def test_relative_positions(saved):
    change(saved / "config.json", position_embedding_type="relative_key")
    with pytest.raises(ValueError, match="positions of type relative_key"):
        loading.load_bert(saved)


def test_decoders(saved):
    change(saved / "config.json", is_decoder=True)
    with pytest.raises(ValueError, match="is a BERT decoder"):
        loading.load_model(saved)


def test_fewer_layers_than_stated(saved):
    change(saved / "config.json", num_hidden_layers=900)
    with pytest.raises(ValueError, match=r"config.json says: see bert.encoder.layer.899"):
        loading.load_model(saved)


def test_adapters_are_to_be_merged(saved, tmp_path):
    (saved / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds an adapter: merge the adapter into its model"):
        loading.load_bert(saved)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="merge the adapter"):
        loading.load_model(tmp_path / "adapter")


# Switches (U8), code of others (U16)


def test_switches_for_a_forward_pass_are_reset(saved, tmp_path):
    texts = ["a fine film", "dull"]
    expected = loading.load_model(saved)
    change(
        saved / "config.json", output_attentions=True, output_hidden_states=True,
        return_dict=False, chunk_size_feed_forward=1,
    )  # fmt: skip
    loaded = loading.load_model(saved)
    assert obce.compare(expected, loaded, texts)["hidden_error"] == 0
    loading.save_model(loaded, tmp_path / "again")
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert not config.get("output_attentions") and config.get("return_dict", True)
    classifier = loading.load_classifier(saved, "sst2")
    obce.predict(classifier.model, classifier.tokenizer, sst2(4), progress=False)
    loading.save_classifier(classifier.model, classifier.tokenizer, tmp_path / "third")


def test_code_of_others_is_not_carried_along(saved, tmp_path):
    code = {"AutoModel": "zyx.Model", "AutoConfig": "zyx.Config"}
    change(saved / "config.json", auto_map=code, custom_pipelines={"x": {"impl": "zyx.P"}})
    change(saved / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "zyx.Words"]})
    loaded = loading.load_model(saved)
    loading.save_model(loaded, tmp_path / "dense")
    plan = obce.plan(loaded.model, obce.score(None, "magnitude", model=loaded.model), percentile=40)
    loading.save_model(loaded._replace(model=obce.cut(loaded.model, plan)), tmp_path / "small")
    for folder in ("dense", "small"):
        files = [p for p in (tmp_path / folder).iterdir() if p.suffix == ".json"]
        assert len(files) > 2 and not any("zyx" in path.read_text() for path in files)


# Tokenizers (U1, U6, U9)


@pytest.mark.parametrize("only", [True, False])
def test_no_tokenizer(saved, only):
    for path in saved.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            if only or path.name != "tokenizer_config.json":
                path.unlink()
    for load in (
        loading.load_model,
        loading.load_bert,
        lambda x: loading.load_classifier(x, "sst2"),
    ):
        with pytest.raises(ValueError, match="saved holds no tokenizer"):
            load(saved)


def test_no_tokenizer_beside_a_compressed_model(saved, tmp_path):
    loaded = loading.load_model(saved)
    plan = obce.plan(loaded.model, obce.score(None, "magnitude", model=loaded.model), percentile=40)
    obce.cut(loaded.model, plan).save_pretrained(tmp_path / "small")
    with pytest.raises(ValueError, match="small holds no tokenizer"):
        loading.load_model(tmp_path / "small")


def test_words_that_the_tokenizer_does_not_know(saved, tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nfilm\n")
    words = BertTokenizer(str(tmp_path / "vocab.txt"))
    model = loading.load_model(saved).model
    with pytest.warns(UserWarning, match=r"60 % of the tokens .* \[UNK\]"):
        obce.predict(model, words, sst2(4, ["a dull, tedious film"]), progress=False)
    obce.predict(model, words, sst2(4, ["a film"]), progress=False)  # without a word


def test_a_tokenizer_that_pads_on_the_left(saved):
    rows = sst2(30, ["one", "a film of quite a few more words than that", "it is what it is"])
    words = AutoTokenizer.from_pretrained(saved)
    model = loading.load_model(saved).model
    expected = obce.predict(model, words, rows, progress=False, batch_size=1)
    words.padding_side = "left"
    found = obce.predict(model, words, rows, progress=False, batch_size=30)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    batch = right_padding(words)([{"input_ids": [5, 6]}, {"input_ids": [7]}])  # as for training
    assert batch["input_ids"].tolist() == [[5, 6], [7, 0]] and words.padding_side == "left"
    words.save_pretrained(saved)
    assert loading.load_model(saved).tokenizer.padding_side == "right"
    assert loading.load_classifier(saved, "sst2").tokenizer.padding_side == "right"


def test_more_tokens_than_embeddings(saved, sentences):
    words = AutoTokenizer.from_pretrained(saved)
    words.add_tokens(["covid"])
    words.save_pretrained(saved)
    for load in (
        loading.load_model,
        loading.load_bert,
        lambda x: loading.load_classifier(x, "sst2"),
    ):
        with pytest.raises(ValueError, match="tokens up to 30522, and its model has 30522 embedd"):
            load(saved)
    model = BertForSequenceClassification.from_pretrained(saved)
    plan = obce.plan(model, obce.score(None, "magnitude", model=model), percentile=40)
    texts = ["a film of covid"] * 3
    for use in (
        lambda: obce.collect(model, words, texts),
        lambda: obce.stream(model, words, texts),
        lambda: obce.compress(model, plan, repair="least_squares", texts=texts, tokenizer=words),
        lambda: obce.predict(model, words, sst2(4, texts), progress=False),
        lambda: obce.score(
            None, "taylor", model=model, labels=[0, 1, 0], texts=texts, tokenizer=words
        ),
        lambda: obce.compare(
            *[loading.Loaded(model, words, "sequence classification", None)] * 2, texts
        ),
    ):
        with pytest.raises(ValueError, match="token number 30522, and the model has 30522 embedd"):
            use()


def test_pairs_for_a_model_of_single_texts(tokenizer, tmp_path):
    folder = write(tmp_path, tokenizer=tokenizer, type_vocab_size=1)
    with pytest.raises(ValueError, match="reads single texts only .* and rte has pairs"):
        loading.load_classifier(folder, "rte")
    model, words = loading.load_bert(folder)
    with pytest.raises(ValueError, match="pairs of texts, and the model reads single ones"):
        obce.collect(model, words, [("one", "two"), ("two", "three")])
    with obce.collect(model, words, ["one", "two"]) as found:
        assert found.counted.tolist() == [3, 3]


# Names and files (U14, U25)


@pytest.mark.parametrize(
    "name",
    ["{here}/saved2", "saved/nothing", "./x", "../x", "a/b/c", "~/model", "C:\\model", "saved2/"],
)
def test_a_mistyped_folder_is_not_looked_up(saved, name, monkeypatch):
    def asked(*args, **kwargs):
        pytest.fail("the Hub was asked")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", asked)
    monkeypatch.chdir(saved.parent)
    with pytest.raises(ValueError, match="there is no folder"):
        loading.load_model(name.format(here=saved.parent))


def test_a_pickled_model(saved):
    model = BertForSequenceClassification.from_pretrained(saved)
    (saved / "model.safetensors").unlink()
    torch.save(model, saved / "pytorch_model.bin")
    with pytest.raises(
        ValueError, match="Python objects and not just tensors; save its state_dict"
    ):
        loading.load_model(saved)
    torch.save(model.state_dict(), saved / "pytorch_model.bin")
    assert loading.load_model(saved).head == "sequence classification"
    with open(saved / "pytorch_model.bin", "wb") as file:
        pickle.dump({"a": 1}, file)
    with pytest.raises(ValueError, match="cannot load a model from .*pytorch_model.bin"):
        loading.load_model(saved)


def test_weights_in_several_files(saved, tmp_path):
    loaded = loading.load_model(saved)
    loaded.model.save_pretrained(tmp_path / "parts", max_shard_size="1MB")
    loaded.tokenizer.save_pretrained(tmp_path / "parts")
    assert (tmp_path / "parts" / "model.safetensors.index.json").is_file()
    assert loading.load_model(tmp_path / "parts").head == "sequence classification"


def test_no_weights(saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(
        ValueError, match=r"cannot load .*it holds no weights \(model.safetensors\)"
    ):
        loading.load_model(saved)
    shutil.rmtree(saved)
    saved.mkdir()
    with pytest.raises(ValueError, match="config.json is missing"):
        loading.load_model(saved)


def test_loading_draws_no_numbers(saved):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    for load in (loading.load_model, loading.load_bert):
        load(saved)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_old_transformers_is_named_in_one_line(monkeypatch):
    monkeypatch.setattr(transformers, "__version__", "4.57.1")
    spec = importlib.util.spec_from_file_location("saved_modeling", modeling.__file__)
    with pytest.raises(ImportError, match="needs transformers 5 or newer, here is 4.57.1: pip"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_on_the_command_line_it_is_one_line_and_status_2(run, saved, tmp_path):
    def says(text):
        for command in ("evaluate", "compress"):
            more = ["--out", tmp_path / "out", "--percentile", 40] if command == "compress" else []
            status, _, err = run(command, saved, "--task", "mini-sentiment", "--quiet", *more)
            assert (status, err.count("\n")) == (2, 1) and text in err
        assert not (tmp_path / "out").exists()

    change(saved / "config.json", position_embedding_type="relative_key_query")
    says("positions of type relative_key_query")
    change(saved / "config.json", position_embedding_type="absolute")
    change_weights(saved, more=["bert.embeddings.adapter.weight"])
    says("see bert.embeddings.adapter.weight")
    change_weights(saved, without=["bert.embeddings.adapter.weight"])
    for path in saved.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    says("holds no tokenizer")
