"""Checkers of the book's exercises: each says what is wrong, or that all is right.

``exercises.components_at(my_function)`` calls the reader's function on small cases and prints
the first that fails beside what was expected. Nothing is raised: a wrong answer is no error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import pdist

from obce import homology
from obce.pruning import Plan
from obce.running.records import recorded
from obce.running.streaming import GapSummary
from obce.units import KINDS, Shape


def _say(problem: str | None) -> None:
    print("Right." if problem is None else f"Not yet: {problem}")


def _same(given, wanted, tolerance: float) -> bool:
    try:
        given, wanted = np.asarray(given, dtype=float), np.asarray(wanted, dtype=float)
    except (TypeError, ValueError):
        return False
    return given.shape == wanted.shape and np.allclose(given, wanted, rtol=tolerance, atol=1e-9)


def _show(value) -> str:
    text = np.array2string(np.asarray(value), precision=4, separator=", ", threshold=12)
    return " ".join(text.split())


def _function(
    answer: Callable, wanted: Callable, cases: Iterable[tuple], tolerance: float = 1e-5, hint=""
) -> None:
    """Compare the reader's function with ours, case by case."""
    if not callable(answer):
        return _say("there is no function so far.")
    for case in cases:
        arguments = ", ".join(_show(part) for part in case)
        copies = [part.copy() if isinstance(part, np.ndarray) else part for part in case]
        try:
            given = answer(*copies)
        except Exception as error:  # whatever the reader's code raises is told, not thrown
            return _say(f"for {arguments} it raises {type(error).__name__}: {error}")
        if given is None or given is Ellipsis:
            return _say("the function returns nothing so far.")
        expected = wanted(*case)
        if not _same(given, expected, tolerance):
            return _say(
                f"for {arguments} it gives {_show(given)} instead of {_show(expected)}. {hint}"
            )
    return _say(None)


def _number(
    answer: float, wanted: float, tolerance: float = 1e-3, traps: dict[float, str] | None = None
) -> None:
    """Compare a number with ours; ``traps`` maps likely wrong numbers to what went wrong."""
    if answer is None or answer is Ellipsis:
        return _say("there is no number so far.")
    if _same(answer, wanted, tolerance):
        return _say(None)
    for trap, why in (traps or {}).items():
        if _same(answer, trap, tolerance):
            return _say(why)
    if np.ndim(answer) or not isinstance(answer, (int, float, np.number)):
        return _say(f"{answer!r} is no number.")
    return _say(f"{_show(answer)} is too {'small' if answer < wanted else 'large'}.")


def _told(answer: Callable):
    """What the reader's function without arguments returns, or None after saying what is amiss."""
    if not callable(answer):
        return _say("there is no function so far.")
    try:
        given = answer()
    except Exception as error:
        return _say(f"it raises {type(error).__name__}: {error}")
    if given is None or given is Ellipsis:
        return _say("the function returns nothing so far.")
    return given


# Chapter 1: from points to components


def components_at(answer: Callable) -> None:
    """``answer(points, scale)``: the number of components of (n, d) points at a scale."""
    points = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0], [9.0, 5.0]])
    _function(
        answer,
        lambda points, scale: 1 + np.sum(homology.h0_deaths(points) > scale),
        [(points, scale) for scale in (0.0, 0.5, 1.0, 4.9, 5.0, 6.0, 100.0)],
        hint="Two points meet when their distance is at most the scale; one component never dies.",
    )


def deaths_on_a_line(answer: Callable) -> None:
    """``answer(numbers)``: the finite deaths of (n,) numbers, ascending."""
    _function(
        answer,
        homology.h0_deaths,
        [(np.array(numbers),) for numbers in ([1.0, 2, 5], [5.0, 2, 1, 9], [3.0, 3, 1], [-2.0])],
        hint="Numbers come in any order, equal ones are 0 apart; deaths go from short to long.",
    )


def polygon_deaths(answer: Callable) -> None:
    """``answer(n)``: the deaths of the n corners of a regular polygon on a circle of radius 1."""
    _function(
        answer,
        lambda n: np.full(n - 1, 2 * np.sin(np.pi / n)),
        [(n,) for n in (6, 4, 3, 2, 17, 100)],
        hint="How long is a side, and how many sides does it take to join all corners?",
    )


