"""What a user sees while a job runs: bars on a terminal, and a line for each stage that is done."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from obce.base import distributed
from obce.running.tables import duration


def bars(progress: bool) -> bool:
    """Whether to show bars: in a file of logs each would be one endless line."""
    return progress and sys.stderr.isatty()


def say(line: str, progress: bool) -> None:
    """A line on standard error, from the main process alone."""
    if progress and distributed.is_main():
        print(line, file=sys.stderr, flush=True)


@contextmanager
def stage(name: str, progress: bool) -> Iterator[None]:
    """Say that a stage is done, and how long it took."""
    start = time.monotonic()
    yield
    say(f"{name}: {duration(time.monotonic() - start)}", progress)
