"""One job at a time in a folder."""

from __future__ import annotations

import functools
import inspect
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from filelock import FileLock, Timeout

from obce.base import distributed
from obce.base.files import remove_leftovers

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
LOCK = ".obce-lock"


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Keep other jobs out of a folder, and remove what killed jobs have left in it.

    The folder is made if it is missing; if the block leaves it empty, it goes again. The operating
    system frees the lock of a process that ends, however it ends.

    Raises:
        ValueError: ``folder`` is a file.
        OSError: another job is at work there, or the folder cannot be written.
    """
    with ExitStack() as stack:

        def enter() -> None:
            stack.enter_context(_locked(folder))

        distributed.by_main(enter)
        yield


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: choose a folder to write to")
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise OSError(
            f"another job is at work in {folder}: wait for it, or choose another folder"
        ) from None
    try:
        for place in (Path(tempfile.gettempdir()), folder, *folder.glob("*/")):
            remove_leftovers(place)
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):
            for path in made:
                path.rmdir()


def alone_in_out(job: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A job that has the folder ``out``, one of its arguments, to itself."""
    names = inspect.signature(job)

    @functools.wraps(job)
    def alone(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with working_in(Path(names.bind(*args, **kwargs).arguments["out"])):
            return job(*args, **kwargs)

    return alone
