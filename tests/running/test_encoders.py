"""Sentence encoders: in as a sentence-transformers folder, out as one, the same vectors."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from test_loading import change, write

import obce
from obce.running.encoders import embed, pool, similarity
from obce.running.heads import SentenceEncoder
from obce.running.loading import Loaded, embedded_folder, load_bert, load_model, save_model
from obce.running.speed import time_per_1000

OLD = "sentence_transformers.models."
NEW = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
}


def folder_of(path, tokenizer, pooling, *, inner="", normalize=True, new=False, **settings):
    """A sentence encoder of a tiny BERT: pooling by that name, its BERT in ``inner``."""
    write(path / inner, "BertModel", tokenizer)
    kinds = [("Transformer", inner), ("Pooling", "1_Pooling")]
    kinds += [("Normalize", "2_Normalize")] if normalize else []
    modules = [
        {"idx": i, "name": str(i), "path": where, "type": NEW[kind] if new else OLD + kind}
        for i, (kind, where) in enumerate(kinds)
    ]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / inner / "sentence_bert_config.json").write_text(json.dumps(settings))
    (path / "1_Pooling").mkdir()
    switch = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}
    names = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    found = {"word_embedding_dimension": 24} | {
        f"pooling_mode_{name}": name == switch.get(pooling, pooling) for name in names
    }
    if new:
        found = {"embedding_dimension": 24, "pooling_mode": pooling, "include_prompt": True}
    (path / "1_Pooling" / "config.json").write_text(json.dumps(found))
    return path


def cut(loaded):
    plan = obce.plan(loaded.model, obce.score(None, "magnitude", model=loaded.model), percentile=40)
    return loaded._replace(model=obce.cut(loaded.model, plan))


def theirs(folder, texts):
    return SentenceTransformer(str(folder), device="cpu").encode(texts, show_progress_bar=False)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "mean_sqrt_len_tokens"])
@pytest.mark.parametrize("new", [False, True])
def test_vectors_are_those_of_sentence_transformers(tokenizer, sentences, tmp_path, pooling, new):
    layout = {"inner": "0_Transformer", "normalize": False} if new else {"max_seq_length": 9}
    folder = folder_of(tmp_path / "dense", tokenizer, pooling, new=new, **layout)
    loaded = load_model(folder)
    assert loaded.head == "" and loaded.encoder.pooling == (pooling,)
    expected = theirs(folder, sentences)
    np.testing.assert_allclose(embed(loaded, sentences, batch_size=7), expected, atol=1e-5)

    small = cut(loaded)
    save_model(small, tmp_path / "small")
    settings = [path for path in loaded.encoder.files]
    assert all((tmp_path / "small" / p).read_text() == (folder / p).read_text() for p in settings)
    assert load_model(tmp_path / "small").encoder == loaded.encoder
    vectors = embed(small, sentences)
    np.testing.assert_allclose(theirs(tmp_path / "small", sentences), vectors, atol=1e-5)

    cosines = np.sum(vectors * expected, 1)
    cosines /= np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    found = obce.compare(loaded, small, sentences)["cosine"]
    assert found["median"] == pytest.approx(np.median(cosines), abs=1e-5)
    assert found["min"] == pytest.approx(cosines.min(), abs=1e-5) and found["min"] < 0.999
    assert found["max"] == pytest.approx(cosines.max(), abs=1e-5)


def test_the_embedded_model(sentences):
    loaded = load_model()
    assert loaded.encoder.pooling == ("mean",) and loaded.encoder.normalize
    assert loaded.encoder.max_length == 256
    long = [*sentences, "word " * 600]
    np.testing.assert_allclose(embed(loaded, long), theirs(embedded_folder(), long), atol=1e-5)
    alike, other = similarity(loaded, [("He sings.", "He is singing."), ("He sings.", "Tax law.")])
    assert time_per_1000(loaded.model, loaded.tokenizer, sentences, repeats=1)["median"] > 0
    assert alike > 0.6 > 0.3 > other


def test_without_obce_the_saved_folder_loads_by_its_own_code(sentences, tmp_path):
    small = cut(load_model())
    save_model(small, tmp_path / "small")
    code = (
        "import sys; sys.modules['obce'] = None\n"
        "from sentence_transformers import SentenceTransformer as S\n"
        "m = S(sys.argv[1], device='cpu', trust_remote_code=True)\n"
        "print(*m.encode([sys.argv[2]])[0].tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "small"), sentences[4]],
        capture_output=True, text=True, check=True, cwd=tmp_path,
        env={"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    found = np.array([float(x) for x in done.stdout.split()])
    np.testing.assert_allclose(found, embed(small, sentences[4:5])[0], atol=1e-5)


def test_joined_poolings_by_hand():
    hidden = torch.tensor([[[1.0, -2.0], [3.0, -4.0], [50.0, 50.0]]])
    real = torch.tensor([[True, True, False]])
    both = SentenceEncoder(("cls", "mean", "max"), False, None, False, "", {})
    assert pool(hidden, real, both).tolist() == [[1, -2, 2, -3, 3, -2]]
    one = SentenceEncoder(("max",), True, None, False, "", {})
    torch.testing.assert_close(pool(hidden, real, one), torch.tensor([[3, -2]]) / 13**0.5)


def test_lower_case_and_prompts(tokenizer, tmp_path):
    folder = folder_of(tmp_path / "x", tokenizer, "mean", do_lower_case=True)
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"q": "Q: "}}))
    loaded = load_model(folder)
    assert loaded.encoder.lower and "config_sentence_transformers.json" in loaded.encoder.files
    np.testing.assert_array_equal(embed(loaded, ["ONE", "two"]), embed(loaded, ["one", "Two"]))


def test_folders_that_cannot_be_kept(tokenizer, tmp_path):
    folder = folder_of(tmp_path / "x", tokenizer, "mean")
    whole = json.loads((folder / "modules.json").read_text())

    def modules(found):
        (folder / "modules.json").write_text(json.dumps(found))

    modules([*whole[:2], {"path": "2_Dense", "type": OLD + "Dense"}, whole[2]])
    with pytest.raises(
        ValueError, match="modules are Transformer, Pooling, Dense, Normalize; only"
    ):
        load_model(folder)
    for place, path in ((0, "../other"), (0, "/tmp"), (1, "a/../../b"), (2, "..\\x")):
        modules([module | ({"path": path} if i == place else {}) for i, module in enumerate(whole)])
        with pytest.raises(ValueError, match="a folder outside of the model's own"):
            load_model(folder)
    for broken in ([{"path": ""}], {"a": 1}, [7], "text"):
        modules(broken)
        with pytest.raises(ValueError, match="cannot load a model from .*settings are broken"):
            load_model(folder)
    for broken in ("[{", "[" * 100_000):
        (folder / "modules.json").write_text(broken)
        with pytest.raises(ValueError, match="settings are broken"):
            load_model(folder)
    modules(whole[:1])  # a cross-encoder: nothing is pooled
    assert load_model(folder).encoder is None
    modules(whole)
    change(folder / "1_Pooling" / "config.json", pooling_mode="lasttoken")
    with pytest.raises(ValueError, match="pools by lasttoken; there are cls, mean"):
        load_model(folder)
    (folder / "1_Pooling" / "config.json").unlink()
    with pytest.raises(ValueError, match="pools by nothing"):
        load_model(folder)
    shutil.move(folder / "config.json", folder / "1_Pooling" / "config.json")
    with pytest.raises(ValueError, match="pools by nothing|config.json is missing"):
        load_model(folder)


def test_bad_arguments(tokenizer):
    loaded = load_model()
    with pytest.raises(ValueError, match="is no sentence encoder"):
        embed(Loaded(load_bert().model, tokenizer, "", None), ["one"])
    with pytest.raises(ValueError, match="wants pairs"):
        similarity(loaded, ["one", "two"])
    with pytest.raises(ValueError, match="the corpus is empty"):
        embed(loaded, [])
    with pytest.raises(ValueError, match="batch_size=0"):
        embed(loaded, ["one"], batch_size=0)
    with pytest.raises(ValueError, match="max_length=513"):
        embed(loaded, ["one"], max_length=513)