def same_barcode(answer: Callable) -> None:
    """``answer()``: two clouds of equally many points with the same deaths, but not the same
    distances."""
    given = _told(answer)
    if given is None:
        return None
    try:
        one, other = (np.asarray(cloud, dtype=float) for cloud in given)
        one, other = (c[:, None] if c.ndim == 1 else c for c in (one, other))
        deaths = [homology.h0_deaths(cloud) for cloud in (one, other)]
    except Exception as error:  # whatever comes instead of two clouds
        return _say(f"two clouds cannot be had from it: {type(error).__name__}: {error}")
    if len(one) != len(other):
        return _say(f"the clouds have {len(one)} and {len(other)} points.")
    if not _same(*deaths, 1e-6):
        return _say(f"the deaths are {_show(deaths[0])} and {_show(deaths[1])}.")
    if _same(np.sort(pdist(one)), np.sort(pdist(other)), 1e-6):
        return _say("the deaths are the same, but all distances are, too.")
    return _say(None)


def moved_deaths(answer: Callable) -> None:
    """``answer(deaths, c, v)``: the deaths of all c * x + v, from the deaths of all x."""
    deaths, shift = np.array([1.0, 2.5, 4.0]), np.array([10.0, -3.0])
    _function(
        answer,
        lambda deaths, c, v: abs(c) * deaths,
        [(deaths, c, far * shift + 0.0) for far in (0, 1) for c in (1.0, 3.0, 0.5, -2.0, 0.0)],
        hint="What does it do to the distance of two points?",
    )


# Chapter 2: the merge radius


def predicted_radii(answer: Callable) -> None:
    """``answer()``: the merge radii of four clouds that are described in words."""
    numbers = _told(answer)
    if numbers is None:
        return None
    try:
        numbers = np.asarray(numbers, dtype=float)
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if numbers.shape != (4,):
        return _say("four numbers are asked for, one for each of (a) to (d).")
    reasons = {
        "a": "the numbers from 0 to 99 merge at 1; how far is 150 from the last of them?",
        "b": "no corner needs its diagonal: walk along the sides.",
        "c": "a shift changes no distance, and a factor multiplies each by its absolute value.",
        "d": "any two of them differ in two coordinates, by 1 in each: use Pythagoras.",
    }
    right = (51, 1, 6, 2**0.5)
    for given, wanted, (part, why) in zip(numbers, right, reasons.items(), strict=True):
        if not _same(given, wanted, 1e-2):
            return _say(f"({part}) is not {_show(given)}: {why}")
    return _say(None)


def last_edge(answer: Callable) -> None:
    """``answer(points)``: the two rows of (n, d) points whose distance is the merge radius."""
    rng = np.random.default_rng(2)
    line = np.array([[0.0], [1.0], [2.5], [9.0], [9.5]])
    chain = np.array([[0.0, 0.0], [7.0, 0.0], [3.0, 0.0], [3.0, 1.0], [0.0, 1.0]])
    hint = "Neither the longest distance nor the nearest points: the longest edge of the tree."
    _function(
        answer if not callable(answer) else lambda points: _pair(answer(points)),
        lambda points: _pair(_last_edge(points)),
        [(points,) for points in (line, chain, rng.normal(size=(12, 3)))],
        hint=hint,
    )


def _pair(rows) -> np.ndarray | None:
    """The same two rows in either order are the same answer."""
    rows = list(rows) if isinstance(rows, (set, frozenset)) else rows
    return None if rows is None or rows is Ellipsis else np.sort(np.ravel(rows))


def _last_edge(points: np.ndarray) -> np.ndarray:
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    off = np.abs(distance - homology.merge_radius(points[None])[0])
    return np.argwhere(off == off.min())[0]


def without_each(answer: Callable) -> None:
    """``answer(points)``: the merge radius of (n, d) points without each of them in turn."""
    points = np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [3.0, 4.0], [3.0, 9.0]])
    _function(
        answer,
        lambda points: [
            homology.merge_radius(np.delete(points, i, axis=0)[None])[0] for i in range(len(points))
        ],
        [(points,), (points[:4],), (np.random.default_rng(1).normal(size=(9, 3)),)],
        hint="Entry i is the merge radius of all points but point i; the point comes back after.",
    )


