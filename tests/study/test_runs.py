"""Studies that run: a tiny random BERT, two built-in tasks, killed, resumed, side by side."""

import itertools
import json
import random
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import make_config, with_random_weights
from datasets import Dataset
from scipy import stats
from transformers import BertForSequenceClassification, BertModel

import obce
from obce import tasks
from obce.readings import Readings, read
from obce.running.evaluation import predict
from obce.study import measures, store
from obce.study.config import load_study
from obce.study.dense import dense_folder
from obce.study.group import shuffled
from obce.study.layers import drop_layers, with_layers
from obce.study.report import report_of, report_text
from obce.study.status import status_of
from obce.study.workers import Worker

CONFIG = """
name = "tiny"
question = "Which score is best?"
[dense]
model = "{model}"
epochs = 0.5
train_limit = 64
batch_size = 16
max_length = 64
[dense.mini-similarity]
start = "mini-sentiment"
[defaults]
texts = 20
dev_limit = 30
points = 100
[[grid]]
tasks = ["mini-sentiment", "mini-similarity"]
seeds = [0]
score = ["std", {{score = "persistence_share", metric = "loss"}}]
keep_encoder = [0.8, 0.6]
[[grid]]
tasks = ["mini-sentiment"]
seeds = [1]
score = ["random", "drop_layers"]
score_seed = [0, 1]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory, tokenizer):
    """A folder with a model, a study, and the study's dense models once they are made."""
    folder = tmp_path_factory.mktemp("study")
    config = make_config()
    config.intermediate_size = 400  # so many units meet any budget
    with_random_weights(BertModel(config)).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "study.toml").write_text(CONFIG.format(model=folder / "model"))
    return folder


@pytest.fixture(scope="module")
def finished(place):
    """The records of a study that ran without a stop, and the lines that it said."""
    lines = []
    study = load_study(place / "study.toml")
    assert Worker(study, place / "out", place / "work", device="cpu", say=lines.append).run()
    return study, place / "out", lines


def more(place, name, text):
    path = place / name
    path.write_text(CONFIG.format(model=place / "model").split("[[grid]]")[0] + text)
    return path


def run_worker(path, out, place, **options):
    lines = []
    worker = Worker(
        load_study(path), out, place / "work", device="cpu", say=lines.append, **options
    )
    return worker.run(), lines


def test_every_cell_is_recorded_with_both_measures(finished):
    study, out, _ = finished
    assert {path.name for path in out.iterdir()} == {
        "mini-sentiment-0.json", "mini-similarity-0.json", "mini-sentiment-1.json"
    }  # fmt: skip
    for key, cells in study.groups.items():
        record = store.load_group(out, key)
        assert (record["task"], record["seed"], record["complete"]) == (*key, True)
        assert record["cells"].keys() == {cell.id for cell in cells}
        assert record["dev"]["30"]["rows_used"] == 30
        assert record["dev"]["30"]["rows_official"] == 400
        assert record["train"]["rows_used"] == 64
        (dense,) = record["dense"].values()
        labels = measures.unpack(record["dev"]["30"]["labels"])
        for cell in record["cells"].values():
            rows = measures.unpack(cell["rows"]["divergence"])
            assert rows.mean() == pytest.approx(cell["divergence"], rel=1e-3)
            low, high = cell["divergence_interval"]
            assert low < cell["divergence"] < high
            predictions = measures.unpack(cell["rows"]["predictions"])
            if key[0] == "mini-sentiment":
                assert cell["metrics"]["accuracy"] == pytest.approx((predictions == labels).mean())
                of_dense = measures.unpack(dense["dev"]["30"]["predictions"])
                assert cell["agreement"] == pytest.approx((predictions == of_dense).mean())
            assert cell["keep_total"] > cell["keep_encoder"]
            assert len(json.dumps(cell)) < 3000
    similar = store.load_group(out, ("mini-similarity", 0))
    assert similar["recipe"]["start"]["task"] == "mini-sentiment"
    cells = similar["cells"].values()
    for cell in (cell for cell in cells if cell["settings"]["score"] == "std"):
        assert abs(cell["keep_encoder"] - cell["settings"]["keep_encoder"]) < 0.02
        assert 0.3 < cell["spearman_std"] <= 1


