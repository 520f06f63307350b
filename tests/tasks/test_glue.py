"""Tasks, loaders, metrics: every reader rule on files written here, and counts on real GLUE."""

import os
from pathlib import Path
from types import SimpleNamespace

import datasets
import huggingface_hub
import numpy as np
import pytest

from obce import tasks

REAL = os.environ.get("OBCE_GLUE_DIR")
SAMPLES = {("qqp", "train"): 21725, ("qqp", "dev"): 8404}
SAMPLES |= {("qnli", "train"): 18869, ("mnli", "train"): 27572}
GLUE_TASKS = [task for task in tasks.TASKS.values() if not task.builtin]


@pytest.fixture(autouse=True)
def no_folder_variable(monkeypatch):
    monkeypatch.delenv("OBCE_GLUE_DIR", raising=False)


def write(folder: Path, path: str, *lines: str, encoding="utf-8", end="\n") -> Path:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes((end.join(lines) + end).encode(encoding))
    return folder


# Real files


@pytest.mark.skipif(not REAL, reason="OBCE_GLUE_DIR names no folder with real GLUE")
@pytest.mark.parametrize(
    ("name", "split"), [(task.name, split) for task in GLUE_TASKS for split in task.rows]
)
def test_row_counts_of_real_glue(name, split):
    if (name, split) == ("qqp", "test") and not (Path(REAL) / "QQP" / "test.tsv").exists():
        with pytest.raises(ValueError, match="no test split of qqp"):
            tasks.load(name, split, REAL)
        return
    task, dataset = tasks.get_task(name), tasks.load(name, split, REAL)
    assert len(dataset) in (task.rows[split], SAMPLES.get((name, split)))
    assert ("label" in dataset.column_names) == (not split.startswith("test"))
    if "label" in dataset.column_names:
        labels = np.array(dataset["label"])
        expected = (0, 5) if task.is_regression else (0, task.num_labels - 1)
        assert (labels.min(), labels.max()) == expected
    assert all("\t" not in text and "\n" not in text for text in np.ravel(tasks.texts(dataset)))


@pytest.mark.skipif(not REAL, reason="OBCE_GLUE_DIR names no folder with real GLUE")
@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("cola", ("The sailors rode the breeze clear of the rocks.", 1)),
        (
            "mrpc",
            (
                "He said the foodservice pie business doesn 't fit the company 's long-term "
                "growth strategy .",
                '" The foodservice pie business does not fit our long-term growth strategy .',
                1,
            ),
        ),
        (
            "stsb",
            ("A man with a hard hat is dancing.", "A man wearing a hard hat is dancing.", 5.0),
        ),
        (
            "mnli",
            ("The new rights are nice enough", "Everyone really likes the newest benefits ", 1),
        ),
    ],
)
def test_first_dev_row_of_real_glue(name, row):
    dataset = tasks.load(name, "dev", REAL)
    assert tuple(dataset[0].values()) == row


# The folder reader


def test_cola_has_no_header_and_a_bom_and_quotes_mean_nothing(tmp_path):
    write(tmp_path, "CoLA/dev.tsv", 'gj04\t1\t\t"Hm," he', 'gj04\t0\t*\tsaid".', end="\r\n")
    write(tmp_path, "CoLA/train.tsv", "gj04\t1\t\tOne.", encoding="utf-8-sig")
    write(tmp_path, "CoLA/test.tsv", "index\tsentence", "0\tFirst.", "1\tSecond.")
    dev = tasks.load("CoLA", "dev", tmp_path)
    assert dev["sentence"][:] == ['"Hm," he', 'said".'] and dev["label"][:] == [1, 0]
    assert tasks.load("cola", "train", tmp_path)[0] == {"sentence": "One.", "label": 1}
    test = tasks.load("cola", "test", tmp_path)
    assert test.column_names == ["sentence"] and tasks.texts(test) == ["First.", "Second."]


def test_only_a_line_feed_ends_a_line(tmp_path):
    odd = "a\u2028b\u0085c\x0bd\x1ce"
    write(tmp_path, "SST-2/train.tsv", "sentence\tlabel", f"{odd}\t1", "plain \t0")
    dataset = tasks.load("sst2", "train", tmp_path)
    assert dataset["sentence"][:] == [odd, "plain "]