def equal_radius(answer: Callable) -> None:
    """``answer()``: two clouds on the line, equal in n and r_f, one ten times as spread out."""
    clouds = _told(answer)
    if clouds is None:
        return None
    try:
        first, second = (np.asarray(cloud, dtype=float) for cloud in clouds)
        lengths = {len(np.ravel(first)), len(np.ravel(second))}
        if first.ndim != 1 or second.ndim != 1 or len(lengths) > 1:
            return _say("two clouds (n,) with the same n are asked for.")
        radii = homology.merge_radius(np.stack([first, second]))
    except (TypeError, ValueError) as error:
        return _say(f"two clouds (n,) of numbers are asked for: {error}")
    spreads = np.sort([first.std(), second.std()])
    if not radii.min() > 0 or not np.isclose(*radii, rtol=1e-6):
        return _say(f"the merge radii are {_show(radii)}; they must be equal and above 0.")
    if spreads[1] < 10 * spreads[0] * (1 - 1e-9):
        return _say(f"the standard deviations are {_show(spreads)}, less than 10 times apart.")
    return _say(None)


def radius_of_most(answer: Callable) -> None:
    """``answer(points, share)``: the scale at which one component holds that share of points."""
    points = np.array([[0.0], [1.0], [3.0], [4.0], [8.0], [20.0], [29.0], [30.0]])
    many = np.random.default_rng(3).normal(size=(16, 2))

    def wanted(points, share):
        for scale in homology.h0_deaths(points):
            near = np.linalg.norm(points[:, None] - points[None], axis=2) <= scale * (1 + 1e-9)
            reach = np.linalg.matrix_power(near.astype(float), len(points)) > 0
            if reach.sum(axis=1).max() >= share * len(points):
                return scale

    _function(
        answer,
        wanted,
        [(cloud, share) for cloud in (points, many) for share in (1.0, 0.75, 0.5, 0.25)],
        hint="Look for the first merge after which a component has share * n points or more.",
    )


# Chapter 3: diagrams


def bottleneck_h0(answer: Callable) -> None:
    """``answer(first, second)``: bottleneck distance of two arrays of finite H0 deaths."""
    from persim import bottleneck

    rng = np.random.default_rng(3)
    cases = [([1, 6], [5]), ([10], [1]), ([3, 1, 7], [1, 6.5, 3]), ([], [4]), ([2, 3], [])]
    cases += [(rng.integers(0, 20, k) / 2, rng.integers(0, 20, 8 - k) / 2) for k in range(1, 8)]
    _function(
        answer,
        lambda *both: bottleneck(*(np.column_stack([0 * d, d]) for d in both)),
        [tuple(np.asarray(d, dtype=float) for d in case) for case in cases],
        hint="Try every number of pairs, none too: the largest deaths are paired in order, and "
        "a death that is left over costs half of itself.",
    )


def probe(answer: Callable) -> None:
    """``answer()``: two diagrams whose distance differs in all four readings of W_p."""
    if not callable(answer):
        return _say("there is no function so far.")
    try:
        given = answer()
        if given is None or given is Ellipsis:
            return _say("the function returns nothing so far.")
        diagrams = [np.asarray(part, dtype=float).reshape(-1, 2) for part in given]
        first, second = diagrams
    except Exception as error:
        return _say(f"two arrays of shapes (m, 2) and (k, 2) are wanted: {error}")
    if not all(np.isfinite(part).all() and (part[:, 0] <= part[:, 1]).all() for part in diagrams):
        return _say("a point of a diagram is finite here, and not born after its death.")
    found = {
        f"{name}, p = {order}": _wasserstein(first, second, inner, order)
        for inner, name in ((np.inf, "maximum norm"), (2, "Euclidean norm"))
        for order in (1, 2)
    }
    for name, value in found.items():
        for other, same in found.items():
            if name < other and np.isclose(value, same, rtol=1e-3, atol=1e-9):
                return _say(f"({name}) and ({other}) both give {_show(value)}.")
    return _say(None)


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


def rounded_range(answer: Callable) -> None:
    """``answer(radius, step, dimension)``: where r_f can lie once coordinates are rounded."""
    _function(
        answer,
        lambda radius, step, dimension: (
            max(0.0, radius - step * dimension**0.5),
            radius + step * dimension**0.5,
        ),
        [(0.9, 0.1, 1), (2.0, 0.25, 4), (0.9, 0.01, 64), (0.5, 0.25, 16)],
        hint="A coordinate moves by at most half a step, a point of R^d by at most sqrt(d) times "
        "that, and a death by at most twice what the points move; no death is below 0.",
    )


