"""The README's numbers are those of the records."""

import importlib.util
import json
from pathlib import Path

import pytest

from obce import tasks

ROOT = Path(__file__).parent.parent
RECORDS = sorted((ROOT / "results").glob("compress_*.json"))


def test_readme_table_is_made_from_the_records():
    spec = importlib.util.spec_from_file_location("table", ROOT / "results" / "table.py")
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
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
