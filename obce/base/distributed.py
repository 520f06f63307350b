"""Many processes: which one this is, and the few things that they tell one another.

``torchrun`` or ``accelerate launch`` starts P processes, on one machine or on many, which all run
the same program. Inside ``with joined():`` the functions of this package share the work out:

- *texts*: batch b is run by process b mod P;
- *units*: after one transposition every process holds the outputs of its share of the units, over
  all texts, in the order in which a single process would have written them. So what is computed
  of a unit is bit for bit what a single process computes.

In a plain process every function here does what is right for P = 1, so that callers need no
``if``. All processes must call them in the same order. CPU tensors travel by gloo, those of a
GPU by NCCL; only tensors and JSON travel, nothing pickled.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import distributed as dist
from tqdm.auto import tqdm

from obce.base.launcher import started_by_launcher

Item = TypeVar("Item")
Key = TypeVar("Key")
_store: dist.Store | None = None


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that a launcher started with this one, and leave them afterwards.

    Without a launcher, or if they are joined already, nothing happens. ``LOCAL_RANK``, which the
    launcher sets, picks this process's GPU where there are any.

    Raises:
        RuntimeError: the other processes cannot be reached.
    """
    global _store
    if not started_by_launcher() or not dist.is_available() or dist.is_initialized():
        yield
        return
    backend = "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    _store, process, processes = next(dist.rendezvous("env://"))
    dist.init_process_group(backend, store=_store, rank=process, world_size=processes)
    try:
        yield
    finally:
        dist.destroy_process_group()
        _store = None


def rank() -> int:
    """The number of this process: 0 to ``size() - 1``."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def size() -> int:
    """How many processes share the work: P."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is process 0, which alone prints, shows progress and writes files."""
    return rank() == 0


def say(line: str) -> None:
    """A line on stderr for the user, by the main process."""
    if is_main():
        tqdm.write(f"obce: {line}", file=sys.stderr)


def bar(progress: bool, iterable: Iterable | None = None, **options: Any) -> tqdm:
    """A progress bar (tqdm's, with its ``options``), shown by the main process if asked for."""
    return tqdm(iterable, disable=not (progress and is_main()), **options)


def mine(items: Sequence[Item], process: int | None = None) -> Sequence[Item]:
    """Every P-th item: the share of ``process``, or of this one.

    >>> mine("abc")  # of one process, all
    'abc'
    """
    return items[rank() if process is None else process :: size()]


