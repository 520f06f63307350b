"""The README's numbers are those of the records."""

import importlib.util
import json
from pathlib import Path

import pytest

from obce import tasks

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
