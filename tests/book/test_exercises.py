"""The checkers of the book's exercises: right answers pass (nbval sees to it), wrong ones don't."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from contextlib import contextmanager

import numpy as np
import pytest

from obce.book import exercises

CHECKERS = {name: getattr(exercises, name) for name in exercises.__all__}


@contextmanager
def forgets_after_an_error(module, unit):
    seen = []
    handle = module.register_forward_hook(lambda module, x, out: seen.append(out[..., unit]))
    yield seen
    handle.remove()


# checker, a wrong answer, a part of what is said to it
WRONG = [
    # chapter 1
    ("components_at", lambda points, scale: len(points), "instead of 3"),
    ("deaths_on_a_line", np.diff, "for [5., 2., 1., 9.] it gives [-3., -1., 8.] instead of"),
    ("polygon_deaths", lambda n: np.full(n, 2 * np.sin(np.pi / n)), "how many sides"),
    ("same_barcode", lambda: ([[0, 0], [1, 0]], [[5, 5], [5, 6]]), "all distances are, too"),
    ("moved_deaths", lambda deaths, c, v: c * deaths, "instead of [2., 5., 8.]"),
    # chapter 2
    ("predicted_radii", lambda: [51, 2**0.5, 6, 2**0.5], "(b) is not"),
    ("last_edge", lambda points: (0, len(points) - 1), "instead of [2, 3]"),
    ("without_each", lambda points: np.full(len(points), 5.0), "instead of [5., 5., 5., 9., 4.]"),
    ("equal_radius", lambda: ([0, 1, 2], [0, 0, 1]), "less than 10 times apart"),
    ("radius_of_most", lambda points, share: np.quantile(points, share), "instead of 12."),
    # chapter 3
    ("bottleneck_h0", lambda a, b: abs(max(a) - max(b)), "instead of 5"),
    ("probe", lambda: (np.array([[0, 2]]), np.zeros((0, 2))), "both give 1"),
    ("rounded_range", lambda r, s, d: (max(r - s, 0), r + s), "sqrt(d)"),
    ("entropies", lambda: (6, 3), "bits"),
    # chapter 4
    (
        "scores_without_pair",
        lambda q, k, u: np.delete(q, u, 1) @ np.delete(k, u, 1).T / np.sqrt(q.shape[1] - 1),
        "the scale stays that of the whole head",
    ),
    ("layer_parameters", lambda h, i: 4 * h**2 + 2 * h * i, "for 1, 1 it gives 6 instead of 16."),
    ("freed_by", lambda kind, h, i: h + 1, "for 'query', 2, 5 it gives 3 instead of 6."),
    ("keep_encoder", lambda keep, total, encoder: keep, "instead of 0.8. What is removed"),
    ("half_of_two_kinds", lambda: 1 - (384 + 1536) / 6912, "the fraction of the units"),
    # chapter 5
    ("recording", forgets_after_an_error, "after a ZeroDivisionError inside the block a hook"),
    ("bytes_of_base", lambda texts, length: 6912 * texts * length * 4, "instead of 331776"),
    ("masked_mean", lambda outputs, mask: (outputs * mask[..., None]).mean(1), "0.5"),
    ("loudest", lambda x, k: np.argsort(-np.abs(x).max(1))[:k], "instead of [2]"),
    # chapter 6
    ("texts_cloud", lambda outputs, lengths, length: outputs[:, :length], "the median of all real"),
    ("smaller_side", lambda points: np.sort(points)[-1:], "the places in the original array"),
    ("constant_unit", lambda c, lengths: abs(c) * np.sqrt(np.ptp(lengths)), "instead of 1."),
    ("rank_correlation", lambda a, b: np.corrcoef(a, b)[0, 1], "Replace both by their ranks"),
    # chapter 7
    ("shares_of_tree", lambda points, edges: points.var(axis=0), "instead of [9., 4., 1.]"),
    (
        "two_silences",
        lambda: ([[0, 0], [1, 0], [1, 2]], [[0, 0], [0, 3], [4, 0], [4, 3]]),
        "the second cloud leaves 9, not less than half of 18",
    ),
    ("share_of_copies", lambda points, unit, k: unit, "for [[0., 0.], [0., 3.], [4., 0."),
    ("heard", lambda n, far, distance: (n * far * distance**2, distance**2), "instead of [3., 1.]"),
    ("units_for_half", lambda shares: (np.cumsum(shares) < shares.sum() / 2).sum(), "instead of 1"),
    # chapter 8
    ("queries_and_keys", lambda: 2 / 6, "the maps differ in size"),
    ("survivors", lambda scores, k: np.sort(np.argsort(-scores, kind="stable")[:k]), "of equal"),
    ("megabytes", lambda parameters: parameters / 1e6, "32 bits"),
    ("random_plans", lambda: [1, 2, 3], "three plans are asked for"),
    ("repair_gains", lambda record: [row["repaired"] for row in record["rows"]], "One number"),
    # chapter 9
    ("gap_bounds", lambda points, width: (0.0, width), "instead of [4., 4.]"),
    ("enough_buckets", lambda n: 2 * n - 1, "for 4 it gives 7 instead of 8"),
    ("hard_to_certify", lambda: range(33), "certify 1: the widest gap must lie inside"),
    # past one machine
    ("swapped", lambda parts, p: parts[p].T, "All texts, in the order of the processes"),
    ("bytes_sent", lambda units, points, p: 4 * units * points / p, "instead of 0."),
    ("busiest_process", lambda n, h, i, p: n * (5 * h + i) / p, "for 1, 5, 7, 2 it gives 16"),
    # chapter: from parameters to milliseconds
    ("multiply_adds", lambda h, i, t: t * (4 * h * h + 2 * h * i), "for 1, 1, 1 it gives 6"),
    ("even_length", lambda h, i: 6 * h, "for 10, 7 it gives 60 instead of 27"),
    ("speed_up", lambda fixed, ratio: fixed + (1 - fixed) * ratio, "Let the dense model take 1"),
    ("intensity", lambda t, i, o: t * i * o / (t * i + i * o + t * o), "4 bytes each"),
]


@pytest.mark.parametrize(("name", "answer", "said"), WRONG, ids=lambda part: str(part)[:20])
def test_a_wrong_answer_is_told_why(name, answer, said, capsys):
    CHECKERS[name](answer)
    told = capsys.readouterr().out
    assert told.startswith("Not yet: ") and said in told


@pytest.mark.parametrize("name", CHECKERS)
def test_an_exercise_not_begun_is_not_yet(name, capsys):
    CHECKERS[name](...)
    assert capsys.readouterr().out.startswith("Not yet: ")


def test_every_checker_is_offered():
    written = set()
    for module in pkgutil.iter_modules(exercises.__path__, f"{exercises.__name__}."):
        for name, function in inspect.getmembers(importlib.import_module(module.name)):
            if inspect.isfunction(function) and [*inspect.signature(function).parameters] == [
                "answer"
            ]:
                written.add(name)
    assert written - {"returned"} == set(CHECKERS)


def test_every_checker_has_a_wrong_answer_here():
    assert {name for name, *_ in WRONG} == set(CHECKERS)


def test_an_error_in_the_answer_is_told_not_raised(capsys):
    def answer(points, scale):
        return points[17]

    exercises.components_at(answer)
    assert "it raises IndexError" in capsys.readouterr().out


def test_the_reader_cannot_change_the_cases(capsys):
    def answer(points, scale):
        points[:] = 0
        return np.zeros(3)

    exercises.components_at(answer)
    exercises.components_at(answer)
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
