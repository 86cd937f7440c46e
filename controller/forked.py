"""Spreads pure work over the processor's cores. Python computes on one at a time."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing.process import BaseProcess
from typing import BinaryIO, TypeVar

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
    with ExitStack() as stack:
        children = []
        for task in tasks[:-1]:
            answer = stack.enter_context(tempfile.TemporaryFile())
            child = context.Process(target=_run, args=(task, answer, os.getpid()), daemon=True)
            child.start()
            stack.callback(_end, child)
            children.append((child, answer))
        last = [task() for task in tasks[-1:]]
        return [_result_of(child, answer) for child, answer in children] + last


def _run(task: Callable[[], T], answer: BinaryIO, parent: int) -> None:
    die_with_parent(parent)
    # The parent's handlers would say that a user broke it off; the parent ends this one quietly.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        result: tuple[T | None, Exception | None] = (task(), None)
    except (NevaError, OSError) as error:  # raised again in the parent
        result = (None, error)
    except Exception as error:  # noqa: BLE001  (a bug; the error itself may not survive pickling)
        result = (None, NevaError(f"a child process failed: {error!r}"))
    # A file, because results are large: through a pipe two processes would wait for each other.
    pickle.dump(result, answer, pickle.HIGHEST_PROTOCOL)
    answer.flush()


def _result_of(child: BaseProcess, answer: BinaryIO) -> T:  # type: ignore[type-var]
    child.join()
    if child.exitcode != 0:
        raise NevaError("a child process died", retryable=True)
    answer.seek(0)
    result, error = pickle.load(answer)  # our own child's
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def _end(child: BaseProcess) -> None:
    child.terminate()
    child.join()
