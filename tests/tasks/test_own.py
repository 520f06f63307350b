"""A user's own data: what is read from which file, and what is refused, with which words."""

import json

import numpy as np
import pytest
from datasets import ClassLabel, Dataset
from transformers import BertConfig

from obce import tasks

ROWS = {"text": ["fine", "bad, really", "good"], "label": ["pos", "neg", "pos"]}


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def files(folder):
    """The same three rows as each kind of file."""
    rows = Dataset.from_dict(ROWS)
    rows.to_parquet(folder / "rows.parquet")
    lines = [json.dumps(row) + "\n" for row in rows]
    return [
        write(folder / "rows.csv", 'text,label\nfine,pos\n"bad, really",neg\ngood, pos \n'),
        write(
            folder / "bom.csv", '\ufefftext,label\r\nfine,pos\r\n"bad, really",neg\r\n\r\ngood,pos'
        ),
        write(folder / "rows.tsv", "label\ttext\npos\tfine\nneg\tbad, really\npos\tgood\n"),
        write(folder / "rows.jsonl", "".join(lines)),
        write(folder / "all[1].json", json.dumps(rows.to_list())),
        folder / "rows.parquet",
    ]


def test_every_kind_of_file_gives_the_same_rows(tmp_path):
    for path in files(tmp_path):
        task = tasks.own_task(path, path, name="mine")
        assert task.labels == ("neg", "pos") and task.metrics[0] == "accuracy", path
        assert task.rows == {"train": 3, "dev": 3}
        rows = tasks.load(task, "dev")
        assert rows.column_names == ["sentence", "label"]
        assert rows["sentence"][:] == ROWS["text"] and rows["label"][:] == [1, 0, 1], path
    assert tasks.get_task(task) is task
    assert len(tasks.load(task, "train", limit=2)) == 2


def test_a_changed_file_is_read_anew(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\nx,1\ny,2\n")
    assert tasks.own_task(path).labels == ("1", "2")
    write(path, "text,label\nx,1\ny,3\n")
    assert tasks.own_task(path).labels == ("1", "3")


def test_pairs_other_columns_and_a_class_label(tmp_path):
    rows = Dataset.from_dict({"a": ["x", "y"], "b": ["u", "v"], "c": [1, 0], "id": [7, 8]})
    rows = rows.cast_column("c", ClassLabel(names=["yes", "no"]))
    task = tasks.own_task(rows, text_column="a", text_pair_column="b", label_column="c")
    assert task.is_pair and task.labels == ("yes", "no")  # its own order, not the alphabet's
    assert tasks.texts(task.data["train"]) == [("x", "u"), ("y", "v")]
    assert task.data["train"]["label"][:] == [1, 0]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["10", "9", "-1"], ("-1", "9", "10")),  # numbers by their size
        ([10, 9, -1], ("-1", "9", "10")),
        (["NA", "null", "1"], ("1", "NA", "null")),  # nothing is taken for missing
        ([True, False, True], ("false", "true")),
    ],
)
def test_classes(labels, names):
    rows = Dataset.from_dict({"text": list("abc"), "label": labels})
    assert tasks.own_task(rows).labels == names


@pytest.mark.parametrize("labels", [[1.0, 2.5, 4.0], ["1", "2.5", "4.0"]])
def test_floats_are_scores(labels):
    rows = Dataset.from_dict({"text": list("abc"), "label": labels})
    task = tasks.own_task(rows)
    assert task.is_regression and task.metrics == ("pearson", "spearmanr")
    assert task.data["train"]["label"][:] == [1.0, 2.5, 4.0]
    assert tasks.compute_metrics(task, np.array([1, 2, 3.0]), [1, 2, 3.0])[
        "spearmanr"
    ] == pytest.approx(1)
    assert tasks.own_task(rows, regression=False).num_labels == 3


def test_whole_numbers_are_classes_unless_asked():
    rows = Dataset.from_dict({"text": list("abc"), "label": ["1", "2", "5"]})
    assert tasks.own_task(rows).labels == ("1", "2", "5")
    assert tasks.own_task(rows, regression=True).is_regression


