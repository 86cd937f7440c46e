"""What stands in for `threading`, `time` and `os` in the heartbeat's module."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from tests.ledger_model.scheduler import Die, Scheduler, Task


def heartbeat_modules(scheduler: Scheduler) -> dict[str, SimpleNamespace]:
    """Module name → its stand-in, for `worker.heartbeat`."""

    class Event:
        def __init__(self) -> None:
            self._set = False

        def set(self) -> None:
            self._set = True

        def is_set(self) -> bool:
            return self._set

        def wait(self, timeout: float) -> bool:
            return scheduler.sleep(timeout, self.is_set)

    class Thread:
        def __init__(
            self, target: Callable[..., None], args: tuple[Any, ...], name: str, daemon: bool
        ) -> None:
            self._target = partial(target, *args)
            self._task: Task | None = None

        def start(self) -> None:
            process = scheduler.current
            assert process is not None
            # Its parent while it runs up to its first request is the thread that starts it.
            self._task = scheduler.start(process, self._target)

        def join(self) -> None:
            task = self._task
            assert task is not None
            scheduler.request("join", "", lambda: None, ready=lambda: task.done)

    def kill(pid: int, signal: int) -> None:
        def die() -> None:
            raise Die

        scheduler.request("kill", "", die)

    return {
        "threading": SimpleNamespace(Event=Event, Thread=Thread),
        "time": SimpleNamespace(monotonic=scheduler.clock),
        "os": SimpleNamespace(kill=kill, getpid=lambda: 0),
    }
