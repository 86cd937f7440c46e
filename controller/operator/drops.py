"""The operator's drop folders: a queue of their own, so that a slow listing holds up no job.

Nothing here decides (`controller.drop.scan` does). What is remembered of a folder can be thrown
away at any moment: a drop's name says whether it has a job, its job's annotation whether its inputs
are taken care of, and a folder below outputBase that it ran, even where the job is long deleted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from controller.drop.manifest import ANNOTATION_TAKEN_CARE_OF, LABEL_FOLDER
from controller.operator.api import ApiError, KubeApi
from controller.operator.drop_care import phase_of
from controller.operator.drop_metrics import FolderFigures
from controller.operator.drop_turn import FolderMemory, Turn
from controller.operator.names import bounded
from controller.operator.workqueue import WorkQueue
from controller.operator.world import Key, World
from neva.conditions import Phase

log = structlog.get_logger()

Json = Mapping[str, Any]


class DropFolders:
    """All drop folders. Everybody knows them; only the leader calls `serve`.

    Args:
        clock: seconds since the epoch. monotonic: seconds that never go back.
    """

    def __init__(
        self,
        api: KubeApi,
        world: World,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._world = world
        self._clock = clock
        self._monotonic = monotonic
        self.queue: WorkQueue[Key] = WorkQueue(monotonic)
        self._lock = threading.Lock()
        self._bodies: dict[Key, Json] = {}
        self._memory: dict[Key, FolderMemory] = {}
        self._jobs: dict[Key, dict[str, Json]] = {}
        self._label_of_job: dict[Key, Key] = {}

    # What the watches tell

    def put(self, body: Json, *, deleted: bool = False) -> None:
        key = (body["metadata"]["namespace"], body["metadata"]["name"])
        with self._lock:
            held = self._bodies.get(key)
            if deleted:
                self._bodies.pop(key, None)
            else:
                self._bodies[key] = body
        same_spec = held is not None and not deleted and _identity(held) == _identity(body)
        if not same_spec:  # its status is our own doing
            self.queue.add(key)

    def held(self) -> set[Key]:
        with self._lock:
            return set(self._bodies)

    def drop_all_but(self, there: set[Key], held: set[Key]) -> None:
        """Forget those of `held` that a later listing did not have: their deletion was missed."""
        with self._lock:
            for key in held - there:
                self._bodies.pop(key, None)
        for key in held - there:
            self.queue.add(key)

    def job_changed(self, key: Key) -> None:
        """A job came, changed or went."""
        body = self._world.job_body(key)
        if body is None:
            with self._lock:
                labelled = self._label_of_job.pop(key, None)
                if labelled is not None:
                    self._jobs.get(labelled, {}).pop(key[1], None)
        else:
            labelled = self._index(body)
            if labelled is not None and not _ended_now(body):
                return
        if labelled is not None:
            self._wake(labelled)

    def replace_jobs(self, labelled: Key, bodies: list[Json]) -> None:
        """What the API server says now about the jobs of one folder."""
        with self._lock:
            for name in self._jobs.pop(labelled, {}):
                self._label_of_job.pop((labelled[0], name), None)
        for body in bodies:
            self._index(body)

    def put_job(self, body: Json) -> None:
        """What the API server answered to a write."""
        self._world.put_job(body)
        self._index(body)

    def jobs_of(self, labelled: Key) -> dict[str, Json]:
        with self._lock:
            return dict(self._jobs.get(labelled, {}))

    def _index(self, body: Json) -> Key | None:
        metadata = body["metadata"]
        label = (metadata.get("labels") or {}).get(LABEL_FOLDER)
        if label is None:
            return None
        labelled = (metadata["namespace"], label)
        with self._lock:
            self._jobs.setdefault(labelled, {})[metadata["name"]] = body
            self._label_of_job[(metadata["namespace"], metadata["name"])] = labelled
        return labelled

    def _wake(self, labelled: Key) -> None:
        with self._lock:
            keys = [k for k in self._bodies if (k[0], bounded(k[1])) == labelled]
        for key in keys:
            self.queue.add(key)

    # Work

    def serve(self) -> None:
        """Work until the queue is closed."""
        while (key := self.queue.take()) is not None:
            try:
                self.process(key)
            except Exception as error:  # one folder's fault must not end the others'
                log.exception("drop folder failed", folder="/".join(key), error=str(error))
                self.queue.add_failed(key)
            finally:
                self.queue.done(key)

    def process(self, key: Key) -> None:
        """Look at one folder, act, and have it looked at again when that is due."""
        with self._lock:
            body = self._bodies.get(key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            self._forget(key)
            return
        memory = self._memory_of(key, body)
        turn = Turn(self._api, self, body, memory, self._clock(), self._monotonic())
        try:
            again_s = turn.run(lambda: self.queue.add(key))
        except ApiError as error:
            log.warning("not done", folder="/".join(key), error=error.message)
            self.queue.add_failed(key)
            return
        if memory.failed:
            self.queue.add_failed(key)
            return
        self.queue.forget_failures(key)
        self.queue.add(key, again_s)

    def _memory_of(self, key: Key, body: Json) -> FolderMemory:
        with self._lock:
            memory = self._memory.get(key)
            if memory is None or memory.identity != _identity(body):
                if memory is not None:
                    memory.stop()
                memory = self._memory[key] = FolderMemory(_identity(body))
            return memory

    def _forget(self, key: Key) -> None:
        with self._lock:
            memory = self._memory.pop(key, None)
        if memory is not None:
            memory.stop()

    def figures(self) -> dict[Key, FolderFigures]:
        """What the metrics tell of every folder that this process looks at."""
        with self._lock:
            memories = dict(self._memory)
            bodies = dict(self._bodies)
            jobs = {labelled: list(bodies.values()) for labelled, bodies in self._jobs.items()}
        return {
            key: FolderFigures(
                seen=memory.num_seen,
                settling=memory.num_settling,
                waiting=memory.num_waiting,
                refused=len(memory.refused),
                started=memory.num_started,
                phases=[phase_of(job) for job in jobs.get((key[0], bounded(key[1])), [])],
                polled_s=memory.scanned_s,
                failing=memory.failed,
                conditions=_conditions(bodies.get(key) or {}),
            )
            for key, memory in memories.items()
        }

    def close(self) -> None:
        self.queue.close()
        with self._lock:
            memories, self._memory = self._memory, {}
        for memory in memories.values():
            memory.stop()


def _conditions(body: Json) -> list[tuple[str, str, str]]:
    said = (body.get("status") or {}).get("conditions") or []
    return [(one["type"], one["status"], one["reason"]) for one in said]


def _identity(body: Json) -> tuple[str, int]:
    return body["metadata"]["uid"], body["metadata"].get("generation", 1)


def _ended_now(body: Json) -> bool:
    """Whether a job ended and its inputs still lie where they were."""
    phase = (body.get("status") or {}).get("phase")
    annotations = body["metadata"].get("annotations") or {}
    return phase in (Phase.SUCCEEDED, Phase.FAILED) and ANNOTATION_TAKEN_CARE_OF not in annotations
