"""What the benchmarks' numbers rest on: turns, ratios round by round, tables from records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import homology, large, run, timing
from obce.running.speed import running_threads

ROOT = Path(__file__).resolve().parents[1]


def test_cases_take_turns_and_the_first_round_does_not_count():
    done = []
    seconds = timing.in_turn({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, 3)
    assert done == ["a", "b"] * 4
    assert [len(values) for values in seconds.values()] == [3, 3]


def test_ratios_are_taken_round_by_round():
    """A machine that is twice as slow in one round leaves the ratio at 3."""
    table = timing.table({"base": [1.0, 2.0, 1.0], "slow": [3.0, 6.0, 3.0]}, "base", count=10)
    assert table["ratio to"] == "base"
    slow = table["rows"]["slow"]
    assert slow["seconds"] == {"median": 0.3, "min": 0.3, "max": 0.6}
    assert slow["ratio"] == {"median": 3.0, "min": 3.0, "max": 3.0}
    assert "3 (3 to 3)" in timing.text(table)


def test_the_whole_way_is_the_sum_of_its_steps():
    table = large.way({"collect": 3.0, "cut": 1.0}, {"collect": 2, "cut": 3})
    assert {name: row["ratio"]["median"] for name, row in table["rows"].items()} == {
        "collect": 0.75,
        "cut": 0.25,
        "the whole way": 1.0,
    }
    assert [row["note"] for row in table["rows"].values()] == [
        "peak 2.00 GB",
        "peak 3.00 GB",
        "peak 3.00 GB",
    ]


def test_the_number_of_threads_is_put_back():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="stop"), running_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise RuntimeError("stop")
    assert torch.get_num_threads() == before


def test_peers_find_the_same_merge_radius():
    """The programs that are timed do the same job: on a triangle with sides 3, 4 and 5, 4."""
    points = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    for name, call in homology.CALLS.items():
        assert call(points) == pytest.approx(4, rel=1e-6), name


def test_every_benchmark_has_its_script_and_its_place_in_the_tables():
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - {
        "__init__",
        "run",
        "timing",
    }
    assert set(run.BENCHMARKS) == scripts
    readme = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    shown = readme.partition(run.BEGIN)[2].partition(run.END)[0]
    assert shown == run.tables(), "python -m benchmarks.run --tables"