def entropies(answer: Callable) -> None:
    """``answer()``: the entropies of 64 equal deaths, and with one as long as 63 together."""
    try:
        given = answer() if callable(answer) else None
        if given is None or given is Ellipsis:
            return _say("there are no numbers so far.")
        before, after = (float(part) for part in given)
    except Exception as error:
        return _say(f"two numbers are wanted: {type(error).__name__}: {error}")
    if not _same(before, np.log(64), 2e-3):
        bits = "That is in bits: take the natural logarithm. " if abs(before - 6) < 1e-3 else ""
        return _say(
            f"{_show(before)} is not the entropy of 64 equal bars. {bits}"
            "Each share is 1/64; sum -p log p over them."
        )
    if not _same(after, np.log(2) + np.log(63) / 2, 2e-3):
        return _say(
            f"the first is right; {_show(after)} is not the second. One share is 1/2, each of "
            "the 63 others is 1/126."
        )
    return _say(None)


# Chapter 4: what a neuron is


def scores_without_pair(answer: Callable) -> None:
    """``answer(query, key, pair)``: one head's (L, L) attention scores without one pair of units;
    ``query`` and ``key`` are the head's outputs, (L, head size)."""
    query, key = np.random.default_rng(4).integers(-3, 4, (2, 2, 4)).astype(float)
    _function(
        answer,
        lambda query, key, pair: (
            np.delete(query, pair, 1) @ np.delete(key, pair, 1).T / np.sqrt(query.shape[1])
        ),
        [(query, key, pair) for pair in range(4)],
        hint="Units are columns here, and the scale stays that of the whole head.",
    )


def layer_parameters(answer: Callable) -> None:
    """``answer(hidden, intermediate)``: the parameters of one layer."""
    _function(
        answer,
        lambda hidden, intermediate: _layer(hidden, intermediate),
        [(1, 1), (2, 3), (384, 1536), (768, 3072), (1024, 4096)],
        tolerance=1e-9,
        hint="A layer has six weights, six biases, and two LayerNorms of two vectors each.",
    )


def freed_by(answer: Callable) -> None:
    """``answer(kind, hidden, intermediate)``: the parameters that go with one unit of a kind."""

    def wanted(kind, hidden, intermediate):
        gone = ("query", "key") if kind in ("query", "key") else (kind,)
        less = _layer(hidden, intermediate, {kind: 1 for kind in gone})
        return _layer(hidden, intermediate) - less

    _function(
        answer,
        wanted,
        [(kind, *sizes) for sizes in ((2, 5), (768, 3072)) for kind in KINDS],
        hint="Count the black stripes in the figure: rows, columns, biases, partners.",
    )


def keep_encoder(answer: Callable) -> None:
    """``answer(keep_total, total, encoder)``: the same cut, as a fraction of the encoder."""
    _function(
        answer,
        lambda keep_total, total, encoder: 1 - (1 - keep_total) * total / encoder,
        [(0.9, 100, 50), (0.5, 100, 50), (1.0, 100, 80), (0.5847, 109_482_240, 85_054_464)],
        hint="What is removed is removed from the encoder; all the rest stays whole.",
    )


