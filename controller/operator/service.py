"""The operator's process: watches, election, worker threads, health; and their orderly end.

Everybody watches, so that a new leader knows the cluster at once; only the leader acts. A leader
that lost its Lease ends its process: nothing of it must go on acting.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator

import structlog

from controller.operator.act import Actor
from controller.operator.api import ApiError, Json, KubeApi
from controller.operator.config import OperatorConfig
from controller.operator.drop_metrics import folder_samples
from controller.operator.drops import DropFolders
from controller.operator.engine import Engine
from controller.operator.job_metrics import failed_pod_samples, job_samples, phase_samples
from controller.operator.leader import RETRY_S, Elector
from controller.operator.names import SELECTOR
from controller.operator.read import owner_of
from controller.operator.runs import Runs
from controller.operator.telling import Pace
from controller.operator.watch import watch
from controller.operator.workqueue import WorkQueue
from controller.operator.world import Key, World
from neva.errors import ConfigError
from neva.http_server import Answer, HttpServer
from neva.metrics import of_operator
from neva.metrics.base import Exporter, Sample
from neva.metrics.export import PodSums, metrics_text
from neva.reasons import Reason

log = structlog.get_logger()

NUM_THREADS = 4
NUM_DROP_THREADS = 2
# Watches tell everything but what vanished while one was broken; a listing tells that.
RESYNC_S = 600.0


class LeadershipLost(ConfigError):
    """Another operator may be at work by now."""

    reason = Reason.LEASE_LOST


class Service:
    """One operator process."""

    def __init__(self, config: OperatorConfig, api: KubeApi, runs: Runs) -> None:
        self._config = config
        self._api = api
        self._queue: WorkQueue[Key] = WorkQueue()
        self.world = World(self._job_changed)
        self._drops = DropFolders(api, self.world)
        actor = Actor(api, self.world, runs, config)
        pace = Pace(status_s=config.status_interval_seconds, look_s=config.step_interval_seconds)
        self._engine = Engine(api, self.world, runs, actor, self._queue, pace)
        election = config.leader_election
        identity = f"{os.uname().nodename}-{uuid.uuid4().hex[:8]}"
        self._elector = (
            Elector(
                api,
                election.lease_namespace,
                election.lease_name,
                identity,
                clock=time.monotonic,
                wall=time.time,
            )
            if election.enabled
            else None
        )
        self._sums = PodSums()
        self._watching = asyncio.Event()
        self._leading = threading.Event()
        self._stopping = threading.Event()
        self._lost = False

    def run(self) -> None:
        """Work until SIGTERM or SIGINT.

        Raises:
            ConfigError: the cluster does not have our resource definitions.
            LeadershipLost: start again.
        """
        self._check_cluster()
        asyncio.run(self._run())
        if self._lost:
            raise LeadershipLost("the lease is lost; this process ends")

    def _check_cluster(self) -> None:
        namespace = next(iter(self._config.namespaces), None)
        try:
            for body in self._api.list_jobs(namespace):
                self.world.put_job(body)
        except ApiError as error:
            if error.status == 404:
                raise ConfigError(
                    "the cluster has no VideoNevaJobs: install the resource definitions first"
                ) from error
            raise

    async def _run(self) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop.set)
        servers = [
            HttpServer(
                self._config.health_port, {"/healthz": self._health, "/readyz": self._ready}
            ),
            HttpServer(self._config.metrics_port, {"/metrics": self._metrics}),
        ]
        for server in servers:
            server.start()
        on_end = lambda: loop.call_soon_threadsafe(stop.set)  # noqa: E731
        threads = [
            threading.Thread(target=self._elect, args=(on_end,), name="election", daemon=True),
            threading.Thread(target=self._resync, name="resync", daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            await watch(
                self.world,
                self._drops.put,
                namespaces=self._config.namespaces,
                kueue=self._config.cluster.kueue,
                stop=stop,
                ready=self._watching,
            )
        finally:
            self._stopping.set()
            self._queue.close()
            self._drops.close()
            if self._elector is not None and not self._lost:
                self._elector.release()
            for server in servers:
                server.stop()

    # Threads

    def _elect(self, on_end: Callable[[], None]) -> None:
        """Get and keep the Lease. Whatever ends this, an error too, ends the acting with it."""
        if self._elector is None:
            self._lead()
            return
        try:
            while not self._stopping.is_set():
                leading = self._elector.step()
                if leading and not self._leading.is_set():
                    self._lead()
                elif not leading and self._leading.is_set():
                    return
                self._stopping.wait(RETRY_S)
        finally:
            if not self._stopping.is_set():
                log.error("the lease is lost")
                self._lost = True
                self._queue.close()
                self._drops.close()
                on_end()

    def _lead(self) -> None:
        log.info("leading")
        self._leading.set()
        for number in range(NUM_THREADS):
            name = f"reconcile-{number}"
            threading.Thread(target=self._engine.serve, name=name, daemon=True).start()
        for number in range(NUM_DROP_THREADS):
            name = f"drops-{number}"
            threading.Thread(target=self._drops.serve, name=name, daemon=True).start()

    def _resync(self) -> None:
        while not self._stopping.wait(RESYNC_S):
            try:
                self.resync()
            except ApiError as error:
                log.warning("no resync", error=error.message)

    def resync(self) -> None:
        """Forget what a listing does not have: its deletion was missed."""
        namespaces: list[str | None] = [*self._config.namespaces] or [None]
        for kind, listing in (
            ("children", self._api.list_children),
            ("pods", self._api.list_pods),
        ):
            held = self.world.held(kind)
            there = set[tuple[Key, str]]()
            for namespace in namespaces:
                there |= _names(listing(namespace, SELECTOR))
            for key, name in held - there:
                self.world.drop(kind, key, name)
        held_jobs, held_folders = self.world.held_jobs(), self._drops.held()
        jobs = set[Key]()
        for namespace in namespaces:
            for body in self._api.list_jobs(namespace):
                jobs.add((body["metadata"]["namespace"], body["metadata"]["name"]))
        for key in held_jobs - jobs:
            self.world.drop_job(key)
            self._job_changed(key)
        folders = set[Key]()
        for namespace in namespaces:
            for body in self._api.list_drop_folders(namespace):
                folders.add((body["metadata"]["namespace"], body["metadata"]["name"]))
        self._drops.drop_all_but(folders, held_folders)

    def _job_changed(self, key: Key) -> None:
        self._queue.add(key)
        self._drops.job_changed(key)

    # Pages

    def _health(self) -> Answer:
        return 200, "ok\n"

    def _ready(self) -> Answer:
        if not self._watching.is_set():
            return 503, "not watching yet\n"
        return 200, "leading\n" if self._leading.is_set() else "standing by\n"

    def _metrics(self) -> Answer:
        return 200, metrics_text(Exporter.OPERATOR, [*self._sums(), *self._samples()])

    def _samples(self) -> Iterator[Sample]:
        counters, jobs = self._engine.counters, self.world.job_bodies()
        leading = self._leading.is_set()
        yield Sample(of_operator.OPERATOR_LEADING, leading)
        yield Sample(of_operator.OPERATOR_QUEUE, len(self._queue))
        yield Sample(of_operator.OPERATOR_TURNS, counters.reconciles)
        yield Sample(of_operator.OPERATOR_ERRORS, counters.errors)
        yield Sample(of_operator.OPERATOR_SECONDS, counters.seconds)
        yield from phase_samples(jobs)
        if leading:
            yield from job_samples(jobs, self._engine.looks(), time.time())
            yield from failed_pod_samples(self.world.pod_bodies())
        yield from folder_samples(self._drops.figures())


def _names(bodies: Iterable[Json]) -> set[tuple[Key, str]]:
    names = set()
    for body in bodies:
        if (key := owner_of(body)) is not None:
            names.add((key, body["metadata"]["name"]))
    return names