def test_no_path_of_this_machine_is_recorded(finished, place):
    for path in finished[1].glob("*.json"):
        assert str(place) not in path.read_text()


def test_a_finished_study_runs_nothing_and_shares_its_dense_models(finished, place):
    _, out, lines = finished
    assert sum("fine-tune the dense model" in line for line in lines) == 3
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert run_worker(place / "study.toml", out, place) == (True, [])
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_the_status_counts_and_estimates(finished, place):
    study, out, _ = finished
    done = status_of(study, out)
    assert (done["cells"], done["done"], done["left"], done["failed"]) == (11, 11, 0, 0)
    assert done["seconds_left"] == 0
    nothing = status_of(study, place / "nowhere")
    assert (nothing["done"], nothing["left"], nothing["seconds_left"]) == (0, 11, None)
    record = store.load_group(out, ("mini-sentiment", 1))
    path = place / "part"
    store.save_group(path, ("mini-sentiment", 1), record)
    for cell in record["cells"].values():
        cell["seconds"]["total"] = 10.0
    store.save_group(path, ("mini-sentiment", 1), record)
    assert status_of(study, path)["seconds_left"] == pytest.approx(80.0)
    with store.locked(store.lock_of(path, ("mini-sentiment", 0))):
        busy = status_of(study, path)
    assert (busy["running"], busy["left"]) == (1, 7)


def by_chance(out, seed):
    """Of the tasks with classes, those whose dense model knows no more than the usual answer."""
    record = store.load_group(out, ("mini-sentiment", seed))
    (dense,) = record["dense"].values()
    usual = np.bincount(measures.unpack(record["dev"]["30"]["labels"])).max() / 30
    right = dense["dev"]["30"]["metrics"]["accuracy"]
    return ["mini-sentiment"] if right <= usual + 1e-9 else []


def test_the_report_needs_the_records_alone(finished, place):
    study, out, _ = finished
    report = report_of(out)
    assert report["complete"] and report["cells"] == 11
    budget = report["budgets"]["60 % of the encoder"]
    assert {*budget["scores"]} == {"std mean", "persistence_share loss"}
    (claim,) = budget["claims"]
    learned = {"mini-sentiment", "mini-similarity"} - set(by_chance(out, 0))
    assert claim["tasks"] == len(learned) and {*claim["per_task"]} == learned
    one, other = (budget["scores"][claim[name]] for name in ("one", "other"))
    for task, difference in claim["per_task"].items():
        by_hand = np.log(
            one["per_task"][task]["divergence"] / other["per_task"][task]["divergence"]
        )
        assert difference == pytest.approx(by_hand)
    chance = report["budgets"]["46.5 % of the encoder"]["chance"]["random"]["mini-sentiment"]
    assert chance["draws"] == 2 and set(chance["nearer_than"]) == {"drop_layers"}
    text = report_text(report)
    assert "| mini-sentiment | accuracy |" in text and "30 of 400" in text
    wanted = [f"{task} {seed}:" for seed in (0, 1) for task in by_chance(out, seed)]
    assert [" ".join(remark.split()[:2]) for remark in report["remarks"]] == wanted
    assert "Ahead:" in text and "corrected for 1 comparisons" in text
    json.dumps(report, allow_nan=False)


def test_report_and_status_load_no_torch(finished, place):
    code = (
        "import sys; sys.argv = ['obce']; from obce.study.report import report_of; "
        "from obce.study.status import status_of; report_of(sys.stdin.read()); "
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], input=str(finished[1]), text=True, check=True)


def test_a_failing_cell_says_why_and_stops_nothing(place, finished):
    path = more(place, "failing.toml", """
[[grid]]
tasks = ["mini-sentiment"]
score = "std"
keep_encoder = [0.001, 0.7]
""")  # fmt: skip
    out = place / "failing"
    good, lines = run_worker(path, out, place)
    assert not good and "failed: ValueError: keep_encoder=0.001 cannot be reached" in lines[0]
    assert "divergence" in lines[1]
    found = status_of(load_study(path), out)
    assert (found["done"], found["failed"], found["left"]) == (1, 1, 0)
    assert "cannot be reached" in found["failures"][0]["error"]
    assert run_worker(path, out, place) == (False, [])  # nothing is run, and it is still no success
    good, lines = run_worker(path, out, place, retry_failed=True)
    assert not good and len(lines) == 1
    assert report_of(out)["failed"] == 1


