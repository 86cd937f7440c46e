"""Runs the real code of several processes in one thread, one request at a time.

A process is one greenlet per thread it would have. It runs until it asks a store, a broker or a
clock for something, and stays there until the test lets this very request go on, fail, get lost,
land later, or kills the process at it. Nothing else decides the order, so that a run is repeated
by repeating the test's decisions. Time stands still except where the test moves it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from greenlet import getcurrent, greenlet

TICK_S = 0.02
"""What one request takes."""


class Killed(BaseException):
    """SIGKILL: raised where a process stands. What it still asks for in `finally` is not done."""


class Die(BaseException):
    """Raised by a request's effect: it kills who asked."""


class Fate(Enum):
    """What becomes of a request."""

    DONE = "done"
    REFUSED = "refused"  # not done, and an error comes
    LOST = "lost"  # done, but an error comes instead of the answer
    RETRIED = (
        "retried"  # done, the answer was lost, the client asked again: the second answer comes
    )
    LATE = "late"  # an error comes, and it is done later


@dataclass(slots=True)
class Request:
    """What a thread waits for."""

    verb: str
    key: str
    effect: Callable[[], Any]
    error: Callable[[], Exception] | None = None  # None: can't fail
    ready: Callable[[], bool] = lambda: True
    process: Process | None = None


@dataclass(slots=True, eq=False)
class Task:
    """A thread of a process."""

    process: Process
    code: greenlet
    pending: Request | None = None

    @property
    def done(self) -> bool:
        return self.code.dead

    @property
    def ready(self) -> bool:
        return self.pending is not None and not self.done and self.pending.ready()


@dataclass(slots=True, eq=False)
class Process:
    """A worker's child or a controller.

    Attributes:
        skew_s: its clock minus the scheduler's.
        disturbed: a request of it failed since it started.
    """

    name: str
    skew_s: float
    tasks: list[Task] = field(default_factory=list)
    alive: bool = True
    disturbed: bool = False

    @property
    def running(self) -> bool:
        return any(not task.done for task in self.tasks)

    def next_task(self) -> Task | None:
        """The main thread if it can go on, else another."""
        return next((task for task in self.tasks if task.ready), None)


class Scheduler:
    """All processes and the time.

    Attributes:
        late: requests that are still on their way, whoever made them.
        before_kill: told of a process that is about to be killed.
        answered: told of an answer that reaches a process, with the request's verb and key.
        asking: whose request is being done.
        crashes: errors that nobody caught, by process name.
    """

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.late: list[Request] = []
        self.crashes: list[tuple[str, Exception]] = []
        self.before_kill: Callable[[Process], None] = lambda process: None
        self.answered: Callable[[Process, str, str, Any], None] = lambda *_: None
        self.asking: Process | None = None
        self._tasks: dict[greenlet, Task] = {}

    def start(self, process: Process, function: Callable[[], None]) -> Task:
        """A new thread, which runs up to its first request."""

        def main() -> None:
            try:
                function()
            except Killed:
                pass
            except Exception as error:  # noqa: BLE001 - a bug in what is tested, told by the test
                self.crashes.append((process.name, error))

        task = Task(process, greenlet(main))
        self._tasks[task.code] = task
        process.tasks.append(task)
        self._resume(task, task.code.switch)
        return task

    @property
    def current(self) -> Process | None:
        task = self._tasks.get(getcurrent())
        return task.process if task is not None else None

    def clock(self) -> float:
        """The clock of the process that asks."""
        return self.now_s + (self.current.skew_s if self.current is not None else 0.0)

    # Called by processes

    def request(
        self,
        verb: str,
        key: str,
        effect: Callable[[], Any],
        error: Callable[[], Exception] | None = None,
        ready: Callable[[], bool] = lambda: True,
    ) -> Any:
        task = self._tasks.get(getcurrent())
        if task is None:
            return effect()  # the test itself looks
        if not task.process.alive:
            raise Killed
        task.pending = Request(verb, key, effect, error, ready, task.process)
        try:
            return getcurrent().parent.switch()  # type: ignore[union-attr]
        finally:
            task.pending = None

    def sleep(self, seconds: float, is_over: Callable[[], bool] = lambda: False) -> bool:
        """Wait; True when `is_over` ended it."""
        due_s = self.now_s + seconds
        return bool(
            self.request("sleep", "", is_over, ready=lambda: is_over() or self.now_s >= due_s)
        )

    # Called by the test

    def step(self, task: Task, fate: Fate = Fate.DONE) -> None:
        """Decide the request that `task` waits for, and run it up to its next one."""
        request = task.pending
        assert request is not None
        assert task.ready
        self.now_s += TICK_S
        if request.error is None:
            fate = Fate.DONE
        task.process.disturbed |= fate is not Fate.DONE
        if fate is Fate.LATE:
            self.late.append(request)
        if fate in (Fate.LATE, Fate.REFUSED):
            self._throw(task, request.error() if request.error else Die())
            return
        try:
            answer = self._do(request)
            if fate is Fate.RETRIED:
                answer = self._do(request)
        except Die:
            self.kill(task.process)
        except Exception as error:  # noqa: BLE001 - goes where it belongs
            self._throw(task, error)
        else:
            if fate is Fate.LOST and request.error is not None:
                self._throw(task, request.error())
            else:
                self.answered(task.process, request.verb, request.key, answer)
                self._resume(task, lambda: task.code.switch(answer))

    def _do(self, request: Request) -> Any:
        self.asking = request.process
        try:
            return request.effect()
        finally:
            self.asking = None

    def land(self, request: Request) -> None:
        """A late request is done. Nobody waits for its answer."""
        self.late.remove(request)
        with suppress(Exception):  # it may come too late, and be refused
            self._do(request)

    def kill(self, process: Process) -> None:
        self.before_kill(process)
        process.alive = False
        for task in process.tasks:
            if not task.done:
                self._throw(task, Killed())

    def _throw(self, task: Task, error: BaseException) -> None:
        self._resume(task, lambda: task.code.throw(error))

    def _resume(self, task: Task, go: Callable[[], Any]) -> None:
        task.code.parent = getcurrent()
        go()
        if task.code.dead:
            self._tasks.pop(task.code, None)
