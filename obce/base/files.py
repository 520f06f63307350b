"""Writing files whole or not at all, and the temporary folders that this takes.

What is written first lies in a *scratch folder*: a temporary folder that only this user may enter
and whose name cannot be guessed, so that nobody can put a link where a file is about to be written.
Its process holds a lock in it. So one that a killed process has left can be told from one that is
in use, and the next scratch folder in the same place takes it away.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from filelock import FileLock

YOUNG = 1  # seconds for which a folder without a lock is left alone: locking takes a moment
PREFIX = ".obce-scratch-"
LOCK = ".lock"
USUAL = ".usual"  # an empty file: its permissions are those that new files get here


class Scratch:
    """A scratch folder, ``path``, which is gone after ``close`` or a ``with`` block.

    Args:
        within: where it lies; if left out, in the system's temporary folder (``TMPDIR``).

    >>> with Scratch() as folder:
    ...     _ = (folder / "file").write_text("text")
    >>> folder.exists()
    False
    """

    def __init__(self, within: str | os.PathLike | None = None):
        within = Path(within or tempfile.gettempdir())
        remove_leftovers(within)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=within))
            self._lock = FileLock(self.path / LOCK)
            # Until it is locked, another process may take the empty folder for a leftover. If that
            # process has removed it, locking makes it again; if that process holds the lock, the
            # loop makes another folder.
            with suppress(TimeoutError):
                self._lock.acquire(blocking=False)
                return

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def remove_leftovers(folder: Path) -> None:
    """Remove the scratch folders in ``folder`` whose processes were killed, and nothing else."""
    for left in folder.glob(f"{PREFIX}*"):
        # Others' folders cannot be entered; those in use are locked.
        with suppress(OSError):
            if left.is_symlink() or not left.is_dir():
                continue
            if not (left / LOCK).is_file():
                # Ours is empty here: its process was killed before it could lock it. If it is not
                # empty, rmdir fails. A young one may be about to be locked.
                if time.time() - left.stat().st_mtime > YOUNG:
                    left.rmdir()
                continue
            with FileLock(left / LOCK, blocking=False):
                shutil.rmtree(left)


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A path to write to, which becomes ``path`` if the block ends well and vanishes if not.

    If ``path`` is a symbolic link, the file takes the link's place; what it pointed to stays.

    Raises:
        OSError: ``path`` is a folder or a device, or cannot be written.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is no file: choose another path to write to")
    if not path.parent.is_dir():
        raise OSError(f"cannot write {path}: there is no folder {path.parent}")
    with replacing_files(path.parent, last=path.name) as folder:
        yield folder / path.name


@contextmanager
def replacing_files(
    folder: str | os.PathLike, last: str, within: str | os.PathLike | None = None
) -> Iterator[Path]:
    """A scratch folder for several files, which move to ``folder`` if the block ends well.

    They are on the disk before they move, so that a power cut leaves no empty file, and get the
    permissions that new files have by the user's umask.

    Args:
        last: name of the file that moves last; while it is missing, the rest counts as incomplete.
        within: where the scratch folder lies; in ``folder`` itself if left out.

    Raises:
        OSError: ``folder`` cannot be written; the message names it, and what is free on a disk
            that is full.
    """
    folder = Path(folder)
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Scratch(within or folder)
    with scratch as temporary:
        with writing_to(folder):
            (temporary / USUAL).touch()
            yield temporary
            move(temporary, folder, last)


def move(temporary: Path, folder: Path, last: str) -> None:
    """Move the files in a scratch folder, and those in its folders, to ``folder``."""
    mode = (temporary / USUAL).stat().st_mode & 0o777
    files = [path for path in temporary.rglob("*") if path.is_file()]
    files = [path for path in files if path.name not in (LOCK, USUAL)]
    for file in files:
        file.chmod(mode)  # safetensors makes files that their owner alone may read
        sync(file)
    targets = {folder}
    for file in sorted(files, key=lambda file: (file == temporary / last, file)):
        target = folder / file.relative_to(temporary)
        target.parent.mkdir(parents=True, exist_ok=True)
        targets.add(target.parent)
        if file == temporary / last:
            for each in targets:
                sync(each)
        os.replace(file, target)
    sync(folder)


def read_json(path: str | os.PathLike) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: it is no JSON, or nested so deeply that Python cannot read it; or it holds what
            Python's own reader accepts: NaN, an infinity, a number that overflows, a name twice.
        OSError: the file cannot be read.

    >>> with Scratch() as folder:
    ...     _ = (folder / "a.json").write_text('{"a": NaN}')
    ...     read_json(folder / "a.json")
    Traceback (most recent call last):
    ValueError: NaN is no JSON number
    """
    return parse_json(Path(path).read_text(encoding="utf-8"))


def parse_json(text: str) -> Any:
    """:func:`read_json` of a text."""
    try:
        return json.loads(
            text,
            parse_constant=_no_number,
            parse_float=_finite,
            object_pairs_hook=_without_repeats,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text[:20])


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it names {twice[:40]!r} twice")
    return found


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system without fsync
            raise
    finally:
        os.close(number)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn the errors of a full disk into an OSError that names the folder: Python's own names no
    file, and safetensors, tokenizers and torch each raise another kind."""
    try:
        yield
    except (ValueError, RuntimeError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and (error.filename or error.errno is None):
            raise  # it says what it is about
        raise OSError(
            f"cannot write into {folder}: {free(folder)} MiB are free; {reason(error)}"
        ) from error


def free(folder: Path) -> int:
    """MiB that are free on the disk of ``folder``, which need not exist yet."""
    there = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    return shutil.disk_usage(there).free // 2**20


def reason(error: Exception) -> str:
    """The first line of what an error says, or its kind, if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
