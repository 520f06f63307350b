"""Checkers of part II: units and their sizes, hooks, masks, clouds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from obce.book.exercises.check import (
    Answer,
    compare_function,
    compare_number,
    returned,
    same,
    say,
)
from obce.units import KINDS, Shape

# Chapter 4: what a neuron is


def scores_without_pair(answer: Answer) -> None:
    """``answer(query, key, pair)``: one head's (L, L) attention scores without one pair of units;
    ``query`` and ``key`` are the head's outputs, (L, head size)."""
    query, key = np.random.default_rng(4).integers(-3, 4, (2, 2, 4)).astype(float)
    compare_function(
        answer,
        lambda query, key, pair: (
            np.delete(query, pair, 1) @ np.delete(key, pair, 1).T / np.sqrt(query.shape[1])
        ),
        [(query, key, pair) for pair in range(4)],
        hint="Units are columns here, and the scale stays that of the whole head.",
    )


def layer_parameters(answer: Answer) -> None:
    """``answer(hidden, intermediate)``: the parameters of one layer."""
    compare_function(
        answer,
        lambda hidden, intermediate: layer_size(hidden, intermediate),
        [(1, 1), (2, 3), (384, 1536), (768, 3072), (1024, 4096)],
        tolerance=1e-9,
        hint="A layer has six weights, six biases, and two LayerNorms of two vectors each.",
    )


def freed_by(answer: Answer) -> None:
    """``answer(kind, hidden, intermediate)``: the parameters that go with one unit of a kind."""

    def wanted(kind: str, hidden: int, intermediate: int) -> int:
        gone = ("query", "key") if kind in ("query", "key") else (kind,)
        less = layer_size(hidden, intermediate, {kind: 1 for kind in gone})
        return layer_size(hidden, intermediate) - less

    compare_function(
        answer,
        wanted,
        [(kind, *sizes) for sizes in ((2, 5), (768, 3072)) for kind in KINDS],
        hint="Count the black stripes in the figure: rows, columns, biases, partners.",
    )


def keep_encoder(answer: Answer) -> None:
    """``answer(keep_total, total, encoder)``: the same cut, as a fraction of the encoder."""
    compare_function(
        answer,
        lambda keep_total, total, encoder: 1 - (1 - keep_total) * total / encoder,
        [(0.9, 100, 50), (0.5, 100, 50), (1.0, 100, 80), (0.5847, 109_482_240, 85_054_464)],
        hint="What is removed is removed from the encoder; all the rest stays whole.",
    )


