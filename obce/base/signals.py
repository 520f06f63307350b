"""Ctrl-C, and SIGTERM, which a cluster or a container sends before it kills."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], None]


def interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM's handler: what Ctrl-C does."""
    raise KeyboardInterrupt


@contextmanager
def _handled(handlers: dict[signal.Signals, Handler]) -> Iterator[None]:
    """Other handlers for some signals; outside of the main thread, which alone may, as they are."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, new) for number, new in handlers.items() if main}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM interrupts like Ctrl-C, unless the program has its own way with it."""
    ours = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with _handled({signal.SIGTERM: interrupt} if ours else {}):
        yield


@contextmanager
def noted() -> Iterator[list[int]]:
    """Take note of Ctrl-C and SIGTERM, to be looked at between steps; a second one interrupts.

    Raised wherever it arrives, KeyboardInterrupt can be lost in training: Python drops what is
    raised inside a weak reference's callback, and torch and accelerate have many.
    """
    pressed: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    raising = (signal.default_int_handler, interrupt)
    numbers = (signal.SIGINT, signal.SIGTERM)
    with _handled({n: note for n in numbers if signal.getsignal(n) in raising}):
        yield pressed
