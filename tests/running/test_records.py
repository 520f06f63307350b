"""Records: strict JSON, and sealed ones, which know whether they were changed."""

import json
import os

import pytest

from obce.running.records import load_record, load_sealed, save_record, save_sealed

RECORD = {"metrics": {"accuracy": 0.9}, "rows": [1, 2.5, None], "task": "sst2"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"value": NaN}', "NaN is no JSON number"),
        ('{"value": -Infinity}', "-Infinity is no JSON number"),
        ('{"value": 1e999}', "1e999 is no JSON number"),
        ('{"value": 1, "value": 2}', "it names 'value' twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"value": ' * 100_000, "nested too deeply"),
        ("[1, 2]", "holds no JSON object"),
        ("", "Expecting value"),
        ('{"value": ', "Expecting value"),
    ],
)
def test_what_is_no_record_is_refused_in_one_short_line(tmp_path, text, message):
    path = tmp_path / "record.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        load_record(path)
    assert str(path) in str(error.value) and len(str(error.value)) < 300


def test_bytes_and_folders_are_refused(tmp_path):
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "bytes.json", tmp_path, tmp_path / "nowhere.json"):
        with pytest.raises(ValueError, match="is no record"):
            load_record(path)


def test_a_sealed_record_is_read_as_it_was(tmp_path):
    path = tmp_path / "record.json"
    save_sealed(RECORD | {"pair": (1, 2)}, path)
    assert load_sealed(path) == RECORD | {"pair": [1, 2]}
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(data, indent=7, sort_keys=False), encoding="utf-8")
    assert load_sealed(path)["task"] == "sst2"  # spaces mean nothing


@pytest.mark.parametrize("change", [{"task": "cola"}, {"more": 1}, {"sha256": "0"}, {"rows": [1]}])
def test_a_changed_one_is_not(tmp_path, change):
    path = tmp_path / "record.json"
    save_sealed(RECORD, path)
    save_record(load_record(path) | change, path)
    with pytest.raises(ValueError, match="is not as obce wrote it: it was changed since, or torn"):
        load_sealed(path)


def test_one_without_a_seal_is_not(tmp_path):
    save_record(RECORD, tmp_path / "record.json")
    with pytest.raises(ValueError, match="is not as obce wrote it"):
        load_sealed(tmp_path / "record.json")
    assert os.listdir(tmp_path) == ["record.json"]
