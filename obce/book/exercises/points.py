"""Checkers of part I: points, deaths, merge radii, diagrams."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import pdist

from obce import homology
from obce.book.exercises.check import (
    Answer,
    compare_function,
    returned,
    same,
    say,
    show,
)

# Chapter 1: from points to components


def components_at(answer: Answer) -> None:
    """``answer(points, scale)``: the number of components of (n, d) points at a scale."""
    chain = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0], [9.0, 5.0]])
    pairs = np.array([[0.0], [1.0], [9.0], [10.0], [30.0]])  # two components of two points each
    space = np.random.default_rng(1).integers(0, 9, (12, 3)).astype(float)
    compare_function(
        answer,
        lambda points, scale: 1 + np.sum(homology.h0_deaths(points) > scale),
        [(chain, scale) for scale in (0.0, 0.5, 1.0, 4.9, 5.0, 6.0, 100.0)]
        + [(pairs, scale) for scale in (1.0, 8.0, 20.0)]
        + [(space, scale) for scale in (2.1, 3.1)],
        hint="Two points meet when their distance is at most the scale; one component never dies.",
    )


def deaths_on_a_line(answer: Answer) -> None:
    """``answer(numbers)``: the finite deaths of (n,) numbers, ascending."""
    compare_function(
        answer,
        homology.h0_deaths,
        [
            (np.array(numbers),)
            for numbers in ([1.0, 2, 5], [5.0, 2, 1, 9], [3.0, 3, 1], [0.5, 0.2, 2.0], [-2.0])
        ],
        hint="Numbers come in any order, equal ones are 0 apart; deaths go from short to long.",
    )


def polygon_deaths(answer: Answer) -> None:
    """``answer(n)``: the deaths of the n corners of a regular polygon on a circle of radius 1."""
    compare_function(
        answer,
        lambda n: np.full(n - 1, 2 * np.sin(np.pi / n)),
        [(n,) for n in (6, 4, 3, 2, 17, 100)],
        hint="How long is a side, and how many sides does it take to join all corners?",
    )


def same_barcode(answer: Answer) -> None:
    """``answer()``: two clouds of equally many points with the same deaths, but not the same
    distances."""
    given = returned(answer)
    if given is None:
        return None
    try:
        one, other = (np.asarray(cloud, dtype=float) for cloud in given)
        one, other = (c[:, None] if c.ndim == 1 else c for c in (one, other))
        deaths = [homology.h0_deaths(cloud) for cloud in (one, other)]
    except Exception as error:  # whatever comes instead of two clouds
        return say(f"two clouds cannot be had from it: {type(error).__name__}: {error}")
    if len(one) != len(other):
        return say(f"the clouds have {len(one)} and {len(other)} points.")
    if not same(deaths[0], deaths[1], 1e-6):
        return say(f"the deaths are {show(deaths[0])} and {show(deaths[1])}.")
    if same(np.sort(pdist(one)), np.sort(pdist(other)), 1e-6):
        return say("the deaths are the same, but all distances are, too.")
    return say(None)


def moved_deaths(answer: Answer) -> None:
    """``answer(deaths, c, v)``: the deaths of all c * x + v, from the deaths of all x."""
    deaths, shift = np.array([1.0, 2.5, 4.0]), np.array([10.0, -3.0])
    compare_function(
        answer,
        lambda deaths, c, v: abs(c) * deaths,
        [(deaths, c, far * shift + 0.0) for far in (0, 1) for c in (1.0, 3.0, 0.5, -2.0, 0.0)],
        hint="What does it do to the distance of two points?",
    )


# Chapter 2: the merge radius


def predicted_radii(answer: Answer) -> None:
    """``answer()``: the merge radii of four clouds that are described in words."""
    numbers = returned(answer)
    if numbers is None:
        return None
    try:
        numbers = np.asarray(numbers, dtype=float)
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if numbers.shape != (4,):
        return say("four numbers are asked for, one for each of (a) to (d).")
    reasons = {
        "a": "the numbers from 0 to 99 merge at 1; how far is 150 from the last of them?",
        "b": "no corner needs its diagonal: walk along the sides.",
        "c": "a shift changes no distance, and a factor multiplies each by its absolute value.",
        "d": "any two of them differ in two coordinates, by 1 in each: use Pythagoras.",
    }
    right = (51, 1, 6, 2**0.5)
    for given, wanted, (part, why) in zip(numbers, right, reasons.items(), strict=True):
        if not same(given, wanted, 5e-3):
            return say(f"({part}) is not {show(given)}: {why}")
    return say(None)


def last_edge(answer: Answer) -> None:
    """``answer(points)``: the two rows of (n, d) points whose distance is the merge radius."""
    rng = np.random.default_rng(2)
    line = np.array([[0.0], [1.0], [2.5], [9.0], [9.5]])
    chain = np.array([[0.0, 0.0], [7.0, 0.0], [3.0, 0.0], [3.0, 1.0], [0.0, 1.0]])
    hint = "Neither the longest distance nor the nearest points: the longest edge of the tree."
    compare_function(
        answer if not callable(answer) else lambda points: _pair(answer(points)),
        lambda points: _pair(_last_edge(points)),
        [(points,) for points in (line, chain, rng.normal(size=(12, 3)))],
        hint=hint,
    )


def _pair(rows: Any) -> np.ndarray | None:
    """The same two rows in either order are the same answer."""
    rows = list(rows) if isinstance(rows, (set, frozenset)) else rows
    return None if rows is None or rows is Ellipsis else np.sort(np.ravel(rows))


def _last_edge(points: np.ndarray) -> np.ndarray:
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    off = np.abs(distance - homology.merge_radius(points[None])[0])
    return np.argwhere(off == off.min())[0]


def without_each(answer: Answer) -> None:
    """``answer(points)``: the merge radius of (n, d) points without each of them in turn."""
    points = np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [3.0, 4.0], [3.0, 9.0]])
    compare_function(
        answer,
        lambda points: [
            homology.merge_radius(np.delete(points, i, axis=0)[None])[0] for i in range(len(points))
        ],
        [(points,), (points[:4],), (np.random.default_rng(1).normal(size=(9, 3)),)],
        hint="Entry i is the merge radius of all points but point i; the point comes back after.",
    )


def equal_radius(answer: Answer) -> None:
    """``answer()``: two clouds on the line, equal in n and r_f, one ten times as spread out."""
    clouds = returned(answer)
    if clouds is None:
        return None
    try:
        first, second = (np.asarray(cloud, dtype=float) for cloud in clouds)
        lengths = {len(np.ravel(first)), len(np.ravel(second))}
        if first.ndim != 1 or second.ndim != 1 or len(lengths) > 1:
            return say("two clouds (n,) with the same n are asked for.")
        radii = homology.merge_radius(np.stack([first, second]))
    except (TypeError, ValueError) as error:
        return say(f"two clouds (n,) of numbers are asked for: {error}")
    spreads = np.sort([first.std(), second.std()])
    if not radii.min() > 0 or not np.isclose(radii[0], radii[1], rtol=1e-6):
        return say(f"the merge radii are {show(radii)}; they must be equal and above 0.")
    if spreads[1] < 10 * spreads[0] * (1 - 1e-9):
        return say(f"the standard deviations are {show(spreads)}, less than 10 times apart.")
    return say(None)


def radius_of_most(answer: Answer) -> None:
    """``answer(points, share)``: the scale at which one component holds that share of points."""
    points = np.array([[0.0], [1.0], [3.0], [4.0], [8.0], [20.0], [29.0], [30.0]])
    many = np.random.default_rng(3).normal(size=(16, 2))

    def wanted(points: np.ndarray, share: float) -> float | None:
        for scale in homology.h0_deaths(points):
            near = np.linalg.norm(points[:, None] - points[None], axis=2) <= scale * (1 + 1e-9)
            reach = np.linalg.matrix_power(near.astype(float), len(points)) > 0
            if reach.sum(axis=1).max() >= share * len(points):
                return scale
        return None

    compare_function(
        answer,
        wanted,
        [(cloud, share) for cloud in (points, many) for share in (1.0, 0.75, 0.5, 0.25)],
        hint="Look for the first merge after which a component has share * n points or more.",
    )


# Chapter 3: diagrams


def bottleneck_h0(answer: Answer) -> None:
    """``answer(first, second)``: bottleneck distance of two arrays of finite H0 deaths."""
    from persim import bottleneck

    rng = np.random.default_rng(3)
    cases: list[tuple] = [
        ([1, 6], [5]),
        ([10], [1]),
        ([3, 1, 7], [1, 6.5, 3]),
        ([], [4]),
        ([2, 3], []),
    ]
    cases += [(rng.integers(0, 20, k) / 2, rng.integers(0, 20, 8 - k) / 2) for k in range(1, 8)]
    compare_function(
        answer,
        lambda *both: bottleneck(*(np.column_stack([0 * d, d]) for d in both)),
        [tuple(np.asarray(d, dtype=float) for d in case) for case in cases],
        hint="Try every number of pairs, none too: the largest deaths are paired in order, and "
        "a death that is left over costs half of itself.",
    )


def probe(answer: Answer) -> None:
    """``answer()``: two diagrams whose distance differs in all four readings of W_p."""
    given = returned(answer)
    if given is None:
        return None
    try:
        first, second = (np.asarray(part, dtype=float).reshape(-1, 2) for part in given)
    except Exception as error:
        return say(f"two arrays of shapes (m, 2) and (k, 2) are wanted: {error}")
    diagrams = first, second
    if not all(np.isfinite(part).all() and (part[:, 0] <= part[:, 1]).all() for part in diagrams):
        return say("a point of a diagram is finite here, and not born after its death.")
    found = {
        f"{name}, p = {order}": _wasserstein(first, second, inner, order)
        for inner, name in ((np.inf, "maximum norm"), (2, "Euclidean norm"))
        for order in (1, 2)
    }
    for name, value in found.items():
        for other, their in found.items():
            if name < other and np.isclose(value, their, rtol=1e-3, atol=1e-9):
                return say(f"({name}) and ({other}) both give {show(value)}.")
    return say(None)


def _wasserstein(first: np.ndarray, second: np.ndarray, inner: float, order: int) -> float:
    m, k = len(first), len(second)
    cost = np.zeros((m + k, m + k))
    cost[:m, :k] = np.linalg.norm(first[:, None] - second[None], inner, axis=2)
    away = [
        np.linalg.norm(part - part.mean(axis=1, keepdims=True), inner, axis=1)
        for part in (first, second)
    ]
    cost[:m, k:], cost[m:, :k] = away[0][:, None], away[1][None]
    cost **= order
    return cost[linear_sum_assignment(cost)].sum() ** (1 / order)


def rounded_range(answer: Answer) -> None:
    """``answer(radius, step, dimension)``: where r_f can lie once coordinates are rounded."""
    compare_function(
        answer,
        lambda radius, step, dimension: (
            max(0.0, radius - step * dimension**0.5),
            radius + step * dimension**0.5,
        ),
        [(0.9, 0.1, 1), (2.0, 0.25, 4), (0.9, 0.01, 64), (0.5, 0.25, 16)],
        hint="A coordinate moves by at most half a step, a point of R^d by at most sqrt(d) times "
        "that, and a death by at most twice what the points move; no death is below 0.",
    )


def entropies(answer: Answer) -> None:
    """``answer()``: the entropies of 64 equal deaths, and with one as long as 63 together."""
    given = returned(answer)
    if given is None:
        return None
    try:
        before, after = (float(part) for part in given)
    except Exception as error:
        return say(f"two numbers are wanted: {type(error).__name__}: {error}")
    if not same(before, np.log(64), 2e-3):
        bits = "That is in bits: take the natural logarithm. " if abs(before - 6) < 1e-3 else ""
        return say(
            f"{show(before)} is not the entropy of 64 equal bars. {bits}"
            "Each share is 1/64; sum -p log p over them."
        )
    if not same(after, np.log(2) + np.log(63) / 2, 2e-3):
        return say(
            f"the first is right; {show(after)} is not the second. One share is 1/2, each of "
            "the 63 others is 1/126."
        )
    return say(None)


def permutation_p(answer: Answer) -> None:
    """``answer(distances, labels, others)``: the p-value of a permutation test of two groups of
    diagrams, from their (k, k) distances, (k,) labels and other labels (m, k)."""
    rng = np.random.default_rng(7)
    points = np.concatenate([rng.normal(0, 1, 5), rng.normal(1, 1, 3)])
    distances = np.abs(points[:, None] - points[None])
    true = np.repeat([False, True], [5, 3])
    others = np.stack([rng.permutation(true) for _ in range(60)])
    four = np.array([[0.0, 1, 4, 4], [1, 0, 4, 4], [4, 4, 0, 1], [4, 4, 1, 0]])
    halves = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]]) > 0

    def within(distances: np.ndarray, labels: np.ndarray) -> float:
        groups = (distances[np.ix_(of, of)] for of in (labels, ~labels))
        return sum(group.sum() / (len(group) * (len(group) - 1)) for group in groups)

    def wanted(distances: np.ndarray, labels: np.ndarray, others: np.ndarray) -> float:
        seen = within(distances, labels) * (1 + 1e-9)
        return (1 + sum(within(distances, other) <= seen for other in others)) / (1 + len(others))

    compare_function(
        answer,
        wanted,
        [(four, halves[0], halves[1:]), (four, halves[1], halves), (distances, true, others)],
        hint="Count the labellings whose groups are at most as wide as the true ones, the true "
        "one among them; the mean of a group leaves out the distance of a diagram to itself.",
    )
