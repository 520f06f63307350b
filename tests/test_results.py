"""The README's numbers are those of the records."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from obce import tasks
from obce.running.records import load_sealed

ROOT = Path(__file__).parent.parent
RECORDS = sorted((ROOT / "results").glob("compress_*.json"))


def script(name):
    """A script of results/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "results" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_table_of_the_encoder_is_made_from_its_record():
    encoder = script("encoder")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert encoder.readme(text) == text
    record = encoder.load_record(encoder.RECORD) if encoder.RECORD.is_file() else {"rows": []}
    for row in record["rows"]:
        assert record["rows_used"] == record["rows_official"] == 1500
        assert abs(row["plan"]["keep_encoder"] - row["keep_encoder"]) <= 0.001
        assert row["repaired"]["spearman"] > row["cut"]["spearman"]
        assert row["model_sha256"] != record["model_sha256"]


def test_readme_table_is_made_from_the_records():
    table = script("table")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert table.readme(text) == text
    assert {path.stem for path in RECORDS} == {f"compress_{task}" for task in table.TASKS}


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_record_holds_what_a_reader_needs_to_judge_it(path):
    record = json.loads(path.read_text(encoding="utf-8"))
    task = tasks.get_task(record["task"])
    assert set(record["stages"]) == {"dense", "cut", "repaired", "finetuned"}
    for name, stage in record["stages"].items():
        assert stage["complete"] and stage["rows_used"] == task.rows["dev"]
        assert stage["metric"] == task.main_metric
        assert stage["value"] == stage["metrics"][task.main_metric]
        assert len(stage["model_sha256"]) == len(stage["data_sha256"]) == 64
        side = "dense" if name == "dense" else "compressed"
        assert stage["parameters"]["total"] == record["parameters"][side]["total"]
        commit = stage["environment"]["git_commit"]
        assert commit and not commit.endswith("-dirty")
    assert abs(record["plan"]["keep_encoder"] - 0.465) < 0.002
    assert len({stage["model_sha256"] for stage in record["stages"].values()}) == 4


def test_the_record_of_layers_is_as_it_was_written_and_adds_up():
    layers = script("layers")
    record = load_sealed(layers.RECORD)
    for model in record["models"].values():
        parts = model["of all that is felt"]
        whole = [span[0] for span in parts["whole layer"]]
        assert sum(whole) == pytest.approx(1, abs=0.05)  # medians of parts that add up to 1
        for score in model["scores"].values():
            for low, middle, high in zip(
                *(np.array(score[name]["value"])[:, 0] for name in
                  ("first quartile", "median", "third quartile")), strict=True,
            ):  # fmt: skip
                assert low <= middle <= high


def test_measures_of_layers_by_hand():
    layers = script("layers")
    assert layers.effective(np.array([9, 1, 1, 1])) == pytest.approx(144 / 84)
    assert layers.ninety(np.array([1.0, 5.0, 0.0, 4.0])) == 0.5
    assert layers.span([3.0, 1.0, 2.0]) == [2.0, 1.0, 3.0]
    run = {(layer, kind): np.array([1.0, 2.0]) for layer in range(6) for kind in ("query", "value")}
    run[5, "value"] = np.array([2.0, 97.0])
    every, apart = layers.of_total([run]), layers.of_total([run], without=1)
    assert every["value"][5][0] == pytest.approx(99 / 132, abs=1e-4)
    assert apart["value"][5][0] == pytest.approx(2 / 13, abs=1e-4)
    assert apart["whole layer"][5][0] == pytest.approx(3 / 13, abs=1e-4)


def test_the_record_of_the_atlas_is_as_it_was_written_and_adds_up():
    atlas = script("atlas")
    record = load_sealed(atlas.RECORD)
    assert record["bytes of the page"] < 3e6 and min(record["seconds to open the page"]) < 1
    told = kept = 0
    for row in record["charts"]:
        signs = {name: np.array([*said]) == "1" for name, said in row["by share"].items()}
        assert {len(said) for said in signs.values()} == {row["units"]}
        for name, sign in (("kept", "kept"), ("with a story", "told"), ("several groups", "split")):
            assert signs[sign].mean() == pytest.approx(row[name])
        assert row["persistence kept"] <= row["persistence kept, at most"] + 1e-9
        told, kept = told + signs["told"].sum(), kept + (signs["told"] & signs["kept"]).sum()
    every = [found["all"] for found in record["kept more than"].values()]
    assert [(row["stories"], row["kept"]) for row in every] == 2 * [(told, kept)]
    about = record["by subject"].values()
    assert (sum(r["units"] for r in about), sum(r["kept"] for r in about)) == (told, kept)


def test_measures_of_the_atlas_by_hand():
    atlas = script("atlas")
    told, kept = np.array([1, 0, 1, 0, 0, 0, 1, 1]) == 1, np.array([1, 1, 0, 0, 0, 0, 1, 0]) == 1
    stories = np.where(told, "the label a", "").tolist()
    stories[7] = "late in the text"
    chart = atlas.explain.Chart(
        0, "value", np.arange(8, 0, -1) / 36, np.ones(8), stories, np.zeros(8), kept
    )
    assert atlas.tables([chart], 2, bool).tolist() == [[[1, 1], [1, 1]], [[1, 1], [0, 2]]]
    assert atlas.tables([chart], 1, lambda story: "label" in story).tolist() == [[[2, 1], [1, 3]]]
    # gaps of 0 and 1/2, of equal weight
    assert atlas.difference(atlas.tables([chart], 2, bool)) == pytest.approx(25)
    found = atlas.compared(30 * [chart], 2)
    assert (found["stories"], found["kept"], found["kept blindly"]) == (120, 60, 45)
    assert found["points more"] == 25 and found["p"] < 0.01
    low, high = found["points more, 95 %"]
    assert 0 < low < 25 < high < 50 and found["kept blindly, 95 %"][1] < 60
    assert atlas.lost([chart])["lost"] == 1, "late in the text is told by one unit, which goes"
    assert atlas.by_subject([chart])["the label"] == {
        "units": 3, "kept": 2, "kept blindly": 1.1, "layers": {"0": 3}
    }  # fmt: skip