def rounds(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """The items in groups of P, one for each process, which :func:`mine` picks.

    >>> list(rounds("abc"))
    ['a', 'b', 'c']
    """
    return (items[start : start + size()] for start in range(0, len(items), size()))


def share(count: int, process: int, processes: int) -> slice:
    """The part of ``count`` units that a process holds: all parts are equal, give or take one.

    >>> [share(10, process, 4) for process in range(4)]
    [slice(0, 2, None), slice(2, 5, None), slice(5, 7, None), slice(7, 10, None)]
    """
    return slice(process * count // processes, (process + 1) * count // processes)


def _wire(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor on a device that the group can send from: one with NCCL alone sends from GPUs."""
    return tensor if f"{tensor.device.type}:" in dist.get_backend_config() else tensor.cuda()


def transpose(block: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """From shares of the rows to shares of the columns, by one all-to-all.

    Args:
        block: ``(rows[rank()], width)``, this process's rows.
        rows: how many rows each process has.

    Returns:
        ``(sum(rows), width of this share)``: all rows, in the order of the processes.
    """
    if size() == 1:
        return block
    parts = [share(block.shape[1], process, size()) for process in range(size())]
    widths = [part.stop - part.start for part in parts]
    send = _wire(torch.cat([block[:, part].reshape(-1) for part in parts]))
    own = widths[rank()]
    received = send.new_empty(sum(rows) * own)
    dist.all_to_all_single(
        received,
        send,
        output_split_sizes=[count * own for count in rows],
        input_split_sizes=[len(block) * width for width in widths],
    )
    return received.view(-1, own).to(block.device) if own else block.new_empty(sum(rows), 0)


def gather(block: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """All processes' rows, in the order of the processes, on every process.

    Args:
        block: ``(rows[rank()], ...)``, this process's rows.
        rows: how many rows each process has.
    """
    if size() == 1:
        return block
    padded = _wire(block.new_zeros(max(rows), *block.shape[1:]))
    padded[: len(block)] = block
    parts = [torch.empty_like(padded) for _ in rows]
    dist.all_gather(parts, padded)
    own = [part[:count] for part, count in zip(parts, rows, strict=True)]
    return torch.cat(own).to(block.device)


def gather_shares(
    own: dict[Key, np.ndarray], widths: dict[Key, int], processes: int
) -> dict[Key, np.ndarray]:
    """Give every process the numbers of all units, where each has those of its own share.

    Args:
        own: name -> ``(units of this share,)``, one number per unit.
        widths: name -> number of units in all shares together.
        processes: how many processes the units were shared out among.

    Returns:
        name -> ``(units,)`` float32 (4 bytes per unit are sent); with one process, ``own`` itself.

    Raises:
        ValueError: it is called by another number of processes than that.
    """
    if processes == 1:
        return own
    if processes != size():
        raise ValueError(f"the units are shared by {processes} processes, which have parted")
    block = np.concatenate([own[name] for name in own], dtype=np.float32)
    parts = [[share(widths[name], process, processes) for name in own] for process in range(size())]
    counts = [[part.stop - part.start for part in each] for each in parts]
    everything = gather(torch.from_numpy(block), [sum(each) for each in counts])
    pieces = iter(everything.split([count for each in counts for count in each]))
    by_process = [{name: next(pieces).numpy() for name in own} for _ in counts]
    return {name: np.concatenate([each[name] for each in by_process]) for name in own}


def transpose_file(path: Path, width: int, rows: Sequence[int], most: int) -> None:
    """:func:`transpose` of a file of float32 rows, which is replaced.

    Args:
        path: holds this process's rows before, ``(own rows, width)``, and all rows of its share
            of the columns after, in the order in which one process would have written them.
            A process without rows has no file before.
        width: columns.
        rows: how many rows each batch of all processes has; batch b is of process b mod P.
        most: rows of each process that are held in memory at once, about.
    """
    path.touch()
    transposed = path.with_suffix(".transposed")
    with open(path, "rb") as source, open(transposed, "wb") as target:
        for piece in _pieces(rows, most):
            by_process = list(zip(*piece, strict=True))  # rows of each process, round by round
            totals = [sum(counts) for counts in by_process]
            block = np.fromfile(source, np.float32, totals[rank()] * width).reshape(-1, width)
            columns = transpose(torch.from_numpy(block), totals)
            # From the order of the processes to that of the batches: round by round, and in each
            # round process by process.
            parts = iter(columns.split([count for counts in by_process for count in counts]))
            batches = [[next(parts) for _ in counts] for counts in by_process]
            for one_round in zip(*batches, strict=True):
                for part in one_round:
                    target.write(np.ascontiguousarray(part.numpy()).data)
    os.replace(transposed, path)


def _pieces(rows: Sequence[int], most: int) -> Iterator[list[list[int]]]:
    """Groups of rounds that are exchanged at once: about ``most`` rows of each process.

    A round lists the number of rows in each process's batch, 0 for a process that has none left.
    """
    piece: list[list[int]] = []
    for one_round in rounds(rows):
        if piece and sum(max(each) for each in piece) + max(one_round) > most:
            yield piece
            piece = []
        piece.append([*one_round] + [0] * (size() - len(one_round)))
    yield piece


def _reduce(tensors: Sequence[torch.Tensor], operation: Any) -> None:
    for tensor in tensors if size() > 1 else ():
        travelling = _wire(tensor)
        dist.all_reduce(travelling, operation)
        if travelling is not tensor:
            tensor.copy_(travelling)


def add_up(*tensors: torch.Tensor) -> None:
    """Replace each tensor by its sum over all processes, in place."""
    _reduce(tensors, dist.ReduceOp.SUM)


def lowest(*tensors: torch.Tensor) -> None:
    """Replace each number by the least that any process has in its place, in place."""
    _reduce(tensors, dist.ReduceOp.MIN)


def highest(*tensors: torch.Tensor) -> None:
    """Replace each number by the greatest that any process has in its place, in place."""
    _reduce(tensors, dist.ReduceOp.MAX)


def from_main(*tensors: torch.Tensor) -> None:
    """Replace each tensor by the main process's, in place."""
    for tensor in tensors if size() > 1 else ():
        travelling = _wire(tensor.detach())
        dist.broadcast(travelling, 0)
        if travelling.device != tensor.device:
            tensor.detach().copy_(travelling)


def told_by_main(value: Any, by: int = 0) -> Any:
    """The main process's value (or that of another one), which must be plain JSON.

    >>> told_by_main({"plan": "ready"})
    {'plan': 'ready'}
    """
    if size() == 1:
        return value
    text = json.dumps(value).encode() if rank() == by else b""
    length = _wire(torch.tensor([len(text)]))
    dist.broadcast(length, by)
    if rank() == by:
        letters = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    else:
        letters = torch.empty(int(length), dtype=torch.uint8)
    letters = _wire(letters)
    dist.broadcast(letters, by)
    return json.loads(bytes(letters.cpu().numpy()))


def any_of(*flags: bool) -> list[bool]:
    """For each flag, whether it is up on any of the processes.

    >>> any_of(True, False)
    [True, False]
    """
    numbers = torch.tensor([int(flag) for flag in flags])
    add_up(numbers)
    return [number > 0 for number in numbers.tolist()]


SHARED_ERRORS = {"ValueError": ValueError, "OSError": OSError}


@contextmanager
def together() -> Iterator[None]:
    """Work that may fail on one process alone, like writing a file: all wait here for all.

    If a process raised an exception, all raise: the others would wait for it for ever. Each raises
    the message of the first; errors other than ValueError and OSError become a RuntimeError.
    Inside the block, nothing may be sent to other processes or waited for.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as raised:
        if size() == 1:
            raise
        error = raised
    failed = torch.zeros(size())
    failed[rank()] = error is not None
    add_up(failed)
    if not failed.any():
        return
    first = int(failed.argmax())
    kind = next((n for n, k in SHARED_ERRORS.items() if isinstance(error, k)), "RuntimeError")
    kind, line = told_by_main([kind, str(error) or type(error).__name__], by=first)
    raise error or SHARED_ERRORS.get(kind, RuntimeError)(line)


def by_main(work: Callable[[], Any]) -> Any:
    """What the main process gets from ``work``, plain JSON, told to all: reading or writing files.

    The others wait until it has ended, so that they find what it wrote. If it raises, all raise.
    """
    result = None
    with together():
        if is_main():
            result = work()
    return told_by_main(result)


def first_to_fail() -> bool:
    """Whether this process is the first to ask. That one alone prints why the job failed."""
    if _store is None:
        return is_main()
    try:
        return _store.add("obce/failed", 1) == 1
    except RuntimeError:  # the process that keeps the store has ended, and said why
        return False