def test_ranks_of_the_halves_of_a_corpus(place, finished):
    path = more(place, "halves.toml", """
[[grid]]
tasks = ["mini-sentiment"]
score = [{score = "std", metric = "plain"}, "random", "merge_radius"]
texts = 40
repair = "none"
stability = "halves"
keep_encoder = 0.7
""")  # fmt: skip
    out = place / "halves"
    assert run_worker(path, out, place)[0]
    record = store.load_group(out, ("mini-sentiment", 0))
    by_score = {cell["settings"]["score"]: cell for cell in record["cells"].values()}
    assert "spearman_halves" not in by_score["random"]
    assert 0.5 < by_score["std"]["spearman_halves"] < 1
    assert by_score["merge_radius"]["spearman_halves"] < by_score["std"]["spearman_halves"]
    # by hand, from the texts themselves
    folder = dense_folder(load_study(path), "mini-sentiment", 0, place / "work", None, print, "cpu")
    model, tokenizer, _ = obce.load_classifier(folder, "mini-sentiment")
    rows = tasks.load("mini-sentiment", "train", limit=64)
    drawn = random.Random(0).sample(range(64), 64)[:40]
    texts = [rows["sentence"][i] for i in drawn]
    stds = [
        {group: points.std(axis=0) for group, points in
         read(model, tokenizer, half, points=10**6).points.items()}
        for half in (texts[:20], texts[20:])
    ]  # fmt: skip
    found = [stats.spearmanr(stds[0][g], stds[1][g]).statistic for g in stds[0]]
    assert by_score["std"]["spearman_halves"] == pytest.approx(np.mean(found), abs=1e-3)
    assert "Ranks by one half" in report_text(report_of(out))


def test_fine_tuned_again_with_a_teacher_and_cut_before_any_fine_tuning(place, finished):
    path = more(place, "again.toml", """
[[grid]]
tasks = ["mini-similarity"]
score = {score = "std", metric = "norm"}
keep_encoder = 0.7
again = [0, 0.5]
teacher = ["none", "dense"]
[[grid]]
tasks = ["mini-similarity"]
score = {score = "std", metric = "norm"}
keep_encoder = 0.7
again = 0.5
order = "cut_first"
""")  # fmt: skip
    out = place / "again"
    assert run_worker(path, out, place)[0]
    (record,) = store.load_groups(out)
    found = {}
    for cell in record["cells"].values():
        settings = cell["settings"]
        found[settings["again"], settings.get("teacher"), settings.get("order")] = cell
    assert found.keys() == {
        (0.0, None, None), (0.5, "none", None), (0.5, "dense", None), (0.5, "none", "cut_first"),
    }  # fmt: skip
    assert len({cell["divergence"] for cell in found.values()}) == 4
    assert len({cell["keep_encoder"] for cell in found.values()}) == 1
    ranks = {key: cell["spearman_std"] for key, cell in found.items()}
    assert ranks[0.5, "none", "cut_first"] != ranks[0.5, "none", None] == ranks[0.0, None, None]


def test_a_trial_stays_apart(place, finished, run):
    study, out, _ = finished
    trial = place / "trial"
    options = ("--work", place / "work", "--device", "cpu")
    path = more(place, "trial.toml", '[[grid]]\ntasks = ["mini-sentiment"]\nscore = "magnitude"')
    assert run("study", "run", path, "--out", trial, "--limit", "20", *options)[0] == 0
    record = store.load_group(trial, ("mini-sentiment", 0))
    assert (record["complete"], record["limit"]) == (False, 20)
    assert record["train"]["rows_used"] == record["dev"]["30"]["rows_used"] == 20
    code, printed, _ = run("study", "report", trial)
    assert code == 0 and "a trial with --limit 20: these are no results" in printed
    for there, extra in ((trial, ()), (out, ("--limit", "20"))):
        code, printed, error = run("study", "run", path, "--out", there, *extra, *options)
        assert code == 2 and "they do not mix" in error and not printed
    assert len(store.load_group(trial, ("mini-sentiment", 0))["cells"]) == 1