def test_columns_are_found_by_the_header(tmp_path):
    write(tmp_path, "MNLI/train.tsv", "a\tsentence1\tsentence2\tlabel1\tgold_label",
          "0\tP\tH\tneutral\tcontradiction")  # fmt: skip
    write(tmp_path, "MNLI/dev_matched.tsv", "gold_label\tsentence2\tsentence1", "entailment\tH\tP")
    write(tmp_path, "MNLI/dev_mismatched.tsv", "sentence1\tsentence2\tgold_label", "P\tH\tneutral")
    write(tmp_path, "MNLI/test_mismatched.tsv", "sentence1\tsentence2", "P\tH")
    both = {"sentence1": "P", "sentence2": "H"}
    assert tasks.load("mnli", "train", tmp_path)[0] == both | {"label": 2}
    assert tasks.load("mnli", "dev", tmp_path)[0] == both | {"label": 0}
    assert tasks.load("mnli", "dev_mismatched", tmp_path)[0] == both | {"label": 1}
    assert tasks.load("mnli", "test_mismatched", tmp_path)[0] == both


@pytest.mark.parametrize(
    ("name", "header", "line", "label"),
    [
        ("mrpc", "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", "1\t7\t8\tP\tH", 1),
        ("qqp", "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "1\t7\t8\tP\tH\t0", 0),
        ("qnli", "index\tquestion\tsentence\tlabel", "0\tP\tH\tentailment", 0),
        ("rte", "index\tsentence1\tsentence2\tlabel", "0\tP\tH\tnot_entailment", 1),
        ("wnli", "index\tsentence1\tsentence2\tlabel", "0\tP\tH\t1", 1),
        ("stsb", "index\tsentence1\tsentence2\tscore", "0\tP\tH\t3.25", 3.25),
    ],
)
def test_pair_tasks(tmp_path, name, header, line, label):
    write(tmp_path, f"{tasks.get_task(name).folder}/train.tsv", header, line)
    dataset = tasks.load(name, "train", tmp_path)
    assert dataset[0] == {"sentence1": "P", "sentence2": "H", "label": label}
    assert tasks.texts(dataset) == [("P", "H")]


@pytest.mark.parametrize("place", ["AX/diagnostic.tsv", "diagnostic/diagnostic.tsv"])
def test_the_diagnostic_set_has_no_labels(tmp_path, place):
    write(tmp_path, place, "index\tsentence1\tsentence2", "0\tP\tH")
    assert tasks.load("ax", "test", tmp_path)[0] == {"sentence1": "P", "sentence2": "H"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["sentence\tlabel", "good\t1", "torn"], r"train.tsv, line 3: 1 columns where 2 are"),
        (["sentence\tlabel", "a\tb\t1"], r"train.tsv, line 2: 3 columns where 2 are expected"),
        (["sentence\tlabel", "", "good\t1"], r"train.tsv, line 2: 1 columns where 2 are"),
        (["sentence\tlabel", "good\tpositive"], r"line 2: unknown label 'positive'; known are 0,"),
        (["sentence\tgold", "good\t1"], r"train.tsv has no column 'label'; it has sentence, gold"),
        (["sentence\tlabel"], "train.tsv has no rows"),
        ([""], "train.tsv has no column 'sentence'"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path, lines, message):
    write(tmp_path, "SST-2/train.tsv", *lines)
    with pytest.raises(ValueError, match=message) as caught:
        tasks.load("sst2", "train", tmp_path)
    assert "\n" not in str(caught.value)


def test_torn_lines_that_the_official_count_leaves_out_are_dropped(tmp_path, monkeypatch):
    monkeypatch.setitem(tasks.get_task("qqp").rows, "train", 2)
    row = "1\t7\t8\tP\tH\t0"
    write(tmp_path, "QQP/train.tsv", "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
          row, "2\t7\t8\tP", "\tH\t1", row)  # fmt: skip
    assert len(tasks.load("qqp", "train", tmp_path)) == 2


@pytest.mark.parametrize("score", ["5.5", "-1", "nan", "high"])
def test_a_score_off_the_scale_is_refused(tmp_path, score):
    write(tmp_path, "STS-B/dev.tsv", "sentence1\tsentence2\tscore", f"P\tH\t{score}")
    with pytest.raises(ValueError, match=f"line 2: label '{score}' is no score from 0 to 5"):
        tasks.load("stsb", "dev", tmp_path)


def test_missing_things_are_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere does not exist; it should hold RTE/"):
        tasks.load("rte", "dev", tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no dev split of rte: .*dev.tsv does not exist"):
        tasks.load("rte", "dev", tmp_path)
    with pytest.raises(ValueError, match="unknown task 'squad'; known are cola, sst2, .*mini-"):
        tasks.load("squad", "dev", tmp_path)
    with pytest.raises(ValueError, match="task ax has no split 'dev'; it has test"):
        tasks.load("ax", "dev", tmp_path)
    write(tmp_path, "RTE/dev.tsv", "sentence1\tsentence2\tlabel", "caf\u00e9\tP\tx",
          encoding="latin-1")  # fmt: skip
    with pytest.raises(ValueError, match=r"dev.tsv is not UTF-8 \(byte 29\)"):
        tasks.load("rte", "dev", tmp_path)


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    write(tmp_path, "SST-2/dev.tsv", "sentence\tlabel", "good\t1")
    monkeypatch.setenv("OBCE_GLUE_DIR", str(tmp_path))
    assert len(tasks.load("sst2", "dev")) == 1


def test_limit_takes_a_seeded_random_subset(tmp_path):
    sentences = [f"sentence {i}" for i in range(100)]
    write(tmp_path, "SST-2/train.tsv", "sentence\tlabel", *(f"{s}\t1" for s in sentences))

    def load(limit, seed=0):
        return tasks.texts(tasks.load("sst2", "train", tmp_path, limit, seed))

    subset = load(20)
    assert len(set(subset)) == 20 and set(subset) < set(sentences)
    assert subset != sentences[:20] and subset != sorted(subset, key=sentences.index)
    assert subset == load(20) and subset != load(20, seed=1)
    assert load(100) == load(1000) == load(None) == sentences
    with pytest.raises(ValueError, match="limit must be at least 1 row, not 0"):
        load(0)


def test_data_sha256_sees_texts_labels_and_order(tmp_path):
    def digest(*lines, name="stsb"):
        write(tmp_path, "STS-B/dev.tsv", "sentence1\tsentence2\tscore", *lines)
        return tasks.data_sha256(tasks.load("stsb", "dev", tmp_path))

    first = digest("P\tH\t3.8", "Q\tH\t1")
    assert first == digest("P\tH\t3.800", "Q\tH\t1.0") and len(first) == 64
    others = [digest("Q\tH\t1", "P\tH\t3.8"), digest("P\tH\t3.8"), digest("P\tH\t3.7", "Q\tH\t1")]
    assert len({first, *others}) == 4


# The Hub


class Probe:
    """Stands for HfApi: reachable or not, without a network."""

    reachable = True

    def dataset_info(self, name, timeout):
        if not self.reachable:
            raise OSError("no network")


@pytest.fixture
def hub(monkeypatch):
    """Sets what load_dataset gives (or raises) and notes how it was called."""
    calls = []

    def set_result(result, reachable=True):
        def load_dataset(*args, **kwargs):
            calls.append((*args, kwargs["split"], datasets.config.HF_HUB_OFFLINE))
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        monkeypatch.setattr(Probe, "reachable", reachable)
        monkeypatch.setattr(huggingface_hub, "HfApi", Probe)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        return calls

    return set_result


def test_hub_columns_become_ours(hub):
    rows = {"premise": ["P", "Q"], "hypothesis": ["H", "H"], "label": [2, 0], "idx": [0, 1]}
    features = datasets.Features(
        premise=datasets.Value("string"),
        hypothesis=datasets.Value("string"),
        label=datasets.ClassLabel(names=["entailment", "neutral", "contradiction"]),
        idx=datasets.Value("int32"),
    )
    calls = hub(datasets.Dataset.from_dict(rows, features))
    dataset = tasks.load("mnli", "dev")
    assert dataset[0] == {"sentence1": "P", "sentence2": "H", "label": 2}
    assert dataset.column_names == ["sentence1", "sentence2", "label"]
    tasks.load("mnli", "dev_mismatched"), tasks.load("mnli", "train"), tasks.load("mnli", "test")
    assert [call[:2] for call in calls] == [("nyu-mll/glue", "mnli")] * 4
    assert [call[2] for call in calls] == [
        "validation_matched", "validation_mismatched", "train", "test_matched",
    ]  # fmt: skip


def test_the_same_rows_from_hub_and_folder_have_one_sha256(hub, tmp_path):
    rows = {"sentence1": ["P"], "sentence2": ["H"], "label": [3.8], "idx": [0]}
    dataset = datasets.Dataset.from_dict(rows)
    hub(dataset.cast_column("label", datasets.Value("float32")))
    write(tmp_path, "STS-B/dev.tsv", "sentence1\tsentence2\tscore", "P\tH\t3.800")
    local = tasks.load("stsb", "dev", tmp_path)
    assert tasks.data_sha256(tasks.load("stsb", "dev")) == tasks.data_sha256(local)


def test_hub_label_minus_one_means_unlabelled(hub):
    hub(datasets.Dataset.from_dict({"sentence": ["a", "b"], "label": [-1, -1], "idx": [0, 1]}))
    assert tasks.load("sst2", "test").column_names == ["sentence"]


@pytest.mark.parametrize("error", [ConnectionError("gone"), ValueError("no cache"), OSError(28)])
def test_a_hub_out_of_reach_is_one_clear_line(hub, error):
    calls = hub(error, reachable=False)
    with pytest.raises(ValueError, match=f"cannot get rte .*{type(error).__name__}") as caught:
        tasks.load("rte", "dev")
    message = str(caught.value)
    assert "\n" not in message
    assert all(hint in message for hint in ("--glue-dir", "OBCE_GLUE_DIR", "mini-sentiment"))
    # out of reach, datasets is asked for its cache only, and is left as it was
    assert calls[0][-1] is True and datasets.config.HF_HUB_OFFLINE is False


def test_offline_mode_does_not_touch_the_network(monkeypatch):
    def no_network(self):
        raise AssertionError("the Hub was asked in offline mode")

    monkeypatch.setattr(huggingface_hub, "HfApi", no_network)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", "no-such-cache")
    with pytest.raises(ValueError, match="cannot get rte from nyu-mll/glue"):
        tasks.load("rte", "dev")


# Tasks


def test_tasks_are_complete_and_consistent():
    assert [task.name for task in GLUE_TASKS] == [
        "cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli", "ax",
    ]  # fmt: skip
    assert sum(task.builtin for task in tasks.TASKS.values()) == 5
    for task in GLUE_TASKS:
        assert task.is_regression == (task.name == "stsb")
        assert task.is_regression or len(task.file_labels) == task.num_labels
    assert tasks.get_task("stsb").num_labels == 1 and tasks.get_task("mnli").num_labels == 3
    assert tasks.get_task("mrpc").main_metric == "accuracy" and tasks.get_task("qqp").is_pair


@pytest.mark.parametrize(
    ("written", "name"),
    [("SST-2", "sst2"), ("STS-B", "stsb"), ("MNLI", "mnli"), ("Mini_Sentiment", "mini-sentiment")],
)
def test_task_names_are_forgiving(written, name):
    assert tasks.get_task(written).name == name


# Metrics, by hand


def test_accuracy_f1_and_mcc_by_hand():
    # predicted 1 1 0 0 1, true 1 0 0 1 1: tp 2, fp 1, tn 1, fn 1
    logits = np.array([[0, 1], [-2, -1], [3, 1], [1, 0], [0, 9]])
    labels = np.array([1, 0, 0, 1, 1])
    both = tasks.compute_metrics("mrpc", logits, labels)
    assert both == {"accuracy": pytest.approx(0.6), "f1": pytest.approx(2 / 3)}
    assert list(both) == ["accuracy", "f1"] and type(both["f1"]) is float
    mcc = (2 * 1 - 1 * 1) / np.sqrt(3 * 3 * 2 * 2)
    assert tasks.compute_metrics("cola", logits, labels) == {
        "matthews_correlation": pytest.approx(mcc)
    }
    assert tasks.compute_metrics("rte", logits, labels) == {"accuracy": pytest.approx(0.6)}


def test_three_classes():
    logits = np.eye(3)[[0, 2, 1, 1]]
    assert tasks.compute_metrics("mnli", logits, np.array([0, 2, 1, 0])) == {"accuracy": 0.75}


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_correlations_by_hand(shape):
    predictions = np.array([1.0, 2.0, 3.0, 10.0], dtype=np.float32).reshape(shape)
    result = tasks.compute_metrics("stsb", predictions, np.array([0.0, 1.0, 2.0, 3.0]))
    # centred: (-3, -2, -1, 6) and (-1.5, -.5, .5, 1.5)
    assert result["pearson"] == pytest.approx(14 / np.sqrt(50 * 5))
    assert result["spearmanr"] == pytest.approx(1.0)


def test_degenerate_predictions_count_as_zero():
    labels, scores = np.array([1, 0]), np.array([1.0, 3.0])
    assert tasks.compute_metrics("cola", np.eye(2)[[0, 0]], labels)["matthews_correlation"] == 0
    assert tasks.compute_metrics("qqp", np.eye(2)[[0, 0]], labels)["f1"] == 0
    zero = {"pearson": 0.0, "spearmanr": 0.0}
    assert tasks.compute_metrics("stsb", np.full(2, 1.7), scores) == zero


def test_bad_predictions_are_refused():
    with pytest.raises(ValueError, match="sst2: predictions hold NaN"):
        tasks.compute_metrics("sst2", np.array([[0.0, np.nan]]), np.array([1]))
    with pytest.raises(ValueError, match=r"\(2, 2\) do not fit .*; expected \(2, 3\)"):
        tasks.compute_metrics("mnli", np.eye(2), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"stsb: 1 rows are too few for pearson"):
        tasks.compute_metrics("stsb", np.array([1.0]), np.array([1.0]))


# Label order


def config(*labels: str) -> SimpleNamespace:
    return SimpleNamespace(num_labels=len(labels), id2label=dict(enumerate(labels)))


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("mnli", ("entailment", "neutral", "contradiction")),
        ("mnli", ("ENTAILMENT", "Neutral", "CONTRADICTION")),
        ("rte", ("entailment", "not-entailment")),
        ("sst2", ("LABEL_0", "LABEL_1")),
        ("sst2", ("0", "1")),
        ("stsb", ("LABEL_0",)),
        ("stsb", ("similarity",)),
        ("mini-sentiment", ("NEGATIVE", "POSITIVE")),
    ],
)
def test_right_labels_pass(name, labels):
    tasks.check_labels(name, config(*labels))


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [
        ("mnli", ("contradiction", "entailment", "neutral"),
         r"\(contradiction, entailment, neutral\).*mnli.*\(entailment, neutral, contradiction\)"),
        ("qnli", ("not_entailment", "entailment"), "not those of task qnli"),
        ("sst2", ("LABEL_1", "LABEL_0"), "LABEL_1, LABEL_0"),
        ("sst2", ("bad", "good"), r"\(bad, good\) are not those of task sst2"),
        ("sst2", ("a", "b", "c"), "the model has 3 labels, task sst2 has 2 .negative, positive"),
        ("stsb", ("a", "b"), r"the model has 2 labels, task stsb has 1 \(a score\)"),
    ],
)  # fmt: skip
def test_wrong_labels_are_refused(name, labels, message):
    with pytest.raises(ValueError, match=message):
        tasks.check_labels(name, config(*labels))