def test_metrics_of_classes_and_a_function_of_ones_own():
    rows = Dataset.from_dict({"text": list("abcd"), "label": list("xyyz")})
    logits = np.eye(3)[[0, 1, 2, 2]]
    found = tasks.compute_metrics(tasks.own_task(rows), logits, [0, 1, 1, 2])
    # F1: 1, 2/3, 2/3; MCC: (3 right * 4 rows - 1*1 - 1*2 - 2*1) / sqrt((16 - 6) * (16 - 6))
    assert found["accuracy"] == 0.75 and found["macro_f1"] == pytest.approx(7 / 9)
    assert found["matthews_correlation"] == pytest.approx(7 / 10)

    def share_of_x(classes, labels):
        return np.mean(classes == 0)

    task = tasks.own_task(rows, metric=share_of_x)
    assert tasks.compute_metrics(task, logits, [0, 1, 1, 2]) == {"share_of_x": 0.25}
    task = tasks.own_task(rows, metric=lambda classes, labels: {"a": 1, "b": 0.5})
    assert tasks.compute_metrics(task, logits, [0, 1, 1, 2]) == {"a": 1.0, "b": 0.5}
    task = tasks.own_task(rows, metric=lambda classes, labels: float("nan"))
    with pytest.raises(ValueError, match="not one number"):
        tasks.compute_metrics(task, logits, [0, 1, 1, 2])


