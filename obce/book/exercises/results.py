"""Checkers of the chapter on GLUE: sizes, chance, and what is kept."""

from __future__ import annotations

import numpy as np

from obce.book.exercises.check import Answer, compare_function, compare_number, returned, say
from obce.book.exercises.neurons import layer_size
from obce.pruning import Plan


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


def share_kept(answer: Answer) -> None:
    """``answer(small, dense)``: what is kept of the mean of some tasks' metrics, in percent."""
    cases = [([80.0, 20.0], [80.0, 20.0]), ([76.0, 30.0], [80.0, 25.0])]
    cases += [([50.0], [40.0]), ([10.0, 20.0, 60.0], [12.0, 24.0, 60.0])]
    compare_function(
        answer,
        lambda small, dense: 100 * np.sum(small) / np.sum(dense),
        [tuple(map(np.array, case)) for case in cases],
        hint="Take the mean over the tasks first, then divide the two means, in percent.",
    )
