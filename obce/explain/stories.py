"""What the sides of splits follow: each claim with a test, a correction and an effect size.

Each split has two sides in the tree of splits, and a side may hold several groups: whatever lies
above the longest bar, for example, even where it falls apart again. Claims are about sides.

A story is told only where the test passes after Holm's correction for *all* claims that were asked
about, and the effect is large. With thousands of tokens nearly everything is significant, so that
the effect decides. All effects are correlations between being on a side and something else, from
-1 to 1: phi for words and labels, the rank-biserial correlation for positions and lengths; 0.5 is
what Cohen calls large.

The values alone have made the splits. Words, positions and labels had no part in it, so a test may
use the same points.

Source: S. Holm, "A simple sequentially rejective multiple test procedure", 1979; J. Cohen,
"Statistical Power Analysis for the Behavioral Sciences", 1988.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from obce.base.corrections import holm
from obce.base.settings import EFFECT, LEVEL
from obce.explain.points import Points

WORTH = 0.1  # a weaker effect is not tested: it could not be told, and counts as a failed test


@dataclass(frozen=True)
class Story:
    """A claim about one side of a split: its points are the ones with this feature.

    Attributes:
        first, last: the groups on that side.
        length: of the bar that parts it from the other side.
        follows: what the side is said to follow.
        effect: from -1 to 1.
        p: corrected by Holm's method.
        precision, recall: the part of the side that has the feature, and the part of those with
            it that are on the side; None for what has no yes or no.
        passes: whether it is told.
    """

    first: int
    last: int
    length: float
    follows: str
    effect: float
    p: float
    precision: float | None
    recall: float | None
    passes: bool


@dataclass
class Claim:
    """What a story is made of, before the correction."""

    follows: str
    effect: float
    p: float
    precision: float | None = None
    recall: float | None = None


def stories(
    points: Points,
    parts: np.ndarray,
    sides: Sequence[tuple[int, int, float]],
    labels: Sequence[str | float] | None = None,
    *,
    level: float = LEVEL,
    effect: float = EFFECT,
    seed: int = 0,
) -> list[Story]:
    """Test what each side of each split follows.

    Words and kinds of tokens: whether the side has more of them than chance (hypergeometric, as
    Fisher's exact test). Positions of tokens: Mann-Whitney. Length of texts: Mann-Whitney, with one
    token drawn from each text, so that a long text counts once. Labels: whether the texts with a
    point on the side have one of the classes more often; numbers by Mann-Whitney.

    Args:
        points: from :func:`obce.explain.points.points_of`.
        parts: ``(n,)``: the group of each point, from 0.
        sides: from :func:`obce.explain.splits.branches`.
        labels: one per text: a class as a string, or a number.
        level, effect: what a story needs, at most and at least.
        seed: of the tokens that are drawn.

    Returns:
        all that was asked: first what is told, with the longest bar on top, then the others by
        their effects.
    """
    claims = [
        (side, claim)
        for side in sides
        for claim in _claims(points, (side[0] <= parts) & (parts <= side[1]), labels, seed)
    ]
    corrected = holm([claim.p for _, claim in claims])
    told = [
        Story(
            *side, each.follows, each.effect, p, each.precision, each.recall,
            passes=p <= level and each.effect >= effect,
        )
        for (side, each), p in zip(claims, corrected, strict=True)
    ]  # fmt: skip

    def rank(story: Story) -> tuple[bool, float, float, bool]:
        length = story.length if story.passes else 0.0
        # of equals a word comes before the position that it implies
        return story.passes, length, round(story.effect, 3), story.precision is not None

    return sorted(told, key=rank, reverse=True)


def _claims(
    points: Points,
    inside: np.ndarray,
    labels: Sequence[str | float] | None,
    seed: int,
) -> list[Claim]:
    claims = _more_than_chance(points.features, points.has, inside)
    if points.position is not None:
        claims.append(_ranks(("late", "early"), "in the text", points.position, inside))
    one = _one_of_each_text(points.text, seed)
    claims.append(_ranks(("long", "short"), "texts", points.length[one], inside[one]))
    if labels is None:
        return claims
    there = np.bincount(points.text, inside, minlength=len(labels)) > 0  # texts with such a point
    if isinstance(labels[0], str):
        names = sorted(set(map(str, labels)))
        has = np.array([[label == name for label in labels] for name in names])
        return claims + _more_than_chance([f"the label {n}" for n in names], has, there)
    return [*claims, _ranks(("high", "low"), "labels", np.asarray(labels, float), there)]


def _more_than_chance(names: list[str], has: np.ndarray, inside: np.ndarray) -> list[Claim]:
    """Whether the points inside have a feature more often than points drawn at random would."""
    n, size, total = has.shape[1], int(inside.sum()), has.sum(axis=1)
    both = has[:, inside].sum(axis=1)
    spread = np.sqrt(total * (n - total) * float(size) * (n - size))
    phi = np.divide(n * both - total * size, spread, out=np.zeros(len(both)), where=spread > 0)
    p = np.ones(len(both))
    more = phi >= WORTH
    p[more] = stats.hypergeom.sf(both[more] - 1, n, total[more], size)
    return [
        Claim(
            names[i], float(phi[i]), float(p[i]), float(both[i] / size), float(both[i] / total[i])
        )
        for i in range(len(names))
        if size and total[i]
    ]


def _ranks(sides: tuple[str, str], of: str, values: np.ndarray, inside: np.ndarray) -> Claim:
    """Whether the points inside have larger, or smaller, values than the others."""
    one, other = values[inside], values[~inside]
    if not (len(one) and len(other)):
        return Claim(f"{sides[0]} {of}", 0.0, 1.0)
    above = stats.rankdata(values)[inside].sum() - len(one) * (len(one) + 1) / 2
    rank_biserial = float(2 * above / (len(one) * len(other)) - 1)
    side, effect = sides[int(rank_biserial < 0)], abs(rank_biserial)
    p = float(stats.mannwhitneyu(one, other).pvalue) if effect >= WORTH else 1.0
    return Claim(f"{side} {of}", effect, p)


def _one_of_each_text(text: np.ndarray, seed: int) -> np.ndarray:
    """Points, one of each text, at random."""
    order = np.random.default_rng(seed).permutation(len(text))
    return order[np.unique(text[order], return_index=True)[1]]