BAD_FILES = {
    "no such column": ("text,labl\nx,1\n", "has no column 'label'; it has text, labl"),
    "no rows": ("text,label\n", "has no rows"),
    "nothing": ("", "has no rows"),
    "no text": ("text,label\nx,1\n ,2\ny,1\n,2\n", "column 'text' has no text in rows 2, 4"),
    "no label": ("text,label\nx,1\ny,\n", "column 'label' has no label in row 2"),
    "a short line": ("text,label\nx,1\ny\nz,2\n", "has no label in row 2"),
    "a long line": ("text,label\nx,1\ny,2,3\n", "Expected 2 fields in line 3, saw 3"),
    "long lines": ("text,label\nx,1,2\ny,2,3\n", "2 columns are named, row 1 has 3"),
    "an open quote": ('text,label\nx,1\n"y,2\n', "EOF inside string"),
    "one class": ("text,label\nx,1\ny,1\n", "one class only, '1'"),
    "a NUL": ("text,label\nx,1\n\0y,2\n", "has NUL characters in line 3"),
    "a NUL within": ("text,label\nx,1\nlost\0 words,2\n", "has NUL characters in line 3"),
    "many columns": (
        "text," + "c" * 900 + "," + ",".join(map(str, range(900))) + "\n" + "1," * 901 + "1\n",
        "has no column 'label'; it has text, " + "c" * 40 + ", 0,",
    ),
    "a column twice": ("text,label,label\nx,1,1\n", "column 'label' is there twice"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_csv(tmp_path, case):
    text, message = BAD_FILES[case]
    with pytest.raises(ValueError) as caught:
        tasks.own_task(write(tmp_path / "a.csv", text))
    said = str(caught.value)
    assert message in said and "\n" not in said and len(said) < 600


def test_other_bad_files(tmp_path):
    def refused(path, message, **options):
        with pytest.raises(ValueError) as caught:
            tasks.own_task(path, **options)
        assert message in str(caught.value) and "\n" not in str(caught.value)

    refused(tmp_path / "none.csv", "there is no file")
    refused(write(tmp_path / "a.xls", "x"), "unknown kind of file; known are .csv, .tsv")
    (tmp_path / "latin.csv").write_bytes("text,label\nnaïve,1\nx,2\n".encode("latin-1"))
    refused(tmp_path / "latin.csv", "not in UTF-8")
    (tmp_path / "wide.csv").write_bytes("text,label\nx,1\ny,2\n".encode("utf-16"))
    refused(tmp_path / "wide.csv", "not in UTF-8")
    refused(write(tmp_path / "torn.jsonl", '{"text":"a","label":1}\n{"text":"b",\n'), "cannot be")
    mixed = write(tmp_path / "mixed.jsonl", '{"text":"a","label":1}\n{"text":"b","label":"x"}\n')
    refused(mixed, "mixed.jsonl")  # datasets or obce says why, by the version
    missing = write(tmp_path / "missing.jsonl", '{"text":"a","label":1}\n{"text":"b"}\n')
    refused(missing, "has no label in row 2")
    refused(write(tmp_path / "p.parquet", "nonsense"), "p.parquet")
    numbers = write(tmp_path / "n.jsonl", '{"text":1,"label":1}\n{"text":2,"label":2}\n')
    refused(numbers, "column 'text' holds int64, not texts")
    good = write(tmp_path / "a.csv", "text,label\nx,1\ny,2\n")
    refused(good, "cannot be both texts", text_pair_column="text")
    refused(good, "cannot be both text and label", label_column="text")
    refused(write(tmp_path / "w.csv", "text,label\nx,a\ny,b\n"), "no number as label in rows 1, 2",
            regression=True)  # fmt: skip


def test_dev_that_train_does_not_fit():
    train = Dataset.from_dict({"text": list("abc"), "label": ["pos", "neg", "pos"]})
    dev = Dataset.from_dict({"text": ["x"], "label": ["neutral"]})
    with pytest.raises(ValueError, match="dev has the label neutral; known are neg, pos"):
        tasks.own_task(train, dev)
    dev = Dataset.from_dict({"text": ["x", "y"], "label": [0, 1]})
    with pytest.raises(ValueError, match=r"0, 1 \(numbers where names are expected\)"):
        tasks.own_task(train, dev)
    with pytest.raises(ValueError, match="same label"):
        tasks.own_task(Dataset.from_dict({"text": ["x", "y"], "label": ["a", "a"]}),
                       labels=("a", "b"))  # fmt: skip
    many = Dataset.from_dict({"text": ["x"] * 200, "label": list(range(200))})
    with pytest.raises(ValueError, match="200 classes in 200 rows"):
        tasks.own_task(many)
    with pytest.raises(ValueError, match="give train, dev or both"):
        tasks.own_task(None)
    with pytest.raises(ValueError, match="a datasets.Dataset or a file is wanted, not a dict"):
        tasks.own_task({"text": ["a"], "label": [1]})
    nested = Dataset.from_dict({"text": [{"a": "b"}, {"a": "c"}], "label": [0, 1]})
    with pytest.raises(ValueError, match="column 'text' holds .*, not texts"):
        tasks.own_task(nested)


def test_rows_that_were_selected_keep_their_order():
    rows = Dataset.from_dict({"text": list("abcd"), "label": list("xyxz")}).select([3, 1, 0])
    task = tasks.own_task(rows)
    assert task.labels == ("x", "y", "z")
    assert task.data["train"]["sentence"][:] == ["d", "b", "a"]
    assert task.data["train"]["label"][:] == [2, 1, 0]


def test_labels_of_a_model_are_checked():
    rows = Dataset.from_dict({"text": list("ab"), "label": ["Good one", "bad"]})
    task = tasks.own_task(rows)
    names = dict(enumerate(task.labels))
    tasks.check_labels(task, BertConfig(id2label=names))
    with pytest.raises(ValueError, match="--label-map"):  # which of them is LABEL_0?
        tasks.check_labels(task, BertConfig(num_labels=2))
    with pytest.raises(ValueError, match="not those of task own"):
        tasks.check_labels(task, BertConfig(id2label={0: "bad", 1: "Good one"}))
    numbers = tasks.own_task(Dataset.from_dict({"text": list("ab"), "label": [0, 1]}))
    tasks.check_labels(numbers, BertConfig(num_labels=2))


def test_texts_without_labels(tmp_path):
    lines = write(tmp_path / "corpus.txt", "one\n\n two \n\t\nthree\u2028still three\n")
    assert tasks.read_texts(lines)["sentence"][:] == ["one", " two ", "three\u2028still three"]
    table = write(tmp_path / "corpus.jsonl", '{"body": "a"}\n{"body": "b"}\n')
    assert tasks.read_texts(table, "body")["sentence"][:] == ["a", "b"]
    for path, field, message in (
        (lines, "body", "has no fields"),
        (table, None, "has no column 'text'; it has body"),
        (write(tmp_path / "empty.txt", "\n \n"), None, "has no rows"),
        (write(tmp_path / "hole.jsonl", '{"text": "a"}\n{"text": null}\n'), None, "in row 2"),
        (tmp_path / "none.txt", None, "there is no file"),
    ):
        with pytest.raises(ValueError, match=message):
            tasks.read_texts(path, field)
