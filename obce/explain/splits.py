"""How many groups a unit's barcode shows: which of its bars are too long for chance.

On a line the bars are the gaps between neighbours, and a cloud without groups has long bars, too:
where points are rare, at the ends. So a gap is judged by its neighbourhood. It counts as a split if
it is wide beside the ``FLANK`` gaps on its left *and* beside those on its right.

**Why this has a level.** Let the points be drawn from any density with one mode. Away from the mode
the density falls, so on the side of a gap that is turned away from the mode gaps tend to be wider.
Mapped by the distribution function, the points are uniform, and there the ratio of a gap to the
mean of the k next ones has the distribution F(2, 2k), whatever lies on the other side of the gap.
So the ratio to the wider of the two sides exceeds c with a probability of at most twice that of
F(2, 2k), once for each side that may be the outer one. No shape of the density has to be assumed,
and nothing simulated: heavy tails, skewed ones and outliers make the test more careful.

A valley that is not quite empty has no long bar. So the barcodes of thinned clouds are read as
well, in which only each r-th point stays, r = 1, 2, 4, ...: a gap between them holds r of the
cloud's own, and the distribution is F(2 r, 2 r k). All gaps of all scales are one family of tests
(Bonferroni). Splits that are reported are apart by their flanks, so that each is a valley of its
own: with the probability 1 - level the density has at least as many modes as there are groups.

What is assumed is that points are drawn independently. Tokens of one text are not quite, and a
word that is repeated makes points that agree: these are groups that a story should name.

Source: local spacings at several scales for a density's increases and decreases, with a level that
holds for finite samples: L. Duembgen and G. Walther, "Multiscale inference about a density", Annals
of Statistics 36 (2008). Groups, not outliers, at the merges of single linkage: J. A. Hartigan and
S. Mohanty, "The RUNT test for multimodality", Journal of Classification 9 (1992).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import stats
from scipy.cluster.hierarchy import linkage, to_tree

from obce.base.settings import LEVEL

FLANK = 12  # gaps on each side that a gap is judged by; a group has more points than that

Found = tuple[int, float, int]
"""A gap: the scale, its ratio to its wider flank, negated, and the point where it starts."""


@dataclass(frozen=True)
class Split:
    """A gap that is too wide for one mode.

    Attributes:
        at: the middle of its longest bar: below is the one group, above the other.
        length: of that bar.
        low, high: the ends of the gap; between them lie less than ``points`` of the cloud's.
        points: the scale r at which it was found: 1 for an empty gap.
        p: the probability that a cloud with one mode shows such a gap anywhere, at most.
    """

    at: float
    length: float
    low: float
    high: float
    points: int
    p: float


def splits(values: np.ndarray, level: float = LEVEL) -> list[Split]:
    """The gaps of a cloud on a line that no density with one mode would show.

    Args:
        values: ``(n,)``, in any order.
        level: the probability, at most, that a cloud with a single mode is split at all.

    Returns:
        from left to right; none for fewer than ``2 * FLANK + 2`` points.

    Raises:
        ValueError: other dimensions, values that are not finite, a level outside of (0, 1).

    >>> random = np.random.default_rng(0)
    >>> splits(random.standard_t(3, size=1000))
    []
    >>> both = np.concatenate([random.normal(size=900), random.normal(9, size=100)])
    >>> [round(split.at) for split in splits(both)]
    [5]
    """
    values = np.asarray(values)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"splits are of n finite numbers, not of an array of {values.shape}")
    if not 0 < level < 1:
        raise ValueError(f"level={level:g}: it must be above 0 and below 1")
    points = np.sort(values.astype(np.float64))
    scales = {scale: _ratios(points, scale) for scale in _scales(len(points))}
    tested = sum(len(ratios) for _, ratios in scales.values())
    found: list[Found] = []
    for scale, (starts, ratios) in scales.items():
        for place in np.flatnonzero(ratios >= _critical(scale, level, tested)):
            found.append((scale, -float(ratios[place]), int(starts[place])))
    kept: list[Found] = []
    for each in sorted(found):  # the finest scale first: it says best where
        if all(_apart(each, other) for other in kept):
            kept.append(each)
    return [_split(points, each, tested) for each in sorted(kept, key=lambda each: each[2])]


def _scales(n: int) -> list[int]:
    """1, 2, 4, ... as long as a thinned cloud has a gap with both flanks."""
    most = n // (2 * FLANK + 2)
    return [2**power for power in range(most.bit_length())]


def _ratios(points: np.ndarray, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the gaps that have both flanks: the points where they start, and how many times as wide
    each is as the mean gap of its wider flank."""
    kept = np.arange((len(points) - 1) % scale // 2, len(points), scale)
    gaps = np.diff(points[kept])
    sums = np.convolve(gaps, np.ones(FLANK), "valid")
    middle = np.arange(FLANK, len(gaps) - FLANK)
    beside = np.maximum(sums[middle - FLANK], sums[middle + 1]) / FLANK
    ratios = np.zeros(len(middle))
    wide = gaps[middle] > 0  # beside equal points on both sides any gap is infinitely wide
    with np.errstate(divide="ignore"):
        ratios[wide] = gaps[middle[wide]] / beside[wide]
    return kept[middle], ratios


@cache
def _critical(scale: int, level: float, tested: int) -> float:
    """The ratio from which on a gap is a split; the 2 stands for the two sides."""
    return float(stats.f.isf(level / (2 * tested), 2 * scale, 2 * scale * FLANK))


def _apart(one: Found, other: Found) -> bool:
    """Whether each gap lies outside of the other one's flanks."""
    first, second = sorted((one, other), key=lambda each: each[2])
    return second[2] - (first[2] + first[0]) >= FLANK * max(one[0], other[0])


def _split(points: np.ndarray, found: Found, tested: int) -> Split:
    scale, ratio, start = found
    bars = np.diff(points[start : start + scale + 1])
    longest = start + int(bars.argmax())
    left, right = points[longest], points[longest + 1]
    p = 2 * tested * stats.f.sf(-ratio, 2 * scale, 2 * scale * FLANK)
    return Split(
        float(left + right) / 2, float(right - left), float(points[start]),
        float(points[start + scale]), scale, min(1.0, float(p)),
    )  # fmt: skip


def groups(values: np.ndarray, found: list[Split]) -> np.ndarray:
    """``(n,)``: the number of each point's group, 0 for the leftmost: k splits make k + 1.

    >>> groups(np.array([0.0, 3.0, 9.0]), [Split(5.0, 6.0, 3.0, 9.0, 1, 0.01)]).tolist()
    [0, 0, 1]
    """
    return np.digitize(values, [split.at for split in found])


def tree(found: list[Split], first: int = 0) -> int | dict[str, Any]:
    """The splits as a tree, plain JSON: the longest bar on top, as the cloud falls apart when the
    scale shrinks. A leaf is the number of a group.

    >>> tree([])
    0
    >>> both = [Split(2.0, 1.0, 1.5, 2.5, 1, 0.01), Split(5.0, 3.0, 3.5, 6.5, 1, 0.01)]
    >>> top = tree(both)
    >>> top["at"], top["left"]["at"], top["left"]["left"], top["right"]
    (5.0, 2.0, 0, 2)
    """
    if not found:
        return first
    top = max(range(len(found)), key=lambda place: found[place].length)
    branches = {"left": tree(found[:top], first), "right": tree(found[top + 1 :], first + top + 1)}
    return asdict(found[top]) | branches


def branches(found: list[Split]) -> list[tuple[int, int, float]]:
    """The two sides of each split, in the tree: first and last group, and the bar that parts them.

    >>> both = [Split(2.0, 1.0, 1.5, 2.5, 1, 0.01), Split(5.0, 3.0, 3.5, 6.5, 1, 0.01)]
    >>> branches(both)
    [(0, 1, 3.0), (2, 2, 3.0), (0, 0, 1.0), (1, 1, 1.0)]
    """

    def below(first: int, last: int) -> list[tuple[int, int, float]]:
        if first == last:
            return []
        top = max(range(first, last), key=lambda place: found[place].length)
        length = found[top].length
        sides = [(first, top, length), (top + 1, last, length)]
        return sides + below(first, top) + below(top + 1, last)

    return below(0, len(found))


def on_a_line(points: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A cloud in R^d along the one direction in which its single-linkage tree falls apart.

    Half of the points grow the tree. Its highest merge of two branches that are both larger than
    ``FLANK`` gives the direction, from the one branch's mean to the other's. The other half is
    what a test may look at: it has had no part in choosing the direction, so the level of
    :func:`splits` holds there for every cloud whose projections all have one mode.

    Args:
        points: ``(n, d)``.
        seed: of how the points are halved.

    Returns:
        values ``(n,)``, and ``(n,)`` bool: which points were held out for the test. Without such
        a merge all values are 0.

    >>> random = np.random.default_rng(0)
    >>> cloud = random.normal(size=(300, 5))
    >>> cloud[:150, 2] += 12
    >>> values, held_out = on_a_line(cloud)
    >>> len(splits(values[held_out])), int(held_out.sum())
    (1, 150)
    """
    points = np.asarray(points, dtype=np.float64)
    held_out = np.zeros(len(points), dtype=bool)
    held_out[np.random.default_rng(seed).permutation(len(points))[: len(points) // 2]] = True
    growing = points[~held_out]
    values = np.zeros(len(points))
    if len(growing) < 2:
        return values, held_out
    for node in reversed(to_tree(linkage(growing, "single"), rd=True)[1]):  # the highest first
        if node.count >= 2 * FLANK + 2 and min(node.left.count, node.right.count) > FLANK:
            one, other = (
                growing[each.pre_order()].mean(axis=0) for each in (node.left, node.right)
            )
            return points @ (other - one), held_out
    return values, held_out
