"""The operator's loop: takes a job's key, looks, plans, acts, comes back when the plan says.

Nothing here decides. What it remembers of a job (the last look at its run, refusals) can be thrown
away at any moment and is seen again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import redis
import structlog

from controller.operator.act import Actor, Stale
from controller.operator.actions import (
    Action,
    CreateChild,
    LookAtRun,
    LookForRefusals,
    TellEvent,
    WriteStatus,
)
from controller.operator.actions import Plan as Planned
from controller.operator.api import ApiError, KubeApi
from controller.operator.names import Role
from controller.operator.plan import plan
from controller.operator.read import refusal_of
from controller.operator.runs import Runs
from controller.operator.seen import Observed, RunSeen
from controller.operator.telling import Pace
from controller.operator.workqueue import WorkQueue
from controller.operator.world import Key, World
from neva.errors import NevaError

log = structlog.get_logger()

_MIN_LOOK_S = 0.5  # between two looks at one run, whatever the clocks say
_REFUSED = (400, 403, 404, 422)  # of a child: trying again alone will not help


@dataclass(slots=True)
class _Memory:
    """What is remembered of one job."""

    uid: str
    run: RunSeen | None = None
    refusals: dict[str, str] = field(default_factory=dict)
    refusals_asked: dict[str, tuple[float, int]] = field(default_factory=dict)
    status_written_s: float | None = None
    creation_refused: dict[Role, str] = field(default_factory=dict)


@dataclass(slots=True)
class Counters:
    """For the metrics."""

    reconciles: int = 0
    errors: int = 0
    seconds: float = 0.0


class Engine:
    """Looks after every job in `world`. `process` is one turn; threads call it in a loop."""

    def __init__(
        self,
        api: KubeApi,
        world: World,
        runs: Runs,
        actor: Actor,
        queue: WorkQueue[Key],
        pace: Pace,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._world = world
        self._runs = runs
        self._actor = actor
        self._queue = queue
        self._pace = pace
        self._clock = clock
        self._memory: dict[Key, _Memory] = {}
        self._lock = threading.Lock()
        self.counters = Counters()

    def serve(self) -> None:
        """Work until the queue is closed."""
        while (key := self._queue.take()) is not None:
            started_s = time.perf_counter()
            try:
                self.process(key)
            except Exception as error:  # one job's fault must not end the others'
                self.counters.errors += 1
                log.exception("reconcile failed", job="/".join(key), error=str(error))
                self._queue.add_failed(key)
            finally:
                self._queue.done(key)
            self.counters.reconciles += 1
            self.counters.seconds += time.perf_counter() - started_s

    def process(self, key: Key) -> None:
        """Look at one job, plan, act, and have it looked at again when that is due."""
        view = self._world.view(key)
        if view is None:
            self._forget(key)
            return
        job, children, pods, workloads = view
        memory = self._memory_of(key, job.uid)
        seen = Observed(
            now_s=self._clock(),
            job=job,
            children=children,
            pods=pods,
            workloads=workloads,
            run=memory.run,
            refusals=dict(memory.refusals),
            refusals_asked=dict(memory.refusals_asked),
            status_written_s=memory.status_written_s,
            creation_refused=dict(memory.creation_refused),
        )
        planned = plan(seen, self._pace)
        if self._act(key, seen, planned, memory):
            self._queue.forget_failures(key)
            if planned.again_in_s is not None:
                self._queue.add(key, planned.again_in_s)

    def _act(self, key: Key, seen: Observed, planned: Planned, memory: _Memory) -> bool:
        """Whether everything was done. The first thing that fails ends the turn."""
        for action in planned.actions:
            try:
                self._do(key, action, seen, memory)
            except Stale as stale:
                log.info("look again", job="/".join(key), why=stale.message)
                self._queue.add_failed(key)
                return False
            except (NevaError, redis.RedisError) as error:
                log.warning("not done", job="/".join(key), action=str(action), error=str(error))
                if (
                    isinstance(action, CreateChild)
                    and isinstance(error, ApiError)
                    and error.status in _REFUSED
                ):
                    memory.creation_refused[action.role] = error.message
                self.counters.errors += 1
                self._queue.add_failed(key)
                return False
        return True

    def _do(self, key: Key, action: Action, seen: Observed, memory: _Memory) -> None:
        job, now_s = seen.job, seen.now_s
        match action:
            case LookAtRun(listing):
                self._look(key, seen, memory, listing)
            case LookForRefusals(name, uid):
                _, times = memory.refusals_asked.get(uid, (0.0, 0))
                memory.refusals_asked[uid] = (now_s, times + 1)
                refusal = refusal_of(list(self._api.list_events_of(job.namespace, uid)))
                if refusal is not None and refusal != memory.refusals.get(uid):
                    log.info("something is wrong", job="/".join(key), about=name, why=refusal)
                    memory.refusals[uid] = refusal
                    self._queue.add(key)
            case TellEvent():
                try:
                    self._actor.do(action, job, now_s)
                except ApiError as error:
                    # An event tells; nothing hangs on it.
                    log.warning("event not told", job="/".join(key), error=error.message)
            case _:
                self._actor.do(action, job, now_s)
                if isinstance(action, CreateChild):
                    memory.creation_refused.pop(action.role, None)
                if isinstance(action, WriteStatus):
                    memory.status_written_s = now_s

    def _look(self, key: Key, seen: Observed, memory: _Memory, listing: bool) -> None:
        job = seen.job
        if job.spec is None:
            return
        if memory.run is not None and 0 <= seen.now_s - memory.run.looked_s < _MIN_LOOK_S:
            self._queue.add(key, _MIN_LOOK_S)
            return
        run = self._runs.look(job.uid, job.spec.output.uri, listing=listing)
        ended = frozenset(child.uid for child in seen.children if child.ended)
        memory.run = replace(run, after=ended)
        self._queue.add(key)

    def looks(self) -> dict[Key, RunSeen]:
        """The last look at each run, for the metrics."""
        with self._lock:
            return {key: m.run for key, m in self._memory.items() if m.run is not None}

    def _memory_of(self, key: Key, uid: str) -> _Memory:
        with self._lock:
            memory = self._memory.get(key)
            if memory is not None and memory.uid == uid:
                return memory
            self._memory[key] = _Memory(uid)
        if memory is not None:
            self._runs.forget(memory.uid)
        return self._memory[key]

    def _forget(self, key: Key) -> None:
        with self._lock:
            memory = self._memory.pop(key, None)
        if memory is not None:
            self._runs.forget(memory.uid)
