"""Checkers of part IV: buckets, processes, multiply-adds."""

from __future__ import annotations

import numpy as np

from obce.book.exercises.check import Answer, compare_function, returned, say
from obce.running.streaming import GapSummary
from obce.units import KINDS, Shape

# Chapter 10: pigeonholes and gaps


def gap_bounds(answer: Answer) -> None:
    """``answer(points, width)``: the bounds of the merge radius that buckets of a width give."""

    def wanted(points: np.ndarray, width: float) -> tuple[float, float]:
        points = np.sort(points)
        gaps, index = np.diff(points), np.floor(points / width)
        between = gaps[np.diff(index) > 0].max(initial=0.0)
        spread = max(np.ptp(points[index == i]) for i in index)
        return between, max(between, spread)

    rng = np.random.default_rng(8)
    cases: list[tuple] = [([3.0, 0, 1.5, 7], 2.0), ([0.0, 0.75, 1.375, 2], 1.0), ([-0.5, 0.5], 1.0)]
    cases += [
        ([4.0, 4.25], 1.0),
        ([2.5], 1.0),
        ([0.75, 1.5, 1.875], 1.0),
        (rng.normal(size=20).round(2), 0.5),
    ]
    compare_function(
        answer,
        wanted,
        [(np.array(points), width) for points, width in cases],
        hint="The largest gap between neighbouring filled buckets; then the larger of that and the "
        "largest spread inside one.",
    )


def enough_buckets(answer: Answer) -> None:
    """``answer(n)``: the smallest power of two that is at least 2n - 1."""
    compare_function(
        answer,
        lambda n: 1 << (2 * n - 2).bit_length(),
        [(n,) for n in (4, 5, 8, 9, 33, 1000, 1_000_000)],
        tolerance=1e-9,
        hint="The theorem asks for at least 2n - 1 buckets, the summary for a power of two.",
    )


def hard_to_certify(answer: Answer) -> None:
    """``answer()``: at most 40 numbers whose merge radius 32 buckets cannot certify."""
    given = returned(answer)
    if given is None:
        return None
    try:
        points = np.asarray(given, dtype=np.float32).reshape(-1, 1)
        summary = GapSummary(1, 32)
        summary.update(points)
        least, most = (float(bound[0]) for bound in summary.bounds())
    except Exception as error:  # whatever comes instead of numbers
        return say(f"that is no cloud: {type(error).__name__}: {error}")
    if len(points) > 40:
        return say(f"these are {len(points)} numbers; at most 40 are asked for.")
    return say(
        None
        if least < most
        else f"32 buckets of width {2.0 ** int(summary.exponent[0]):.4g} certify {least:.4g}: the "
        "widest gap must lie inside a bucket."
    )


# past one machine


def swapped(answer: Answer) -> None:
    """``answer(parts, process)``: (P, rows, units), each process's rows of a matrix, to all rows
    of the units that one process holds after the swap."""

    def wanted(parts: np.ndarray, process: int) -> np.ndarray:
        units, processes = parts.shape[2], len(parts)
        first, last = (p * units // processes for p in (process, process + 1))
        return np.concatenate([part[:, first:last] for part in parts])

    two = np.arange(20.0).reshape(2, 2, 5)
    three = np.arange(24.0).reshape(3, 1, 8)
    compare_function(
        answer,
        wanted,
        [(two, 0), (two, 1), (three, 0), (three, 1), (three, 2), (two[:1], 0)],
        hint="All texts, in the order of the processes; units p*U//P up to (p+1)*U//P.",
    )


def bytes_sent(answer: Answer) -> None:
    """``answer(units, points, processes)``: the bytes that each process sends in the swap."""
    compare_function(
        answer,
        lambda units, points, processes: 4 * units * points * (processes - 1) / processes**2,
        [(12, 10, 1), (12, 10, 2), (20736, 8320, 4), (221184, 100000, 1000)],
        hint="It made 1/P of all numbers, and keeps 1/P of those; a number takes 4 bytes.",
    )


def busiest_process(answer: Answer) -> None:
    """``answer(layers, hidden, intermediate, processes)``: the most units that a process holds."""
    compare_function(
        answer,
        lambda layers, hidden, intermediate, processes: (
            layers * (5 * -(-hidden // processes) + -(-intermediate // processes))
        ),
        [(1, 4, 8, 4), (6, 384, 1536, 1), (1, 5, 7, 2), (24, 1024, 4096, 1000)],
        hint="Every layer has five kinds of `hidden` units and one of `intermediate`; each kind "
        "is shared out on its own, and the last process has the rounded-up share of all.",
    )


# from parameters to milliseconds


def multiply_adds(answer: Answer) -> None:
    """``answer(hidden, intermediate, tokens)``: of one dense layer, for one text."""

    def wanted(hidden: int, intermediate: int, tokens: int) -> int:
        shape = Shape(1, hidden, 1, intermediate)
        return shape.layer_multiply_adds({kind: shape.width(kind) for kind in KINDS}, tokens)

    compare_function(
        answer,
        wanted,
        [(1, 1, 1), (2, 5, 3), (384, 1536, 32), (768, 3072, 128)],
        hint="Six maps meet every token; each pair of tokens meets in the scores and in the mean.",
    )


def even_length(answer: Answer) -> None:
    """``answer(hidden, intermediate)``: tokens at which attention's products equal the maps."""
    compare_function(
        answer,
        lambda hidden, intermediate: 2 * hidden + intermediate,
        [(384, 1536), (768, 3072), (10, 7)],
        hint="Set the term with the square of the tokens equal to the other one, and divide.",
    )


def speed_up(answer: Answer) -> None:
    """``answer(fixed, ratio)``: of the whole, when the share ``fixed`` of the time stays."""
    compare_function(
        answer,
        lambda fixed, ratio: 1 / (fixed + (1 - fixed) / ratio),
        [(0.1, 2.0), (0.0, 2.15), (0.25, 4.0), (1.0, 2.15)],
        hint="Let the dense model take 1 second. What does the small one take?",
    )


def intensity(answer: Answer) -> None:
    """``answer(tokens, inputs, outputs)``: multiply-adds per byte of one float32 map."""
    compare_function(
        answer,
        lambda t, i, o: t * i * o / (4 * (t * i + i * o + t * o)),
        [(1, 768, 3072), (32, 384, 384), (4096, 768, 3072)],
        hint="Read the inputs and the weights once, write the outputs once, 4 bytes each.",
    )
