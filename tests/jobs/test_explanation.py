"""``obce explain``: the table, the record and the page; bad input is one line and status 2."""

import json

import pytest
from conftest import make_config, with_random_weights
from transformers import BertModel

import obce


@pytest.fixture
def texts_file(tmp_path, sentences):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(sentences), encoding="utf-8")
    return path


def test_explain_writes_cards_of_the_largest_shares(run, tmp_path, texts_file):
    out = tmp_path / "out"
    given = ["embedded", "--texts-file", texts_file, "--top", 2, "--silenced", 4, "--out", out]
    status, printed, err = run("explain", *given)
    assert status == 0, err
    lines = printed.strip().split("\n")
    assert lines[0].split() == ["unit", "share", "groups"] and len(lines) == 5
    record = json.loads((out / "explanation.json").read_text(encoding="utf-8"))
    first, second = record["cards"]
    assert first["share"] >= second["share"] > 0 and not record["predicts"]
    assert lines[1].startswith(first["name"]) and lines[1].endswith(first["summary"])
    page = (out / "cards.html").read_text(encoding="utf-8")
    assert page.count("<details") == 2 and "http" not in page
    status, _, err = run("explain", *given)  # once more, into the same folder
    assert status == 0, err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--layer", 1], "name a unit by --layer, --kind and --unit"),
        (["--unit", 1], "name a unit by --layer, --kind and --unit"),
        (["--layer", 9, "--kind", "value"], "no layer 9: this model has 6"),
        (["--layer", 1, "--kind", "hue"], "unknown kind 'hue'"),
        (["--layer", 1, "--kind", "value", "--unit", 384], "no value unit 384: there are 384"),
        (["--layer", 1, "--kind", "value", "--unit", 3, "--top", 2], "top chooses among units"),
        (["--cloud", "fog"], "fog"),
        (["--task", "mini-sentiment"], "2 of these are given"),
    ],
)
def test_bad_input_is_one_line(run, tmp_path, texts_file, options, said):
    out = tmp_path / "out"
    status, printed, err = run(
        "explain", "embedded", "--texts-file", texts_file, "--out", out, *options
    )
    assert status == 2 and said in err and err.count("\n") == 1, err
    assert not printed and not out.exists()


def test_an_atlas_of_a_small_model(run, tmp_path, tokenizer, texts_file):
    model = with_random_weights(BertModel(make_config()))
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "tiny")
    scores = obce.score(None, "magnitude", model=model)
    obce.plan(model, scores, percentile=50).save(tmp_path / "plan.json")
    given = ("atlas", tmp_path / "tiny", "--texts-file", texts_file)
    options = ("--plan", tmp_path / "plan.json", "--before", tmp_path / "tiny", "--quiet")
    out = tmp_path / "out"
    status, printed, err = run(*given, *options, "--out", out)
    assert status == 0, err
    lines = printed.strip().split("\n")
    assert lines[0].split()[:3] == ["layer", "kind", "units"] and len(lines) == 3 * 2 + 2
    record = json.loads((out / "atlas.json").read_text(encoding="utf-8"))
    assert [row["units"] for row in record["charts"]] == [24, 40] * 3
    assert all(row["ranks as in before"] == pytest.approx(1) for row in record["charts"])
    assert (out / "atlas.html").is_file() and (out / "atlas.png").is_file()
    assert len(list((out / "cards").glob("*.js"))) == 6
    for wrong, said in (
        (("--kinds", "hue"), "unknown kind 'hue'"),
        (("--plan", texts_file), "is not an obce plan"),
        (("--before", "embedded"), "is a BERT of another shape"),
    ):
        status, _, err = run(*given, *wrong, "--out", tmp_path / "wrong")
        assert status == 2 and said in err and err.count("\n") == 1, err
        assert not (tmp_path / "wrong").exists()
