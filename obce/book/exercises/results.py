"""Checkers of part III: a smaller BERT and its record."""

from __future__ import annotations

import numpy as np

from obce.book.exercises.check import Answer, compare_function, compare_number, returned, say
from obce.book.exercises.neurons import layer_size
from obce.pruning import Plan
from obce.running.records import recorded

# Chapter 9: a smaller BERT


def queries_and_keys(answer: Answer) -> None:
    """``answer()``: the share of MiniLM's encoder that its query and key maps hold."""
    hidden = 384
    layer = layer_size(hidden, 4 * hidden)
    share = 2 * hidden * (hidden + 1) / layer
    given = returned(answer)
    if given is None:
        return None
    total = 22_713_601
    traps = {
        share / 2: "that is the queries alone; the keys are as large.",
        2 / 6: "two of the six maps, but the maps differ in size.",
        6 * share * layer / total: "that is of all parameters; the encoder's are asked for.",
        1 - share: "that is what all the rest holds.",
        100 * share: "a fraction is asked for, not a percentage.",
        share * layer / (layer - 4 * hidden): "count the LayerNorms of the layer, too.",
        1 / 6: "count the biases and LayerNorms, too.",
    }
    # four digits: with three, an answer without the LayerNorms or the biases looks the same
    return compare_number(given, share, 2e-4, traps)


def survivors(answer: Answer) -> None:
    """``answer(scores, k)``: the numbers of the ``k`` units that stay, ascending."""
    rng = np.random.default_rng(7)
    ties = np.array([0.2, 0.5, 0.2, 0.2, 0.1])
    cases = [(np.array([0.3, 0.1, 0.4, 0.2]), 2), (ties, 1), (ties, 3), (ties, 2), (ties, 5)]
    cases += [(rng.permutation(12) / 4, 5), (rng.integers(0, 4, 30) / 4, 11)]
    compare_function(
        answer,
        lambda scores, k: np.sort(np.argsort(scores, kind="stable")[len(scores) - k :]),
        cases,
        hint="Ascending unit numbers; of equal scores, the lower unit number goes first.",
    )


def megabytes(answer: Answer) -> None:
    """``answer(parameters)``: the size of a file of so many float32 numbers, in MB."""
    compare_function(
        answer,
        lambda parameters: 4 * parameters / 1e6,
        [(1_000_000,), (22_713_601,), (109_482_240,)],
        tolerance=1e-2,
        hint="A float32 number takes 32 bits, a byte has 8 bits, and 1 MB is a million bytes.",
    )


def random_plans(answer: Answer) -> None:
    """``answer()``: three plans of equal budget (46.5 % of the encoder) from random scores."""
    plans = returned(answer)
    if plans is None:
        return None
    ours = isinstance(plans, list | tuple) and all(isinstance(plan, Plan) for plan in plans)
    if not ours or len(plans) != 3:
        return say("three plans are asked for, in a list, made by obce.plan.")
    for plan in plans:
        if plan.info.get("score") != "random":
            return say(f"a plan rests on the score {plan.info.get('score')!r}, not 'random'.")
        if abs(plan.keep_encoder - 0.465) > 0.001:
            return say(f"a plan keeps {plan.keep_encoder:.1%} of the encoder instead of 46.5%.")
    kept = {plan.kept[0, "intermediate"].tobytes() for plan in plans}
    return say(None if len(kept) == 3 else "plans are alike: each draw needs a seed of its own.")


def repair_gains(answer: Answer) -> None:
    """``answer(record)``: points of the main metric that the repair gives back, row by row."""

    def wanted(name: str) -> list[float]:
        record = recorded(name)
        metric = next(iter(record["dense"]))
        return [100 * (r["repaired"][metric] - r["cut"][metric]) for r in record["rows"]]

    compare_function(
        (lambda name: answer(recorded(name))) if callable(answer) else answer,
        wanted,
        [("trial_sst2",), ("trial_stsb",)],
        hint="One number per row, repaired less cut, main metric, in points (times 100).",
    )
