"""Writing files whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A path to write to, which becomes ``path`` if the block ends well and vanishes if not."""
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replacing_files(
    folder: str | os.PathLike, last: str, within: str | os.PathLike | None = None
) -> Iterator[Path]:
    """A temporary folder for several files, which move to ``folder`` if the block ends well.

    Args:
        last: name of the file that moves last: without it, nobody takes the others for whole.
        within: where the temporary folder lies; in ``folder`` itself if left out.

    Raises:
        OSError: whatever the block raises but ValueError and RuntimeError: on a full disk
            safetensors, tokenizers and torch each raise their own.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=within or folder, prefix=".saving-") as temporary:
        with writing_to(folder):
            yield Path(temporary)
        for file in sorted(Path(temporary).iterdir(), key=lambda file: file.name == last):
            os.replace(file, folder / file.name)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """On a full disk safetensors, tokenizers and torch each raise their own: make it OSError."""
    try:
        yield
    except (OSError, ValueError, RuntimeError):
        raise
    except Exception as error:
        free = shutil.disk_usage(folder).free // 2**20
        raise OSError(
            f"cannot write into {folder}: {free} MiB are free; {reason(error)}"
        ) from error


def reason(error: Exception) -> str:
    """The first line of what an error says, or its kind, if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
