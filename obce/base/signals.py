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
    """Signals that have arrived; as their handler it raises KeyboardInterrupt."""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.append(number)
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
def terminable() -> Iterator[Interrupts]:
    """SIGTERM interrupts like Ctrl-C, and both are listed; a program's own handlers stay.

    The list tells what another error goes back to: code in C++ may raise its own ("Invalid bounding
    box", says matplotlib's) where KeyboardInterrupt came while it was reading a Python object.
    """
    arrived, usual = Interrupts(), (signal.SIG_DFL, signal.default_int_handler)
    with _handled({n: arrived for n in SIGNALS if signal.getsignal(n) in usual}):
        yield arrived


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

    def raises(handler: object) -> bool:
        return handler is signal.default_int_handler or isinstance(handler, Interrupts)

    with _handled({number: note for number in SIGNALS if raises(signal.getsignal(number))}):
        yield pressed
