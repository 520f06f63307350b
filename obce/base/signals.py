"""Ctrl-C, and SIGTERM, which a cluster or a container sends before it kills."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Handler = Callable[[int, FrameType | None], None]


class Interrupts(list[int]):
    """The signals that have arrived. It is also their handler, which raises KeyboardInterrupt."""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.append(number)
        raise KeyboardInterrupt


@contextmanager
def _handled(handlers: dict[signal.Signals, Handler]) -> Iterator[None]:
    """Set other handlers for some signals; only the main thread may, elsewhere they stay."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, new) for number, new in handlers.items() if main}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def terminable() -> Iterator[Interrupts]:
    """SIGTERM interrupts like Ctrl-C, and both are listed; a program's own handlers stay.

    The list shows whether another error comes from an interruption: C++ code that meets a
    KeyboardInterrupt while it reads a Python object may raise an error of its own, like
    matplotlib's "Invalid bounding box".
    """
    arrived, usual = Interrupts(), (signal.SIG_DFL, signal.default_int_handler)
    with _handled({n: arrived for n in SIGNALS if signal.getsignal(n) in usual}):
        yield arrived


@contextmanager
def noted() -> Iterator[list[int]]:
    """List Ctrl-C and SIGTERM, for the caller to look at between steps; a second one interrupts.

    During training a KeyboardInterrupt can be lost: Python drops what is raised inside a weak
    reference's callback, and torch and accelerate have many of these.
    """
    pressed: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    def raises(handler: object) -> bool:
        return handler is signal.default_int_handler or isinstance(handler, Interrupts)

    with _handled({number: note for number in SIGNALS if raises(signal.getsignal(number))}):
        yield pressed
