"""Threads for NumPy's work: as many as torch has, started once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def on_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """The results of ``work`` for all items, in order.

    NumPy releases the interpreter's lock in its loops, so that plain threads share the cores. A
    single item, or any number where torch has one thread, is worked on in the calling thread.
    ``work`` must not call this function: it would wait for itself.

    >>> on_threads(len, ["a", "bcd"])
    [1, 3]
    """
    threads = torch.get_num_threads()
    if threads == 1 or len(items) < 2:
        return [work(item) for item in items]
    return list(_pool(threads).map(work, items))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Started once: it is used too often to start threads each time."""
    return ThreadPoolExecutor(threads, thread_name_prefix="obce")


if hasattr(os, "register_at_fork"):  # threads do not survive in a forked process
    os.register_at_fork(after_in_child=_pool.cache_clear)