def test_another_recipe_does_not_mix(place, finished, run):
    path = place / "other.toml"
    text = (place / "study.toml").read_text()
    path.write_text(text.replace("epochs = 0.5", "epochs = 0.25"))
    code, _, error = run("study", "run", path, "--out", finished[1], "--work", place / "work")
    assert code == 2 and "another recipe (epochs)" in error


def test_bad_input_is_one_line(place, run, tmp_path):
    (tmp_path / "bad.toml").write_text('name = "n"\nquestion = "q"\n[[grid]]\nscore = "fame"')
    folders = ("--out", tmp_path / "out", "--work", tmp_path / "work")
    code, _, error = run("study", "run", tmp_path / "bad.toml", *folders)
    assert code == 2 and error.count("\n") == 1 and "[[grid]] 1" in error
    assert not (tmp_path / "out").exists() and not (tmp_path / "work").exists()
    assert run("study", "report", tmp_path)[0] == 2
    assert run("study", "status", tmp_path / "none.toml", "--out", tmp_path)[0] == 2


def test_a_file_that_was_changed_is_named(place, finished, tmp_path, run):
    out = shutil.copytree(finished[1], tmp_path / "out")
    file = out / "mini-sentiment-0.json"
    file.write_text(file.read_text().replace('"accuracy": 0', '"accuracy": 1'))
    for command in (("report", out), ("status", place / "study.toml", "--out", out)):
        code, _, error = run("study", *command)
        assert code == 2 and "mini-sentiment-0.json is not as obce wrote it" in error


def test_cells_of_a_dense_model_that_was_made_anew_stay_apart(place, finished, tmp_path):
    """As on other hardware: the same recipe, other weights."""
    study, out, _ = finished
    out, work = tmp_path / "out", shutil.copytree(place / "work", tmp_path / "work")
    shutil.copytree(finished[1], out)
    folder = dense_folder(study, "mini-sentiment", 0, work, None, print, "cpu")
    model = BertForSequenceClassification.from_pretrained(folder)
    model.classifier.bias.data += 0.1
    model.save_pretrained(folder)
    path = more(place, "again.toml", """
[[grid]]
tasks = ["mini-sentiment"]
score = ["std", {score = "persistence_share", metric = "loss"}, "random"]
keep_encoder = 0.6
""")  # fmt: skip
    lines = []
    assert Worker(load_study(path), out, work, device="cpu", say=lines.append).run()
    assert "is not the one that finished cells rest on" in lines[0]
    record = store.load_group(out, ("mini-sentiment", 0))
    old, new = record["dense"]
    by_score = {c["settings"]["score"]: c["dense"] for c in record["cells"].values()}
    assert len({old, new}) == 2 and by_score["std"] != by_score["random"]
    report = report_of(out)
    assert "cells of 2 dense models" in report["remarks"][0]
    pairs = {frozenset((c["one"], c["other"])): c["tasks"] for c in
             report["budgets"]["60 % of the encoder"]["claims"]}  # fmt: skip
    assert frozenset(("std mean", "random")) not in pairs


def command(place, out, *more):
    return [
        sys.executable, "-m", "obce", "study", "run", place / "study.toml",
        "--out", out, "--work", place / "work", "--device", "cpu", *more,
    ]  # fmt: skip


def contents(out):
    """What the cells of a study came to: all that is no time and no row, number by number. Another
    process rounds differently."""
    found = {}

    def add(value, *path):
        if isinstance(value, dict):
            for name, one in value.items():
                add(one, *path, name)
        elif isinstance(value, list):
            add(dict(enumerate(value)), *path)
        else:
            found[path] = value

    for path in sorted(out.glob("*.json")):
        for name, cell in store.load_sealed(path)["cells"].items():
            add({k: v for k, v in cell.items() if k not in ("seconds", "rows")}, path.name, name)
    return found


def assert_same(found, expected):
    """Numbers to a thousandth, all else as it is."""
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        if isinstance(value, float):
            value = pytest.approx(value, rel=1e-3, abs=1e-9)
        assert found[path] == value, path