def half_of_two_kinds(answer: Answer) -> None:
    """``answer()``: what stays of BERT-base's encoder without half of its value and half of its
    intermediate units."""
    hidden, intermediate = 768, 3072
    gone = {"value": hidden // 2, "intermediate": intermediate // 2}
    dense, units = layer_size(hidden, intermediate), 5 * hidden + intermediate
    stays = layer_size(hidden, intermediate, gone) / dense
    rows_only = 1 - sum(gone.values()) * (hidden + 1) / dense
    outside = 24_427_776 / 109_482_240  # embeddings and pooler
    given = returned(answer)
    if given is None:
        return None
    traps = {
        0.5: "half of two kinds is not half of the six, and the kinds differ in size.",
        1 - stays: "that is the fraction that goes.",
        100 * stays: "a fraction is asked for, not a percentage.",
        1 - sum(gone.values()) / units: "that is the fraction of the units that stays.",
        rows_only: "the rows are right, but a column goes with each of these units, too.",
        outside + (1 - outside) * stays: "that is of all parameters; the encoder's are asked for.",
    }
    return compare_number(given, stays, 2e-3, traps)


def layer_size(hidden: int, intermediate: int, gone: dict[str, int] | None = None) -> int:
    """Parameters of a layer without ``gone[kind]`` units of each kind."""
    shape = Shape(1, hidden, 1, intermediate)
    return shape.layer_parameters({k: shape.width(k) - (gone or {}).get(k, 0) for k in KINDS})


# Chapter 5: watching neurons


def recording(answer: Answer) -> None:
    """``with answer(module, unit) as seen``: ``seen`` gets the unit's output at every call."""
    if not callable(answer):
        return say("there is no function so far.")
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
            return say("the function does nothing so far.")
        with torch.no_grad(), manager as seen:
            output = module(inputs)
            module(inputs)
            seen = list(seen) if isinstance(seen, (list, tuple)) else seen
        stayed = left()
    except Exception as error:
        return say(f"it raises {type(error).__name__}: {error}")
    if not isinstance(seen, list):
        return say(f"``as seen`` should be a list, it is {type(seen).__name__}.")
    if len(seen) != 2:
        return say(f"after two calls of the module the list has {len(seen)} entries instead of 2.")
    if not same(output[..., 2], wanted, 1e-5):
        return say("the hook changes what the module puts out.")
    for entry in seen:
        entry = entry.detach() if isinstance(entry, torch.Tensor) else entry
        if not same(entry, wanted, 1e-5):
            shape = tuple(np.shape(entry))
            return say(
                f"an entry is not the outputs of the unit: its shape is {shape}, and that of "
                f"output[..., unit] would be {wanted.shape}."
            )
    if stayed:
        return say("after the block a hook is left on the module.")
    if other.id not in module._forward_hooks:
        return say("it also takes off a hook that somebody else has hung on the module.")
    for trouble in (ZeroDivisionError("1 / 0"), KeyboardInterrupt()):
        try:
            with answer(module, 2):
                raise trouble
        except BaseException as error:
            if error is not trouble:
                return say(f"an error inside the block comes out as {type(error).__name__}.")
        else:
            return say("an error inside the block is swallowed: the caller never hears of it.")
        if left():
            name = type(trouble).__name__
            return say(f"after a {name} inside the block a hook is left on the module.")
    say(None)


def bytes_of_base(answer: Answer) -> None:
    """``answer(texts, length)``: bytes of all outputs of BERT-base's units."""
    units = Shape(12, 768, 12, 3072).units
    compare_function(
        answer,
        lambda texts, length: 4 * units * texts * length,
        [(1, 1), (1, 10), (10, 1), (512, 64)],
        tolerance=1e-9,
        hint="BERT-base has 12 layers of 5 H + I units, and a float32 has 4 bytes.",
    )


def masked_mean(answer: Answer) -> None:
    """``answer(outputs, mask)``: the mean of (texts, longest, units) over real tokens."""
    random = np.random.default_rng(5)
    ones = np.ones((2, 4, 1))
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
    compare_function(
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


def loudest(answer: Answer) -> None:
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

    def wanted(outputs: np.ndarray, k: int) -> np.ndarray:
        size = np.abs(outputs)
        return np.argsort(-size.max(1) / np.median(size, 1))[:k]

    compare_function(
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


# Chapter 6: after fine-tuning


def row_correlations(answer: Answer) -> None:
    """``answer(before, after)``: of each row of (units, tokens) with the same row of the other."""
    rng = np.random.default_rng(8)
    before = rng.normal(2, 1, (4, 9))
    after = before * [[3.0], [-1.0], [0.5], [1.0]] + rng.normal(0, [[0], [0], [1], [4]], (4, 9)) - 5
    compare_function(
        answer,
        lambda one, two: [np.corrcoef(x, y)[0, 1] for x, y in zip(one, two, strict=True)],
        [(before, after), (before[2:], after[2:])],
        hint="Take off each row's own mean, and divide by the lengths of what is left.",
    )


def chosen_unit(answer: Answer) -> None:
    """``answer(train, train_labels, test, test_labels)``: the unit that separates the classes
    best on the training texts, and how far apart they are on the test texts."""
    rng = np.random.default_rng(9)
    labels = np.repeat([0, 1], 12)
    helps = np.array([[0.5], [2.0], [0.0], [-1.5]])
    train, test = (helps * labels + rng.normal(size=(4, 24)) for _ in range(2))
    train[2] += 5 * labels  # a unit that looks good by chance, and is not

    def apart(cloud: np.ndarray, labels: np.ndarray) -> np.ndarray:
        bad, good = (cloud[:, labels == label] for label in (0, 1))
        middle = np.abs(good.mean(axis=1) - bad.mean(axis=1))
        return middle / np.sqrt((good.var(axis=1) + bad.var(axis=1)) / 2)

    def wanted(*given: np.ndarray) -> tuple[int, float]:
        train, train_labels, test, test_labels = given
        unit = int(apart(train, train_labels).argmax())
        return unit, apart(test, test_labels)[unit]

    compare_function(
        answer,
        wanted,
        [
            (train, labels, test, labels),
            (test, labels, train, labels),
            (-train, labels, test, labels),
        ],
        hint="Choose by the training texts alone; the distance of the means, without its sign, "
        "divided by the root of the mean of the two variances.",
    )


def cut_in_both(answer: Answer) -> None:
    """``answer(before, after)``: of the units in the lower half of the first scores, the fraction
    in the lower half of the second."""
    rng = np.random.default_rng(10)
    first, second = rng.permutation(40) / 7, rng.permutation(40) * 3.0

    def wanted(before: np.ndarray, after: np.ndarray) -> float:
        lower = [set(np.argsort(scores)[: len(scores) // 2]) for scores in (before, after)]
        return len(lower[0] & lower[1]) / len(lower[0])

    compare_function(
        answer,
        wanted,
        [(first, second), (first, first), (first, -first), (first[:6], second[:6])],
        hint="Each score has a lower half of its own; compare the numbers of the units in it.",
    )


# Chapter 7: clouds


def texts_cloud(answer: Answer) -> None:
    """``answer(outputs, lengths, length)``: one unit's (texts, length) cloud."""
    outputs = np.array([[1.0, 3.0, 9.0, 9.0], [2.0, 9.0, 9.0, 9.0], [1.0, 2.0, 3.0, 6.0]])

    def wanted(outputs: np.ndarray, lengths: np.ndarray, length: int) -> np.ndarray:
        real = np.arange(outputs.shape[1]) < np.asarray(lengths)[:, None]
        return np.where(real, outputs - np.median(outputs[real]), 0)[:, :length]

    compare_function(
        answer,
        wanted,
        [(outputs, np.array([2, 1, 4]), length) for length in (4, 2, 1)]
        + [(outputs - 7, np.array([2, 3, 4]), 3)],
        hint="First the median of all real tokens is taken off, cut or not; then 0 after the end.",
    )


def smaller_side(answer: Answer) -> None:
    """``answer(points)``: which points of a line are on the smaller side of the last merge."""

    def in_order(points: np.ndarray) -> Any:
        given = answer(points)
        if given is None or given is Ellipsis:
            return given
        given = list(given) if isinstance(given, (set, frozenset)) else given
        places = np.asarray(given).ravel()
        if places.dtype == bool and len(places) == len(points):  # a mask says the same
            places = np.flatnonzero(places)
        return np.sort(places)

    def wanted(points: np.ndarray) -> np.ndarray:
        order = np.argsort(points)
        cut = np.diff(points[order]).argmax() + 1
        return np.sort(min(order[:cut], order[cut:], key=len))

    cases = ([0.0, 1.0, 5.0], [5.0, 0.0, 6.0, 1.0, 2.0], [3.0, -9.0, 2.0, 1.0, 0.5])
    compare_function(
        in_order if callable(answer) else answer,
        wanted,
        [(np.array(case),) for case in cases],
        hint="Sort, cut at the largest gap, and give the places in the original array.",
    )


def constant_unit(answer: Answer) -> None:
    """``answer(constant, lengths)``: a constant unit's r_f without centring, 0 after the end."""
    compare_function(
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


def rank_correlation(answer: Answer) -> None:
    """``answer(first, second)``: Spearman's rank correlation of scores without ties."""

    def wanted(first: np.ndarray, second: np.ndarray) -> float:
        ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
        return np.corrcoef(ranks[0], ranks[1])[0, 1]

    first = np.array([0.1, 0.4, 0.2, 9.0, 0.3])
    compare_function(
        answer,
        wanted,
        [(first, first**3), (first, -first), (first, np.array([5.0, 3.0, 4.0, 0.1, 70.0]))],
        hint="Replace both by their ranks, then take the correlation.",
    )
