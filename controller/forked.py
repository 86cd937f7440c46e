"""Spreads pure work over the processor's cores. Python computes on one at a time."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import TypeVar

from neva.errors import NevaError
from neva.process import die_with_parent

T = TypeVar("T")

MAX_PROCESSES = 2
"""More would share what is in memory, too, but a pod's memory is counted for each."""


def num_processes() -> int:
    """Processes that can compute at the same time here."""
    return min(MAX_PROCESSES, len(os.sched_getaffinity(0)))


def run_all(tasks: Sequence[Callable[[], T]], processes: int = MAX_PROCESSES) -> list[T]:
    """The tasks' results: the last one runs here, each other one in a forked child.

    A task must not use threads that are there already; its result is pickled. The first error is
    raised here, when all are done.

    Args:
        processes: 1 runs one task after the other, here.
    """
    if processes == 1:
        return [task() for task in tasks]
    context = multiprocessing.get_context("fork")
    children = []
    for task in tasks[:-1]:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_run, args=(task, theirs, os.getpid()), daemon=True)
        child.start()
        theirs.close()
        children.append((child, ours))
    try:
        last = [task() for task in tasks[-1:]]
        return [_result_of(ours) for _, ours in children] + last
    finally:
        for child, ours in children:
            ours.close()
            child.terminate()
            child.join()


def _run(task: Callable[[], T], answer: Connection, parent: int) -> None:
    die_with_parent(parent)
    try:
        result: tuple[T | None, Exception | None] = (task(), None)
    except (NevaError, OSError) as error:  # raised again in the parent; all else is told there
        result = (None, error)
    answer.send(result)
    answer.close()


def _result_of(ours: Connection) -> T:  # type: ignore[type-var]
    try:
        result, error = ours.recv()
    except EOFError:
        raise NevaError("a child process died", retryable=True) from None
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]