def half_of_two_kinds(answer: Callable) -> None:
    """``answer()``: what stays of BERT-base's encoder without half of its value and half of its
    intermediate units."""
    hidden, intermediate = 768, 3072
    gone = {"value": hidden // 2, "intermediate": intermediate // 2}
    dense, units = _layer(hidden, intermediate), 5 * hidden + intermediate
    stays = _layer(hidden, intermediate, gone) / dense
    rows_only = 1 - sum(gone.values()) * (hidden + 1) / dense
    outside = 24_427_776 / 109_482_240  # embeddings and pooler
    try:
        given = answer() if callable(answer) else answer
    except Exception as error:
        return _say(f"it raises {type(error).__name__}: {error}")
    traps = {
        0.5: "half of two kinds is not half of the six, and the kinds differ in size.",
        1 - stays: "that is the fraction that goes.",
        100 * stays: "a fraction is asked for, not a percentage.",
        1 - sum(gone.values()) / units: "that is the fraction of the units that stays.",
        rows_only: "the rows are right, but a column goes with each of these units, too.",
        outside + (1 - outside) * stays: "that is of all parameters; the encoder's are asked for.",
    }
    return _number(given, stays, 2e-3, traps)


def _layer(hidden: int, intermediate: int, gone: dict[str, int] | None = None) -> int:
    """Parameters of a layer without ``gone[kind]`` units of each kind."""
    shape = Shape(1, hidden, 1, intermediate)
    return shape.layer_parameters({k: shape.width(k) - (gone or {}).get(k, 0) for k in KINDS})


# Chapter 5: watching neurons


def recording(answer: Callable) -> None:
    """``with answer(module, unit) as seen``: ``seen`` gets the unit's output at every call."""
    if not callable(answer):
        return _say("there is no function so far.")
    torch.manual_seed(0)
    module, inputs = torch.nn.Linear(3, 4), torch.randn(2, 5, 3)
    with torch.no_grad():
        wanted = module(inputs).numpy()[..., 2]
    other = module.register_forward_hook(lambda module, inputs, output: None)

    def left() -> int:
        return len(module._forward_hooks) - 1

    try:
        manager = answer(module, 2)
        if manager is None or getattr(manager, "gen", manager) is None:
            return _say("the function does nothing so far.")
        with torch.no_grad(), manager as seen:
            output = module(inputs)
            module(inputs)
            seen = list(seen) if isinstance(seen, (list, tuple)) else seen
        stayed = left()
    except Exception as error:
        return _say(f"it raises {type(error).__name__}: {error}")
    if not isinstance(seen, list):
        return _say(f"``as seen`` should be a list, it is {type(seen).__name__}.")
    if len(seen) != 2:
        return _say(f"after two calls of the module the list has {len(seen)} entries instead of 2.")
    if not _same(output[..., 2], wanted, 1e-5):
        return _say("the hook changes what the module puts out.")
    for entry in seen:
        entry = entry.detach() if isinstance(entry, torch.Tensor) else entry
        if not _same(entry, wanted, 1e-5):
            shape = tuple(np.shape(entry))
            return _say(
                f"an entry is not the outputs of the unit: its shape is {shape}, and that of "
                f"output[..., unit] would be {wanted.shape}."
            )
    if stayed:
        return _say("after the block a hook is left on the module.")
    if other.id not in module._forward_hooks:
        return _say("it also takes off a hook that somebody else has hung on the module.")
    for trouble in (ZeroDivisionError("1 / 0"), KeyboardInterrupt()):
        try:
            with answer(module, 2):
                raise trouble
        except BaseException as error:
            if error is not trouble:
                return _say(f"an error inside the block comes out as {type(error).__name__}.")
        else:
            return _say("an error inside the block is swallowed: the caller never hears of it.")
        if left():
            name = type(trouble).__name__
            return _say(f"after a {name} inside the block a hook is left on the module.")
    _say(None)


def bytes_of_base(answer: Callable) -> None:
    """``answer(texts, length)``: bytes of all outputs of BERT-base's units."""
    units = Shape(12, 768, 12, 3072).units
    _function(
        answer,
        lambda texts, length: 4 * units * texts * length,
        [(1, 1), (1, 10), (10, 1), (512, 64)],
        tolerance=1e-9,
        hint="BERT-base has 12 layers of 5 H + I units, and a float32 has 4 bytes.",
    )


def masked_mean(answer: Callable) -> None:
    """``answer(outputs, mask)``: the mean of (texts, longest, units) over real tokens."""
    random = np.random.default_rng(5)
    ones = np.ones((2, 4, 1))
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
    _function(
        answer,
        lambda outputs, mask: (outputs * mask[..., None]).sum(1) / mask.sum(1)[:, None],
        [
            (ones, np.ones((2, 4), dtype=int)),
            (ones, mask),
            (ones + 8 * (1 - mask)[..., None], mask),
            (random.integers(-4, 5, (2, 4, 3)).astype(float), mask),
        ],
        hint="Padding must leave the sum, and it must leave the number that it is divided by.",
    )


def loudest(answer: Callable) -> None:
    """``answer(outputs, k)``: the units of (units, tokens) with the largest ratio of largest to
    median size, the loudest first."""
    outputs = np.array(
        [
            [1.0, -2.0, 2.0, -2.0, 3.0],
            [50.0, 52.0, 51.0, 50.0, 55.0],  # large, but everywhere
            [0.5, 0.4, -9.0, -0.5, 0.6],  # shouts downwards
            [0.1, -0.2, 0.2, 0.2, 1.2],
            [-4.0, -4.0, -5.0, 0.1, 7.0],
        ]
    )

    def wanted(outputs, k):
        size = np.abs(outputs)
        return np.argsort(-size.max(1) / np.median(size, 1))[:k]

    _function(
        answer,
        wanted,
        [
            (outputs, 1),
            (outputs, 3),
            (outputs[[0, 1, 4]], 2),
            (np.array([[1.0, 1.0, 1.0, 1.0, 12.0], [0.2, 0.2, 0.2, 8.0, 8.0]]), 1),  # no mean
        ],
        hint="Take the sizes first, then the largest and the median of each row.",
    )


# Chapter 6: clouds


def texts_cloud(answer: Callable) -> None:
    """``answer(outputs, lengths, length)``: one unit's (texts, length) cloud."""
    outputs = np.array([[1.0, 3.0, 9.0, 9.0], [2.0, 9.0, 9.0, 9.0], [1.0, 2.0, 3.0, 6.0]])

    def wanted(outputs, lengths, length):
        real = np.arange(outputs.shape[1]) < np.asarray(lengths)[:, None]
        return np.where(real, outputs - np.median(outputs[real]), 0)[:, :length]

    _function(
        answer,
        wanted,
        [(outputs, np.array([2, 1, 4]), length) for length in (4, 2, 1)]
        + [(outputs - 7, np.array([2, 3, 4]), 3)],
        hint="First the median of all real tokens is taken off, cut or not; then 0 after the end.",
    )


def smaller_side(answer: Callable) -> None:
    """``answer(points)``: which points of a line are on the smaller side of the last merge."""

    def in_order(points):
        given = answer(points)
        given = list(given) if isinstance(given, (set, frozenset)) else given
        return given if given is None or given is Ellipsis else np.sort(np.asarray(given).ravel())

    def wanted(points):
        order = np.argsort(points)
        cut = np.diff(points[order]).argmax() + 1
        return np.sort(min(order[:cut], order[cut:], key=len))

    cases = ([0.0, 1.0, 5.0], [5.0, 0.0, 6.0, 1.0, 2.0], [3.0, -9.0, 2.0, 1.0, 0.5])
    _function(
        in_order if callable(answer) else answer,
        wanted,
        [(np.array(case),) for case in cases],
        hint="Sort, cut at the largest gap, and give the places in the original array.",
    )


def constant_unit(answer: Callable) -> None:
    """``answer(constant, lengths)``: a constant unit's r_f without centring, 0 after the end."""
    _function(
        answer,
        lambda constant, lengths: abs(constant) * np.sqrt(np.diff(np.sort(lengths)).max()),
        [
            (1.0, np.array([4, 5, 6])),
            (2.0, np.array([3, 7])),
            (-3.0, np.array([9, 4, 5, 5])),
            (0.0, np.array([1, 2])),
        ],
        hint="Two texts differ by the constant at as many tokens as their lengths differ.",
    )


def rank_correlation(answer: Callable) -> None:
    """``answer(first, second)``: Spearman's rank correlation of scores without ties."""

    def wanted(first, second):
        ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
        return np.corrcoef(*ranks)[0, 1]

    first = np.array([0.1, 0.4, 0.2, 9.0, 0.3])
    _function(
        answer,
        wanted,
        [(first, first**3), (first, -first), (first, np.array([5.0, 3.0, 4.0, 0.1, 70.0]))],
        hint="Replace both by their ranks, then take the correlation.",
    )


# Chapter 7: a smaller BERT


def queries_and_keys(answer: Callable) -> None:
    """``answer()``: the share of MiniLM's encoder that its query and key maps hold."""
    hidden = 384
    layer = _layer(hidden, 4 * hidden)
    share = 2 * hidden * (hidden + 1) / layer
    given = _given(answer)
    if isinstance(given, Exception):
        return _say(f"it raises {type(given).__name__}: {given}")
    total = 22_713_601
    traps = {
        share / 2: "that is the queries alone; the keys are as large.",
        2 / 6: "two of the six maps, but the maps differ in size.",
        6 * share * layer / total: "that is of all parameters; the encoder's are asked for.",
        1 - share: "that is what all the rest holds.",
    }
    return _number(given, share, 2e-3, traps)


def survivors(answer: Callable) -> None:
    """``answer(scores, k)``: the numbers of the ``k`` units that stay, ascending."""
    rng = np.random.default_rng(7)
    ties = np.array([0.2, 0.5, 0.2, 0.2, 0.1])
    cases = [(np.array([0.3, 0.1, 0.4, 0.2]), 2), (ties, 1), (ties, 3), (ties, 2), (ties, 5)]
    cases += [(rng.permutation(12) / 4, 5), (rng.integers(0, 4, 30) / 4, 11)]
    _function(
        answer,
        lambda scores, k: np.sort(np.argsort(scores, kind="stable")[len(scores) - k :]),
        cases,
        hint="Ascending unit numbers; of equal scores, the lower unit number goes first.",
    )


def megabytes(answer: Callable) -> None:
    """``answer(parameters)``: the size of a file of so many float32 numbers, in MB."""
    _function(
        answer,
        lambda parameters: 4 * parameters / 1e6,
        [(1_000_000,), (22_713_601,), (109_482_240,)],
        tolerance=1e-2,
        hint="A float32 number takes 32 bits, a byte has 8 bits, and 1 MB is a million bytes.",
    )


def random_plans(answer: Callable) -> None:
    """``answer()``: three plans of equal budget (46.5 % of the encoder) from random scores."""
    plans = _given(answer)
    if plans is None or plans is Ellipsis:
        return _say("there are no plans so far.")
    if isinstance(plans, Exception):
        return _say(f"it raises {type(plans).__name__}: {plans}")
    ours = isinstance(plans, list | tuple) and all(isinstance(plan, Plan) for plan in plans)
    if not ours or len(plans) != 3:
        return _say("three plans are asked for, in a list, made by obce.plan.")
    for plan in plans:
        if plan.info.get("score") != "random":
            return _say(f"a plan rests on the score {plan.info.get('score')!r}, not 'random'.")
        if abs(plan.keep_encoder - 0.465) > 0.001:
            return _say(f"a plan keeps {plan.keep_encoder:.1%} of the encoder instead of 46.5%.")
    kept = {plan.kept[0, "intermediate"].tobytes() for plan in plans}
    return _say(None if len(kept) == 3 else "plans are alike: each draw needs a seed of its own.")


def repair_gains(answer: Callable) -> None:
    """``answer(record)``: points of the main metric that the repair gives back, row by row."""

    def wanted(name):
        record = recorded(name)
        metric = next(iter(record["dense"]))
        return [100 * (r["repaired"][metric] - r["cut"][metric]) for r in record["rows"]]

    _function(
        (lambda name: answer(recorded(name))) if callable(answer) else answer,
        wanted,
        [("trial_sst2",), ("trial_stsb",)],
        hint="One number per row, repaired less cut, main metric, in points (times 100).",
    )


# Chapter 8: pigeonholes and gaps


def gap_bounds(answer: Callable) -> None:
    """``answer(points, width)``: the bounds of the merge radius that buckets of a width give."""

    def wanted(points, width):
        points = np.sort(points)
        gaps, index = np.diff(points), np.floor(points / width)
        between = gaps[np.diff(index) > 0].max(initial=0.0)
        spread = max(np.ptp(points[index == i]) for i in index)
        return between, max(between, spread)

    rng = np.random.default_rng(8)
    cases = [([3.0, 0, 1.5, 7], 2.0), ([0.0, 0.75, 1.375, 2], 1.0), ([-0.5, 0.5], 1.0)]
    cases += [([4.0, 4.25], 1.0), ([2.5], 1.0), (rng.normal(size=20).round(2), 0.5)]
    _function(
        answer,
        wanted,
        [(np.array(points), width) for points, width in cases],
        hint="The largest gap between neighbouring filled buckets; then the larger of that and the "
        "largest spread inside one.",
    )


def enough_buckets(answer: Callable) -> None:
    """``answer(n)``: the smallest power of two that is at least 2n - 1."""
    _function(
        answer,
        lambda n: 1 << (2 * n - 2).bit_length(),
        [(n,) for n in (4, 5, 8, 9, 33, 1000, 1_000_000)],
        tolerance=1e-9,
        hint="The theorem asks for at least 2n - 1 buckets, the summary for a power of two.",
    )


def hard_to_certify(answer: Callable) -> None:
    """``answer()``: at most 40 numbers whose merge radius 32 buckets cannot certify."""
    given = _told(answer)
    if given is None:
        return None
    try:
        points = np.asarray(given, dtype=np.float32).reshape(-1, 1)
        summary = GapSummary(1, 32)
        summary.update(points)
        least, most = (float(bound[0]) for bound in summary.bounds())
    except Exception as error:  # whatever comes instead of numbers
        return _say(f"that is no cloud: {type(error).__name__}: {error}")
    if len(points) > 40:
        return _say(f"these are {len(points)} numbers; at most 40 are asked for.")
    return _say(
        None
        if least < most
        else f"32 buckets of width {2.0 ** int(summary.exponent[0]):.4g} certify {least:.4g}: the "
        "widest gap must lie inside a bucket."
    )


# Chapter: past one machine


def swapped(answer: Callable) -> None:
    """``answer(parts, process)``: (P, rows, units), each process's rows of a matrix, to all rows
    of the units that one process holds after the swap."""

    def wanted(parts, process):
        units, processes = parts.shape[2], len(parts)
        first, last = (p * units // processes for p in (process, process + 1))
        return np.concatenate([part[:, first:last] for part in parts])

    two = np.arange(20.0).reshape(2, 2, 5)
    three = np.arange(24.0).reshape(3, 1, 8)
    _function(
        answer,
        wanted,
        [(two, 0), (two, 1), (three, 0), (three, 1), (three, 2), (two[:1], 0)],
        hint="All texts, in the order of the processes; units p*U//P up to (p+1)*U//P.",
    )


def bytes_sent(answer: Callable) -> None:
    """``answer(units, points, processes)``: the bytes that each process sends in the swap."""
    _function(
        answer,
        lambda units, points, processes: 4 * units * points * (processes - 1) / processes**2,
        [(12, 10, 1), (12, 10, 2), (20736, 8320, 4), (221184, 100000, 1000)],
        hint="It made 1/P of all numbers, and keeps 1/P of those; a number takes 4 bytes.",
    )


def busiest_process(answer: Callable) -> None:
    """``answer(layers, hidden, intermediate, processes)``: the most units that a process holds."""
    _function(
        answer,
        lambda layers, hidden, intermediate, processes: (
            layers * (5 * -(-hidden // processes) + -(-intermediate // processes))
        ),
        [(1, 4, 8, 4), (6, 384, 1536, 1), (1, 5, 7, 2), (24, 1024, 4096, 1000)],
        hint="Every layer has five kinds of `hidden` units and one of `intermediate`; each kind "
        "is shared out on its own, and the last process has the rounded-up share of all.",
    )


# Chapter: from parameters to milliseconds


def multiply_adds(answer: Callable) -> None:
    """``answer(hidden, intermediate, tokens)``: of one dense layer, for one text."""

    def wanted(hidden, intermediate, tokens):
        shape = Shape(1, hidden, 1, intermediate)
        return shape.layer_multiply_adds({kind: shape.width(kind) for kind in KINDS}, tokens)

    _function(
        answer,
        wanted,
        [(1, 1, 1), (2, 5, 3), (384, 1536, 32), (768, 3072, 128)],
        hint="Six maps meet every token; each pair of tokens meets in the scores and in the mean.",
    )


def even_length(answer: Callable) -> None:
    """``answer(hidden, intermediate)``: tokens at which attention's products equal the maps."""
    _function(
        answer,
        lambda hidden, intermediate: 2 * hidden + intermediate,
        [(384, 1536), (768, 3072), (10, 7)],
        hint="Set the term with the square of the tokens equal to the other one, and divide.",
    )


def speed_up(answer: Callable) -> None:
    """``answer(fixed, ratio)``: of the whole, when the share ``fixed`` of the time stays."""
    _function(
        answer,
        lambda fixed, ratio: 1 / (fixed + (1 - fixed) / ratio),
        [(0.0, 2.15), (1.0, 2.15), (0.1, 2.0), (0.25, 4.0)],
        hint="Let the dense model take 1 second. What does the small one take?",
    )


def intensity(answer: Callable) -> None:
    """``answer(tokens, inputs, outputs)``: multiply-adds per byte of one float32 map."""
    _function(
        answer,
        lambda t, i, o: t * i * o / (4 * (t * i + i * o + t * o)),
        [(1, 768, 3072), (32, 384, 384), (4096, 768, 3072)],
        hint="Read the inputs and the weights once, write the outputs once, 4 bytes each.",
    )


def _given(answer):
    """What an answer without arguments gives, or the exception that it raises."""
    try:
        return answer() if callable(answer) else answer
    except Exception as error:
        return error