@pytest.mark.long
def test_killed_after_each_cell_a_study_ends_as_one_that_was_not(place, finished, tmp_path):
    out = tmp_path / "out"
    seen = {}
    for _ in range(2):
        process = subprocess.Popen(command(place, out), stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if ", cell " in line:
                break
        process.send_signal(signal.SIGKILL)
        process.stderr.close()
        process.wait()
        now = {p.name: store.load_sealed(p)["cells"] for p in out.glob("*.json")}
        for name, cells in seen.items():  # nothing that was finished is run again
            assert cells.items() <= now[name].items()
        assert sum(map(len, now.values())) > sum(map(len, seen.values()))
        seen = now
    assert subprocess.run(command(place, out), check=False).returncode == 0
    assert_same(contents(out), contents(finished[1]))
    assert not list(out.glob(".obce-scratch-*"))


@pytest.mark.long
def test_two_workers_run_each_cell_once(place, finished, tmp_path):
    out = tmp_path / "out"
    done = subprocess.run(
        command(place, out, "--workers", "2"), stderr=subprocess.PIPE, text=True, check=True
    )
    lines = [line.split(":")[0] for line in done.stderr.splitlines() if ", cell " in line]
    assert len(lines) == len(set(lines)) == 11
    assert_same(contents(out), contents(finished[1]))


@pytest.mark.long
def test_a_terminated_study_ends_its_workers(place, finished, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(place, out, "--workers", "2"), stderr=subprocess.PIPE, text=True
    )
    while ", cell " not in process.stderr.readline():
        pass
    process.terminate()
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and "goes on where it stopped" in rest
    for key in load_study(place / "study.toml").groups:
        assert not store.is_busy(out, key)


def test_a_model_of_some_layers_is_that_of_transformers(tiny_classifier):
    import torch

    inputs = {"input_ids": torch.tensor([[101, 2023, 3185, 102]])}
    for kept in itertools.combinations(range(3), 2):
        config = make_config()
        config.num_labels, config.num_hidden_layers = 3, 2
        expected = BertForSequenceClassification(config).eval()
        weights = {
            name: tensor
            for name, tensor in tiny_classifier.state_dict().items()
            if "encoder.layer" not in name
        }
        for new, old in enumerate(kept):
            for name, tensor in tiny_classifier.bert.encoder.layer[old].state_dict().items():
                weights[f"bert.encoder.layer.{new}.{name}"] = tensor
        expected.load_state_dict(weights)
        small = with_layers(tiny_classifier, kept)
        with torch.no_grad():
            assert torch.equal(small(**inputs).logits, expected(**inputs).logits)
        assert small.bert.embeddings.word_embeddings.weight is (
            tiny_classifier.bert.embeddings.word_embeddings.weight
        )
    assert len(tiny_classifier.bert.encoder.layer) == 3


def test_dropped_layers_are_the_nearest_of_all(tiny_classifier, tokenizer, sentences):
    rows = Dataset.from_dict({"sentence": sentences[:10]})

    class OneModel:
        model = tiny_classifier

        def predict(self, model, rows):
            return predict(model, tokenizer, rows)

    group = OneModel()
    _, info = drop_layers(group, 1 / 3, rows)
    dense = group.predict(tiny_classifier, rows)
    far = [
        measures.divergences(dense, group.predict(with_layers(tiny_classifier, [k]), rows)).mean()
        for k in range(3)
    ]
    assert info["layers"] == [int(np.argmin(far))]
    assert info["divergence_on_texts"] == pytest.approx(min(far), rel=1e-5)
    assert min(far) < max(far)


def test_dropped_layers_are_recorded(finished):
    _, out, _ = finished
    record = store.load_group(out, ("mini-sentiment", 1))
    (cell,) = [c for c in record["cells"].values() if c["settings"]["score"] == "drop_layers"]
    assert cell["score"]["tried"] == 3 and len(cell["score"]["layers"]) == 1
    assert cell["keep_encoder"] == pytest.approx(1 / 3, abs=1e-3)


def test_a_null_keeps_values_and_loses_places(tiny_bert, tokenizer, sentences):
    readings = read(tiny_bert, tokenizer, sentences)
    for between, axis in (("texts", 0), ("units", 1)):
        null = shuffled(readings, between, seed=0)
        assert isinstance(null, Readings)
        for group, points in readings.points.items():
            other = null.points[group]
            assert not np.array_equal(points, other)
            assert np.array_equal(np.sort(points, axis=axis), np.sort(other, axis=axis))
            std = np.allclose(null.square[group], readings.square[group], rtol=1e-4)
            assert std == (between == "texts")
