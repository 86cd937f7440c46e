"""The operator's engine against a real HTTP API, with the pods' work played and time at will.

What the watches would tell comes from listings, so that a test says when it is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import kubernetes

from controller.operator.act import Actor
from controller.operator.api import ClientTransport, Json, KubeApi
from controller.operator.config import OperatorConfig
from controller.operator.engine import Engine
from controller.operator.names import LABEL_ROLE, SELECTOR
from controller.operator.seen import RunSeen
from controller.operator.telling import Pace
from controller.operator.workqueue import WorkQueue
from controller.operator.world import Key, World

CONFIG = OperatorConfig.model_validate(
    {
        "workerImage": "worker",
        "controllerImage": "controller",
        "redis": {"secretName": "broker"},
        "storage": {"secretName": "storage"},
    }
)
NUM_SHARDS = 3


class Killed(BaseException):
    """The operator's process dies here."""


@dataclass
class Truth:
    """What really is in ledger and queue."""

    manifest: bool = False
    shards_done: int = 0
    merged: bool = False
    num_purges: int = 0


class PlayedRuns:
    """`Runs` over a Truth."""

    def __init__(self, truth: Truth, clock: Callable[[], float]) -> None:
        self._truth = truth
        self._clock = clock

    def look(self, uid: str, output_uri: str, *, listing: bool) -> RunSeen:
        truth = self._truth
        if not truth.manifest:
            return RunSeen(self._clock())
        return RunSeen(
            looked_s=self._clock(),
            run_id="run",
            num_rows=30,
            num_done=10 * truth.shards_done,
            num_shards=NUM_SHARDS,
            num_shards_done=truth.shards_done,
            summary={"answered": 30, "rows": 30, "judge": None} if truth.merged else None,
        )

    def start_round(self, run_id: str) -> None:
        pass

    def purge(self, run_id: str) -> None:
        self._truth.num_purges += 1

    def forget(self, uid: str) -> None:
        pass


class CountingTransport:
    """Counts writes, and dies at the one it is told to."""

    def __init__(self, transport: ClientTransport) -> None:
        self._transport = transport
        self.num_requests = 0
        self.num_writes = 0
        self.die_before: int | None = None
        self.die_after: int | None = None

    def __call__(self, method: str, path: str, body: Json | None, content_type: str | None) -> Json:
        self.num_requests += 1
        if method == "GET":
            return self._transport(method, path, body, content_type)
        self.num_writes += 1
        if self.num_writes == self.die_before:
            raise Killed
        answer = self._transport(method, path, body, content_type)
        if self.num_writes == self.die_after:
            raise Killed
        return answer


class PlayedOperator:
    """One process of an operator. A new one knows nothing of the last."""

    def __init__(
        self, transport: CountingTransport, truth: Truth, clock: Callable[[], float], key: Key
    ) -> None:
        self._key = key
        self._api = KubeApi(transport)
        self._queue: WorkQueue[Key] = WorkQueue()
        self.world = World(lambda key: None)
        runs = PlayedRuns(truth, clock)
        actor = Actor(self._api, self.world, runs, CONFIG)
        self.engine = Engine(self._api, self.world, runs, actor, self._queue, Pace(), clock)

    def turn(self) -> None:
        """See everything as it is now, and take one turn."""
        namespace = self._key[0]
        jobs = list(self._api.list_jobs(namespace))
        for body in jobs:
            self.world.put_job(body)
        if not jobs:
            self.world.drop_job(self._key)
        self.world.replace_children(self._key, self._api.list_children(namespace, SELECTOR))
        self.world.replace_pods(self._key, self._api.list_pods(namespace, SELECTOR))
        self.engine.process(self._key)


class Cluster:
    """The other side: a user, the Job controller and the pods, played over the same API."""

    def __init__(self, client: kubernetes.client.ApiClient, namespace: str, truth: Truth) -> None:
        self._batch = kubernetes.client.BatchV1Api(client)
        self._client = client
        self.namespace = namespace
        self.truth = truth
        self.most_unfinished_workers = 0

    def children(self) -> list[Json]:
        found = self._batch.list_namespaced_job(self.namespace)
        return list(self._client.sanitize_for_serialization(found)["items"])

    def watch_over(self) -> None:
        """Remember how many worker Jobs were unfinished at once."""
        unfinished = [j for j in self.children() if _role(j) == "worker" and not _ended(j)]
        self.most_unfinished_workers = max(self.most_unfinished_workers, len(unfinished))

    def advance(self) -> None:
        """Every unfinished Job does its work and completes; a worker Job does one shard."""
        for job in self.children():
            if _ended(job):
                continue
            role = _role(job)
            if role == "prepare":
                self.truth.manifest = True
            elif role == "finish":
                self.truth.merged = True
            elif self.truth.shards_done < NUM_SHARDS:
                self.truth.shards_done += 1
            self._complete(job["metadata"]["name"])

    def _complete(self, name: str) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        kinds = ("SuccessCriteriaMet", "Complete")
        conditions = [{"type": k, "status": "True", "lastTransitionTime": now} for k in kinds]
        status: dict[str, Any] = {
            "conditions": conditions,
            "startTime": now,
            "completionTime": now,
            "succeeded": 1,
        }
        self._batch.patch_namespaced_job_status(name, self.namespace, {"status": status})


def _role(job: Json) -> str:
    return str(job["metadata"]["labels"][LABEL_ROLE])


def _ended(job: Json) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)
