"""How an answer is compared with ours, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

Answer = Callable[..., Any]
"""What a reader writes: a function, or ``...`` as long as there is none."""


_raises = ContextVar("_raises", default=False)


@contextmanager
def graded() -> Iterator[None]:
    """Inside of this block a wrong answer raises, as programs that grade want it."""
    token = _raises.set(True)
    try:
        yield
    finally:
        _raises.reset(token)


def say(problem: str | None) -> None:
    """Print what is wrong, or that nothing is. AssertionError: inside of :func:`graded`."""
    if problem is not None and _raises.get():
        raise AssertionError(f"Not yet: {problem}")
    print("Right." if problem is None else f"Not yet: {problem}")


def same(given: Any, wanted: Any, tolerance: float) -> bool:
    """Whether both are numbers of one shape and equal but for rounding.

    A row or a column of a matrix counts as a list of numbers, and so does what an iterator gives;
    a text is no number, not even "3".
    """
    try:
        given = list(given) if isinstance(given, Iterator) else given
        if np.asarray(given).dtype.kind in "US":
            return False
        given, wanted = np.asarray(given, dtype=float), np.asarray(wanted, dtype=float)
    except (TypeError, ValueError):
        return False
    if wanted.ndim <= 1 and given.size == wanted.size and max(given.shape, default=1) == given.size:
        given = given.reshape(wanted.shape)
    return given.shape == wanted.shape and np.allclose(
        given, wanted, rtol=tolerance, atol=1e-9, equal_nan=True
    )


def show(value: Any) -> str:
    """A value on one line, long arrays shortened."""
    try:
        text = np.array2string(np.asarray(value), precision=4, separator=", ", threshold=12)
    except ValueError:  # lists of unequal lengths are no array
        text = repr(value)
    return " ".join(text.split()).removesuffix(".")  # 1 rather than "1."


def apart(given: Any, wanted: Any) -> str:
    """``2 instead of 3``; two that look alike are told with their shapes, or with more digits."""
    one, other = show(given), show(wanted)
    if one == other and np.shape(given) != np.shape(wanted):
        return f"{one} of the shape {np.shape(given)} instead of {np.shape(wanted)}"
    if one == other:
        return f"{given!r} instead of {wanted!r}"
    return f"{one} instead of {other}"


def compare_function(
    answer: Answer,
    wanted: Callable[..., Any],
    cases: Iterable[tuple[Any, ...]],
    tolerance: float = 1e-5,
    hint: str = "",
) -> None:
    """Call the reader's function and ours on each case; the first difference is printed."""
    if answer is None or answer is Ellipsis:
        return say("there is no function so far.")
    if not callable(answer):
        return say(f"{show(answer)} is no function; hand over the function, not its result.")
    for case in cases:
        arguments = ", ".join(show(part) for part in case)
        copies = [part.copy() if isinstance(part, np.ndarray) else part for part in case]
        try:
            given = answer(*copies)
        except Exception as error:  # whatever the reader's code raises is told, not thrown
            return say(f"for {arguments} it raises {type(error).__name__}: {error}")
        if given is None or given is Ellipsis:
            return say("the function returns nothing so far.")
        given = list(given) if isinstance(given, Iterator) else given
        expected = wanted(*case)
        if not same(given, expected, tolerance):
            return say(f"for {arguments} it gives {apart(given, expected)}. {hint}")
    return say(None)


def compare_number(
    answer: Any, wanted: float, tolerance: float = 1e-3, traps: dict[float, str] | None = None
) -> None:
    """Compare a number with ours; ``traps`` maps likely wrong numbers to what went wrong."""
    if same(answer, wanted, tolerance):
        return say(None)
    for trap, why in (traps or {}).items():
        if same(answer, trap, tolerance):
            return say(why)
    if np.ndim(answer) or not isinstance(answer, (int, float, np.number)):
        return say(f"{answer!r} is no number.")
    return say(f"{show(answer)} is too {'small' if answer < wanted else 'large'}.")


def returned(answer: Any) -> Any:
    """What the reader's function without arguments returns; an answer that is none is itself.

    None if there is nothing to check: then it has been said why.
    """
    if answer is None or answer is Ellipsis:
        say("there is no answer so far.")
        return None
    try:
        given = answer() if callable(answer) else answer
    except Exception as error:  # whatever the reader's code raises is told, not raised
        say(f"it raises {type(error).__name__}: {error}")
        return None
    if given is None or given is Ellipsis:
        say("the function returns nothing so far.")
        return None
    return given


def letters(answer: Any, right: str, why: dict[str, str]) -> None:
    """Compare a set of letters with ours; ``why`` says of each letter what it stands for."""
    given = returned(answer)
    if given is None:
        return
    letters = {letter for letter in str(given).upper() if letter.isalpha()}
    for letter in sorted(letters ^ set(right)):
        if letter not in why:
            return say(f"there is no {letter}: give letters of {', '.join(why)}.")
        verb = "does not belong" if letter in letters else "is missing"
        return say(f"{letter} {verb}: {why[letter]}")
    return say(None)
