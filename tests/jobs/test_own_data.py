"""A user's own data through the command line: labels, texts alone, budgets, predictions."""

import csv
import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
)

import obce
from obce import tasks
from obce.jobs import card
from obce.jobs.arguments import Analysis, Cut, Data, Tuning
from obce.jobs.compression import compress_job

FIVE = ("apart", "close", "far", "near", "same")
FAST = ("--quiet", "--no-timing", "--texts", 32, "--repair-texts", 32)


def model_of(folder, tokenizer, cls=BertForSequenceClassification, labels=None, **more):
    torch.manual_seed(0)
    names = {} if labels is None else {"id2label": dict(enumerate(labels))}
    config = BertConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40,
        max_position_embeddings=64, **names, **more,
    )  # fmt: skip
    cls(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rows(sentences):
    """Train and dev: pairs with one of five labels, an id and a score."""
    pairs = [(a, b) for a, b in zip(sentences * 2, sentences[::-1] * 2, strict=True)]
    return [
        {"id": f"r{i}", "a": a, "b": b, "label": FIVE[i % 5], "score": i % 5 + 0.5}
        for i, (a, b) in enumerate(pairs)
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("files")
    for name, part in (("train", rows[:60]), ("dev", rows[60:])):
        Dataset.from_list(part).to_csv(folder / f"{name}.csv")
    return folder


@pytest.fixture(scope="module")
def five(tmp_path_factory, tokenizer):
    """A classifier whose labels stand in an order of its own."""
    return model_of(tmp_path_factory.mktemp("five"), tokenizer, labels=FIVE[::-1])


def own(files, *more):
    columns = ("--text-column", "a", "--text-pair-column", "b")
    return ("--train-file", files / "train.csv", "--dev-file", files / "dev.csv", *columns, *more)


def test_a_table_of_five_classes_becomes_a_smaller_model(run, tokenizer, files, tmp_path):
    base = model_of(tmp_path / "base", tokenizer, BertForTokenClassification, FIVE[:3])
    model = model_of(tmp_path / "plain", tokenizer, BertModel)
    out = tmp_path / "out"
    command = ("compress", model, *own(files), "--level", "medium", "--epochs", 1, "--out", out)
    status, printed, errors = run(*command, *FAST)
    assert (status, errors) == (0, "") and "macro-F1" in printed
    record = json.loads((out / "record.json").read_text())
    assert record["stages"]["dense"]["rows_used"] == 20
    assert record["tuning"]["rows_used"] == 60
    small = AutoModelForSequenceClassification.from_pretrained(out)
    assert small.config.id2label == dict(enumerate(FIVE))
    text = (out / "README.md").read_text()
    assert "60 training rows, 1 epochs, learning rate 0.0001" in text
    assert str(files) not in (out / "record.json").read_text()
    assert "nothing was run" in run(*command, *FAST)[1]
    status, judged, _ = run("evaluate", out, *own(files)[2:], "--quiet")
    value = record["stages"]["repaired"]["metrics"]["accuracy"]
    assert status == 0 and f"accuracy {100 * value:.2f} %" in judged
    status, _, error = run(
        "compress", base, *own(files), "--level", "light", "--out", tmp_path / "x"
    )
    assert status == 2 and "token classification" in error


def test_labels_follow_the_order_of_the_model(run, five, files, tmp_path):
    out = tmp_path / "record.json"
    status, _, _ = run("evaluate", five, *own(files)[2:], "--quiet", "--out", out)
    assert status == 0
    record = json.loads(out.read_text())
    rows = list(csv.DictReader((files / "dev.csv").open()))
    model = AutoModelForSequenceClassification.from_pretrained(five)
    loaded = obce.load_classifier(five, None)
    with torch.no_grad():
        right = [
            model.config.id2label[
                int(model(**loaded.tokenizer(r["a"], r["b"], return_tensors="pt")).logits.argmax())
            ] == r["label"]
            for r in rows
        ]  # fmt: skip
    assert record["metrics"]["accuracy"] == pytest.approx(np.mean(right))


def test_label_map_renames_and_reorders(run, tokenizer, tmp_path):
    model = model_of(tmp_path / "model", tokenizer, labels=("POS", "NEG"))
    task = ("--task", "mini-sentiment", "--quiet", "--limit", 60)
    status, _, error = run("evaluate", model, *task)
    assert status == 2 and "--label-map" in error
    status, right, _ = run("evaluate", model, *task, "--label-map", "POS=positive,NEG=negative")
    assert status == 0
    status, wrong, _ = run("evaluate", model, *task, "--label-map", "POS=negative,NEG=positive")
    found = [float(text.splitlines()[0].rsplit(" ", 2)[1]) for text in (right, wrong)]
    assert sum(found) == pytest.approx(100, abs=0.02) and found[0] != 50
    status, _, error = run("evaluate", model, *task, "--label-map", "POS=good")
    assert status == 2 and "those of mini-sentiment are negative, positive" in error
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\nfine,good\nbad,poor\n")
    files = ("--dev-file", rows, "--quiet", "--label-map", "POS=good,NEG=poor")
    assert run("evaluate", model, *files)[0] == 0


def test_scores_of_ones_own_are_a_regression(run, tokenizer, files, tmp_path):
    model = model_of(tmp_path / "model", tokenizer, num_labels=1)
    command = own(files, "--label-column", "score")
    status, printed, _ = run("finetune", model, *command, "--epochs", 1, "--quiet", "--out",
                             tmp_path / "out")  # fmt: skip
    assert status == 0 and "Pearson" in printed and "Spearman" in printed
    status, _, error = run("finetune", model, *command, "--dev-limit", 1, "--quiet", "--out",
                           tmp_path / "no")  # fmt: skip
    assert status == 2 and "1 rows are too few" in error and not (tmp_path / "no").exists()


def test_own_data_from_python(tokenizer, rows, tmp_path):
    def share_of_same(answers, labels):
        return float(np.mean(answers == FIVE.index("same")))

    data = Dataset.from_list(rows)
    task = tasks.own_task(data.select(range(60)), data.select(range(60, 80)), text_column="a",
                          name="mine", metric=share_of_same)  # fmt: skip
    model = model_of(tmp_path / "model", tokenizer, labels=FIVE)
    record = compress_job(
        str(model), tmp_path / "out", Data(task), Analysis(texts=16),
        Cut(level="light", repair_texts=16), tuning=Tuning(), timing=False, progress=False,
    )  # fmt: skip
    assert set(record["stages"]["dense"]["metrics"]) == {"share_of_same"}
    assert "share of same" in (tmp_path / "out" / "README.md").read_text()
    other = tasks.own_task(data.select(range(50)), data.select(range(60, 80)), text_column="a",
                           name="mine", metric=share_of_same)  # fmt: skip
    with pytest.raises(ValueError, match="data.rows.train"):  # other rows are another job
        compress_job(
            str(model), tmp_path / "out", Data(other), Analysis(texts=16),
            Cut(level="light", repair_texts=16), tuning=Tuning(), timing=False, progress=False,
        )  # fmt: skip


BAD_DATA = {
    "no such column": (("--label-column", "kind"), "has no column 'kind'; it has id, a, b, label"),
    "no such file": (("--dev-file", "none.csv"), "there is no file none.csv"),
    "no dev rows": ((), "give a dev-file"),
    "an unknown suffix": (("--train-file", "rows.doc"), "there is no file rows.doc"),
    "texts and labels": (("--texts-file", "corpus.txt"), "2 of these are given"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_is_refused_before_anything_is_written(run, five, files, tmp_path, case):
    more, message = BAD_DATA[case]
    command = ["compress", five, *own(files), "--level", "light", "--out", tmp_path / "out", *more]
    if case == "no dev rows":
        del command[4:6]
    status, _, error = run(*command, *FAST)
    assert status == 2 and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


# Texts without labels


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, sentences):
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text("\n\n".join(sentences * 2) + "\n", encoding="utf-8")
    return path


def test_texts_alone_are_enough(run, five, corpus, tmp_path):
    out = tmp_path / "out"
    command = ("compress", five, "--texts-file", corpus, "--level", "medium", "--out", out)
    status, printed, errors = run(*command, *FAST)
    assert (status, errors) == (0, "") and "equal predictions" in printed
    record = json.loads((out / "record.json").read_text())
    assert record["repair"]["texts"] == 32
    stages = record["stages"]
    assert stages["repaired"]["rows_used"] == 16  # a fifth, held back
    assert set(stages["repaired"]["metrics"]) == {"hidden_error", "agreement", "divergence"}
    assert stages["dense"]["metrics"] == {}
    hidden = [stages[name]["metrics"]["hidden_error"] for name in ("cut", "repaired")]
    assert 0 < hidden[0] and 0 < hidden[1]
    small = AutoModelForSequenceClassification.from_pretrained(out)
    assert small.config.id2label == dict(enumerate(FIVE[::-1]))  # the head stays as it was
    assert "without labels, on 16 texts of corpus" in (out / "README.md").read_text()
    assert "nothing was run" in run(*command, *FAST)[1]
    status, printed, _ = run("analyze", five, "--texts-file", corpus, "--texts", 16, "--quiet",
                             "--out", tmp_path / "an")  # fmt: skip
    assert status == 0 and "median" in printed


def test_what_texts_alone_cannot_do(run, five, corpus, tmp_path):
    out = ("--out", tmp_path / "out")
    command = ("compress", five, "--texts-file", corpus, "--level", "light", *out, *FAST)
    few = tmp_path / "few.txt"
    few.write_text("one\ntwo\n")
    for more, message in (
        (("--finetune-epochs", 1), "beside --texts-file"),
        (("--score", "taylor"), "needs labels"),
        (("--texts-field", "body"), "has no fields"),
        (("--texts-file", few), "2 texts are too few"),
    ):
        status, _, error = run(*command, *more)
        assert status == 2 and message in error and error.count("\n") == 1


# Several budgets


def test_several_budgets_share_one_dense_model_and_one_analysis(run, five, files, tmp_path):
    out = tmp_path / "out"
    command = ("compress", five, *own(files), "--percentile", "20,40", "--out", out, *FAST)
    status, printed, errors = run(*command)
    assert (status, errors) == (0, "")
    assert [line.split()[0] for line in printed.splitlines()[:4]] == [
        "percentile", "dense", "20", "40"
    ]  # fmt: skip
    record = json.loads((out / "budgets.json").read_text())
    stages = [one["stages"] for one in record["budgets"].values()]
    assert stages[0]["dense"] == stages[1]["dense"]  # judged once: its date is the same
    for value in (20, 40):
        plan = obce.Plan.load(out / f"percentile-{value}" / "plan.json")
        assert plan.info["percentile"] == value
        assert plan.info["corpus"]["texts"] == 32
    again = run(*command)[1]
    assert again.count("nothing was run") == 2
    alone = tmp_path / "alone"
    run("compress", five, *own(files), "--percentile", 40, "--out", alone, *FAST)
    one = json.loads((alone / "record.json").read_text())["stages"]["repaired"]
    assert one["model_sha256"] == stages[1]["repaired"]["model_sha256"]


# Predictions


def test_predictions_of_ones_own_file(run, five, files, tmp_path):
    out = tmp_path / "p.csv"
    columns = ("--text-column", "a", "--text-pair-column", "b", "--quiet", "--out", out)
    assert run("predict", five, "--file", files / "dev.csv", "--id-column", "id", *columns)[0] == 0
    found = list(csv.DictReader(out.open()))
    assert [row["id"] for row in found] == [f"r{i}" for i in range(60, 80)]
    for row in found:
        shares = {label: float(row[f"p({label})"]) for label in FIVE}
        assert row["prediction"] == max(shares, key=shares.get)
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
    assert run("predict", five, "--file", files / "dev.csv", *columns)[0] == 0
    assert [row["row"] for row in csv.DictReader(out.open())] == [str(i) for i in range(1, 21)]
    for more, message in (
        (("--id-column", "no"), "has no column 'no'"),
        (("--task", "rte"), "either your own file, or a GLUE task"),
        (("--out", tmp_path / "p.xls"), "written as .csv or .tsv"),
    ):
        status, _, error = run("predict", five, "--file", files / "dev.csv", *columns, *more)
        assert status == 2 and message in error


SUBMITTED = {
    "cola": ("index\tsentence\n0\tA dog.\n1\tDog a.\n", ("0", "1")),
    "mnli": (
        "index\tsentence1\tsentence2\n0\tA.\tB.\n",
        ("entailment", "neutral", "contradiction"),
    ),
    "ax": ("index\tsentence1\tsentence2\n0\tA.\tB.\n", ("entailment", "neutral", "contradiction")),
    "rte": ("index\tsentence1\tsentence2\n0\tA.\tB.\n", ("entailment", "not_entailment")),
    "stsb": ("index\tsentence1\tsentence2\n0\tA.\tB.\n", None),
}


@pytest.mark.parametrize("name", SUBMITTED)
def test_submissions(run, tokenizer, tmp_path, monkeypatch, name):
    text, answers = SUBMITTED[name]
    task = tasks.get_task(name)
    glue = tmp_path / "glue" / task.folder
    glue.mkdir(parents=True)
    file = {"mnli": "test_matched", "ax": "diagnostic"}.get(name, "test")
    (glue / f"{file}.tsv").write_text(text)
    kind = {"num_labels": 1} if task.is_regression else {"labels": task.labels}
    model = model_of(tmp_path / "model", tokenizer, **kind)
    if task.is_regression:  # an answer off the scale is clipped
        big = AutoModelForSequenceClassification.from_pretrained(model)
        torch.nn.init.constant_(big.classifier.bias, 100.0)
        big.save_pretrained(model)
    monkeypatch.chdir(tmp_path)
    status, printed, _ = run("predict", model, "--task", name.upper(), "--glue-dir",
                             tmp_path / "glue", "--quiet")  # fmt: skip
    official = {"cola": "CoLA", "mnli": "MNLI-m", "ax": "AX", "rte": "RTE", "stsb": "STS-B"}[name]
    assert status == 0 and f"{official}.tsv" in printed
    lines = (tmp_path / f"{official}.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction" and len(lines) == text.count("\n")
    for number, line in enumerate(lines[1:]):
        index, answer = line.split("\t")
        assert index == str(number)
        assert answer in answers if answers else answer == "5.000"


def test_no_submission_for_other_tasks(run, five):
    status, _, error = run("predict", five, "--task", "mini-sentiment", "--quiet")
    assert status == 2 and "GLUE takes no predictions of mini-sentiment test" in error


def test_an_exported_file_is_evaluated_and_predicts(run, five, files, tmp_path):
    onnx = five.parent / f"{five.name}.onnx"  # beside the model's folder, and called as it is
    assert run("export", five, "--out", onnx, "--quiet")[0] == 0
    command = (*own(files)[2:], "--quiet")
    assert run("evaluate", onnx, *command)[:2] == run("evaluate", five, *command)[:2]
    columns = own(files)[4:]
    tables = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for model, table in zip((onnx, five), tables, strict=True):
        run("predict", model, "--file", files / "dev.csv", *columns, "--quiet", "--out", table)
    found = [[row["prediction"] for row in csv.DictReader(path.open())] for path in tables]
    assert found[0] == found[1] and len(found[0]) == 20
    lonely = tmp_path / "lonely.onnx"
    lonely.write_bytes(onnx.read_bytes())
    status, _, error = run("evaluate", lonely, *command)
    assert status == 2 and "name its folder by --tokenizer" in error
    assert run("evaluate", lonely, *command, "--tokenizer", five)[0] == 0


# The card


def test_words_of_others_stay_words_in_the_card():
    for text, escaped in (
        ("<script>a\n</script>", r"&lt;script&gt;a &lt;/script&gt;"),
        ("[x](http://evil)", r"\[x\]\(http&#58;//evil\)"),
        ("`a` **b** # c", r"\`a\` \*\*b\*\* \# c"),
    ):
        assert card.plain(text) == escaped


def test_a_plan_with_strange_words_gives_a_card(run, five, files, tmp_path):
    out = tmp_path / "out"
    run("compress", five, *own(files), "--level", "light", "--out", out, "--repair", "none", *FAST)
    plan, record = obce.Plan.load(out / "plan.json"), json.loads((out / "record.json").read_text())
    plan.info = {"score": 7, "cloud": None, "corpus": "<b>my</b> texts", "kinds": None}
    text = card.model_card(record, plan)
    assert "&lt;b&gt;my&lt;/b&gt; texts" in text and "<b>" not in text
