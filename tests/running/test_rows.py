"""Rows of tokens: those of the tokenizer, whatever the blocks, in five bytes a token."""

import pytest
from datasets import Dataset

from obce import tasks
from obce.running import rows
from obce.texts import encode

PAIRS = Dataset.from_dict({
    "sentence1": ["A cat.", "Two very small dogs slept.", "", "Rain"] * 3,
    "sentence2": ["It purred.", "They", "Nothing was said.", "fell all the night"] * 3,
    "label": [0, 1, 1, 0] * 3,
})  # fmt: skip
SCORED = Dataset.from_dict({"sentence": ["one", "two words", "and three words"],
                            "label": [0.1, -2.5, 3]})  # fmt: skip


@pytest.mark.parametrize("data", [PAIRS, SCORED])
@pytest.mark.parametrize("block", [1, 5, 100])
def test_they_are_the_tokenizer_s(data, block, tiny_classifier, tokenizer, monkeypatch):
    monkeypatch.setattr(rows, "BLOCK", block)
    expected = encode(tokenizer, tasks.texts(data), 8)
    found = rows.TrainingRows(tokenizer, data, 8, tiny_classifier)
    assert len(found) == len(data)
    for row, encoding, label in zip(found, expected, data["label"], strict=True):
        assert row == {
            "input_ids": encoding["input_ids"],
            "token_type_ids": encoding["token_type_ids"],
            "label": label,
        }
        assert type(row["label"]) is type(label)
    assert found[-1] == found[len(data) - 1]
    assert found.lengths == [len(encoding["input_ids"]) for encoding in expected]
    assert sum(values.nbytes for values in found.columns.values()) == 5 * sum(found.lengths)
