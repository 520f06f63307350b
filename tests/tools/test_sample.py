"""Which pages are looked at closely: a sample that rotates from commit to commit."""

from __future__ import annotations

from collections import Counter

from tools.toc import notebooks, sample


def test_a_commit_picks_the_same_pages_always():
    names = list(notebooks())
    chosen = sample(names, 3, "5f1")
    assert chosen == sample(names, 3, "5f1") and len(chosen) == 3
    assert chosen == [name for name in names if name in chosen], "in the order of the book"


def test_over_many_commits_every_page_comes_up():
    names = list(notebooks())
    counts = Counter(name for salt in range(200) for name in sample(names, 3, str(salt)))
    assert set(counts) == set(names)
    expected = 200 * 3 / len(names)
    assert all(0.5 * expected < count < 1.6 * expected for count in counts.values())


def test_no_more_than_there_are():
    assert sample(["a", "b"], 3, "x") == ["a", "b"]