def test_labels_of_a_real_config():
    from transformers import BertConfig

    tasks.check_labels("rte", BertConfig())
    good = BertConfig(id2label={1: "not_entailment", 0: "entailment"})
    tasks.check_labels("rte", good)
    with pytest.raises(ValueError, match="not those of task rte"):
        tasks.check_labels("rte", BertConfig(id2label={0: "not_entailment", 1: "entailment"}))


# Broken files


@pytest.fixture
def sst2(tmp_path):
    """Writes the dev file of SST-2, and loads it."""

    def read(text):
        (tmp_path / "SST-2").mkdir(exist_ok=True)
        (tmp_path / "SST-2" / "dev.tsv").write_bytes(text.encode())
        return tasks.load("sst2", "dev", tmp_path)

    return read


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sentence\tlabel\nfine\t1\nba\0d\t0\n", "line 3: a NUL byte; the file is broken"),
        ("sentence\tlabel\nfi\rne\t1\n", "line 2: a carriage return inside a line"),
        ("sentence\tlabel\rfine\t1\r", "line 1: a carriage return inside a line"),
        ("sentence\tlabel\tlabel\nfine\t1\t0\n", "more than one column 'label'"),
        ("x" * 9000 + "\tlabel\nfine\t1\n", "has no column 'sentence'; it has"),
        ("sentence\tlabel\nfine\t" + "7" * 9000 + "\n", "unknown label '777"),
    ],
)
def test_broken_files_are_refused_in_one_short_line(sst2, text, message):
    with pytest.raises(ValueError, match=message) as error:
        sst2(text)
    assert len(str(error.value)) < 500


def test_line_ends_of_windows_are_no_fault(sst2):
    assert sst2("sentence\tlabel\r\nfine\t1\r\n")["sentence"][:] == ["fine"]


@pytest.mark.parametrize("score", ["0_1", "nan", "inf", "５", "", "1e9"])
def test_what_is_no_score(tmp_path, score):
    (tmp_path / "STS-B").mkdir()
    text = f"sentence1\tsentence2\tscore\na\tb\t1.5\nc\td\t{score}\n"
    (tmp_path / "STS-B" / "dev.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="line 3: label .* is no score from 0 to 5"):
        tasks.load("stsb", "dev", tmp_path)
