"""Checkers of the chapter on surgery."""

from __future__ import annotations

import copy

import numpy as np
import torch
from scipy.special import softmax
from torch import nn

from obce.book.exercises.check import Answer, compare_function, returned, same, say, show


def other_unit(answer: Answer) -> None:
    """``answer()``: what the net of two units puts out for (1, 1) without its first unit."""
    given = returned(answer)
    if given is None:
        return None
    if same(given, [7, -5], 1e-6):
        return say(None)
    traps = {
        (13, 1): "this is the net without its second unit. Take out the first.",
        (15, -5): "this is the whole net. Take out the first unit.",
        (2, -6): "the bias of the second map stays and is added.",
        (13, -5): "unit 0 wrote 8 into the first output: 15 less 8.",
        (5, 1): "these are the biases alone. Unit 1 still speaks.",
    }
    for trap, why in traps.items():
        if same(given, trap, 1e-6):
            return say(why)
    return say(f"{show(given)} is not what is left. Unit 1 puts out 3 · 1 - 1 · 1 = 2.")


def left_in_attention(answer: Answer) -> None:
    """``answer(hidden, values, writers)``: parameters left in the maps value and
    attention_output."""

    def wanted(hidden: int, values: int, writers: int) -> int:
        return values * (hidden + 1) + writers * values + hidden

    compare_function(
        answer,
        wanted,
        [(8, 3, 6), (8, 8, 8), (384, 192, 384), (384, 384, 100), (8, 0, 8)],
        hint="A weight in a column and in a row that go is one weight; all entries of the second "
        "bias stay.",
    )


def pairs_that_count(answer: Answer) -> None:
    """``answer(queries, keys)``, (tokens, size) each: both without the pairs that softmax
    cannot feel."""
    if answer is None or answer is Ellipsis:
        return say("there is no function so far.")
    if not callable(answer):
        return say(f"{show(answer)} is no function; hand over the function, not its result.")
    rng = np.random.default_rng(20)
    for constant_keys, constant_queries in (([1], []), ([0, 2], [3]), ([], [0]), ([2], [2]),
                                            ([], []), ([0, 1], [1, 2])):  # fmt: skip
        queries, keys = rng.integers(-4, 5, (2, 6, 4)) / 2
        queries[0], keys[0] = 3.0, 3.5  # so that none of the others is constant
        queries[:, constant_queries], keys[:, constant_keys] = 2.0, -1.5
        case = f"a head whose keys {constant_keys} and queries {constant_queries} are constant"
        try:
            given = answer(queries.copy(), keys.copy())
        except Exception as error:  # whatever the reader's code raises is told, not thrown
            return say(f"for {case} it raises {type(error).__name__}: {error}")
        if given is None or given is Ellipsis:
            return say("the function returns nothing so far.")
        try:
            new_queries, new_keys = (np.asarray(part, dtype=float) for part in given)
        except (TypeError, ValueError):
            return say("it should return two arrays, the queries and the keys that are left.")
        left = 4 - len(constant_keys)
        if new_queries.shape != (6, left) or new_keys.shape != (6, left):
            return say(
                f"for {case} it returns {new_queries.shape} and {new_keys.shape}; both should be "
                f"{(6, left)}."
            )
        before, after = (
            softmax(a @ b.T / np.sqrt(4), axis=1)
            for a, b in ((queries, keys), (new_queries, new_keys))
        )
        if not np.allclose(before, after, atol=1e-9):
            return say(
                f"for {case} the attention changes by up to {np.abs(before - after).max():.2f}. "
                "The divisor stays that of the whole head, so nothing has to be rescaled."
            )
    return say(None)


def cut_feed_forward(answer: Answer) -> None:
    """``answer(up, down, constants)``: two smaller nn.Linear that do the same as the two given
    ones in which some units put out constants."""
    if answer is None or answer is Ellipsis:
        return say("there is no function so far.")
    if not callable(answer):
        return say(f"{show(answer)} is no function; hand over the function, not its result.")
    cases: tuple[tuple[int, int, dict[int, float]], ...] = (
        (3, 5, {1: 0.0}),
        (3, 5, {4: 0.0, 0: 0.0}),
        (4, 6, {2: 1.5}),
        (4, 6, {5: -0.25, 1: 2.0, 3: 0.0}),
        (4, 6, {}),
    )
    for number, (hidden, inner, constants) in enumerate(cases):
        generator = torch.Generator().manual_seed(number)
        up, down = nn.Linear(hidden, inner), nn.Linear(inner, hidden)
        for parameter in (*up.parameters(), *down.parameters()):
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
        inputs = torch.randn(2, 7, hidden, generator=generator)
        with torch.no_grad():
            inside = nn.functional.gelu(up(inputs))
            for unit, constant in constants.items():
                inside[..., unit] = constant
            wanted = down(inside)
        before = copy.deepcopy((up.state_dict(), down.state_dict()))
        case = f"units of which {constants or 'none'} are constant"
        try:
            given = answer(up, down, dict(constants))
            if given is None or given is Ellipsis:
                return say("the function returns nothing so far.")
            if not isinstance(given, (tuple, list)) or not all(
                isinstance(part, nn.Linear) for part in given
            ):
                return say("it should return two torch.nn.Linear, the new up and the new down.")
            new_up, new_down = given
            with torch.no_grad():
                found = new_down(nn.functional.gelu(new_up(inputs)))
        except Exception as error:  # whatever the reader's code raises is told, not thrown
            return say(f"for {inner} {case} it raises {type(error).__name__}: {error}")
        shapes = (tuple(new_up.weight.shape), tuple(new_down.weight.shape))
        left = inner - len(constants)
        if shapes != ((left, hidden), (hidden, left)):
            return say(
                f"for {inner} {case} the weights are {shapes[0]} and {shapes[1]} instead of "
                f"{(left, hidden)} and {(hidden, left)}."
            )
        for module, state in ((up, before[0]), (down, before[1])):
            unchanged = all(torch.equal(module.state_dict()[name], state[name]) for name in state)
            if module.weight.shape != state["weight"].shape or not unchanged:
                return say("it changes the maps that it was given; make new ones.")
        off = float((found - wanted).abs().max()) if found.shape == wanted.shape else np.inf
        if not off < 1e-4:
            return say(
                f"for {inner} {case} it differs from masking by {off:.2f}. Think of both biases, "
                "and of the constants: each is what down reads, after the GELU."
            )
    return say(None)
