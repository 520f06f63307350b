"""Checkers of the chapter on persistence shares."""

from __future__ import annotations

import numpy as np

from obce import homology
from obce.book.exercises.check import Answer, compare_function, returned, same, say, show


def shares_of_tree(answer: Answer) -> None:
    """``answer(points, edges)``: the share of each coordinate of (n, d) points."""
    line = np.array([[0.0, 0.0, 1.0], [0.0, 2.0, 1.0], [3.0, 2.0, 2.0]])
    many = np.random.default_rng(4).normal(size=(12, 5))
    compare_function(
        answer,
        lambda points, edges: np.sum((points[edges[:, 0]] - points[edges[:, 1]]) ** 2, axis=0),
        [(points, homology.spanning_tree(points)) for points in (line, line[:, :1], many)],
        hint="One number for each column: the squared differences along the edges, added up.",
    )


def two_silences(answer: Answer) -> None:
    """``answer()``: two clouds (n, 2); silencing unit 0 meets the bound in the first, and leaves
    less than half of it in the second."""
    given = returned(answer)
    if given is None:
        return None
    try:
        clouds = [np.asarray(cloud, dtype=float) for cloud in given]
        shares = [homology.persistence_shares(cloud) for cloud in clouds]
    except Exception as error:  # whatever comes instead of two clouds
        return say(f"two clouds cannot be had from it: {type(error).__name__}: {error}")
    if [cloud.shape[1:] for cloud in clouds] != [(2,), (2,)]:
        return say("two clouds (n, 2) are asked for, with a column for each unit.")
    for name, cloud, (share, bound) in zip(("first", "second"), clouds, shares, strict=True):
        left = float(np.sum(homology.h0_deaths(cloud[:, 1]) ** 2))
        if not (share > 0 and bound > 0):
            return say(f"in the {name} cloud the shares are {show([share, bound])}: both above 0.")
        if name == "first" and not same(left, bound, 1e-6):
            return say(f"the first cloud leaves {left:g}, and the bound is {bound:g}.")
        if name == "second" and not left < bound / 2 * (1 - 1e-6):
            return say(f"the second cloud leaves {left:g}, not less than half of {bound:g}.")
    return say(None)


def share_of_copies(answer: Answer) -> None:
    """``answer(points, unit, k)``: the share of each one of k copies of a unit."""
    four = np.array([[0.0, 0.0], [0.0, 3.0], [4.0, 0.0], [5.0, 3.0]])
    many = np.random.default_rng(5).normal(size=(15, 3))

    def wanted(points: np.ndarray, unit: int, k: int) -> float:
        copies = np.repeat(points[:, [unit]], k - 1, axis=1)
        return homology.persistence_shares(np.hstack([points, copies]))[unit]

    compare_function(
        answer,
        wanted,
        [(points, unit, k) for k in (1, 2, 7) for points in (four, many) for unit in (0, 1)],
        hint="The cloud gets k columns that are equal; the share of one of them is asked for.",
    )


def heard(answer: Answer) -> None:
    """``answer(n, far, distance)``: a unit with two values, summed over all pairs and over the
    tree."""
    compare_function(
        answer,
        lambda n, far, distance: (far * (n - far) * distance**2, distance**2),
        [(4, 1, 1.0), (4, 2, 3.0), (10, 1, 2.0), (100, 6, 5.0)],
        hint="How many pairs have one token on each side? And how many edges of the tree?",
    )


def units_for_half(answer: Answer) -> None:
    """``answer(shares)``: how many of the largest shares add up to half of all or more."""
    rng = np.random.default_rng(6)
    compare_function(
        answer,
        lambda shares: np.sum(np.cumsum(np.sort(shares)[::-1]) < shares.sum() / 2) + 1,
        [
            (np.array([1.0, 9.0, 2.0]),),
            (np.array([4.0, 1.0, 3.0]),),
            (np.ones(8),),
            (rng.exponential(size=101),),
        ],
        hint="The largest first, added up, until half of the total is reached or passed.",
    )
