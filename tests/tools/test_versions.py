"""Which versions the two ends of ``make test-versions`` are; the runs themselves take minutes."""

from __future__ import annotations

import pytest

from tools import versions

RESOLVED = """\
absl-py==2.0              # via onnx
hf-xet==1.0               # via huggingface-hub
huggingface-hub==1.3.0    # via obce (pyproject.toml), transformers
ruamel.yaml==0.9 ; python_version < '3.12'    # via obce (pyproject.toml)
numpy==2.0.0              # via -c keep.txt, obce (pyproject.toml), scipy
"""


def test_only_what_the_project_names_is_held_at_the_lowest():
    assert versions.direct_pins(RESOLVED) == {"huggingface-hub": "1.3.0", "numpy": "2.0.0"}


def test_what_is_kept_is_as_constraints_has_it():
    text = "# set\nHugging_Face==1.2\ntorch==2.13.0\ntyper==1; python_version < '3.11'\n"
    assert versions.kept(["torch", "hugging.face"], text) == {
        "torch": "2.13.0",
        "hugging-face": "1.2",
    }
    with pytest.raises(ValueError, match="no single version of typer"):
        versions.kept(["typer"], text)


def test_an_unknown_end_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        versions.main(["oldest"])
    assert stopped.value.code == 2
    assert "no oldest; there are lowest, newest" in capsys.readouterr().err


@pytest.mark.parametrize("passed", [True, False])
def test_both_ends_are_tried_and_a_failure_is_told(passed, monkeypatch):
    ends = []
    monkeypatch.setattr(versions, "tried", lambda end, keep: ends.append((end, keep)) or passed)
    if passed:
        versions.main(["--keep", "torch"])
    else:
        with pytest.raises(SystemExit, match="failed: lowest, newest"):
            versions.main(["--keep", "torch"])
    assert ends == [("lowest", {"torch": "2.13.0"}), ("newest", {"torch": "2.13.0"})]
