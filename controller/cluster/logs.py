"""The logs of a job's pods: all containers, each line with its pod's name."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from controller.cluster.jobs import UsersCluster
from controller.operator.names import LABEL_JOB
from neva.conditions import Phase
from neva.errors import ConfigError
from neva.kube import ApiError, Json
from neva.reasons import Reason
from neva.targets import JobOnCluster

_POLL_S = 2.0
_BAD_REQUEST, _NOT_FOUND = 400, 404


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines: no older ones, and of each container the last ones only; None: all."""

    since_s: float | None = None
    tail: int | None = None


@dataclass(frozen=True, slots=True)
class Container:
    """One container of one pod."""

    namespace: str
    pod: str
    name: str

    def path(self, wanted: Wanted, *, follow: bool) -> str:
        query: dict[str, Any] = {"container": self.name}
        if follow:
            query["follow"] = "true"
        if wanted.since_s is not None:
            query["sinceSeconds"] = max(1, math.ceil(wanted.since_s))
        if wanted.tail is not None:
            query["tailLines"] = wanted.tail
        where = f"/api/v1/namespaces/{quote(self.namespace)}/pods/{quote(self.pod)}/log"
        return f"{where}?{urlencode(query)}"


class PodLogs:
    """Prints the logs of one job.

    Args:
        say: prints a container's line; called from several threads when logs are followed.
            BrokenPipeError when nobody reads any more.
    """

    def __init__(
        self,
        cluster: UsersCluster,
        job: JobOnCluster,
        wanted: Wanted,
        say: Callable[[Container, str], None],
    ) -> None:
        self._cluster = cluster
        self._job = job
        self._wanted = wanted
        self._say = say
        self._begun: dict[Container, threading.Thread] = {}
        self._problem: ApiError | BrokenPipeError | None = None
        # The job's end, or a problem: what has not begun never will.
        self._over = threading.Event()

    def print_all(self, *, follow: bool) -> None:
        """Print what there is; with `follow` what comes, from new pods, too, until the job ends.

        Raises:
            ConfigError: there is no such job, or it has no pods (any more).
            ApiError: the cluster can't be asked, or refuses.
            BrokenPipeError: nobody reads what is printed.
        """
        body = self._cluster.job(self._job)
        namespace = body["metadata"]["namespace"]
        if follow:
            self._follow(namespace)
            return
        containers = self._containers(namespace)
        if not containers:
            phase = (body.get("status") or {}).get("phase", Phase.PENDING.value)
            raise ConfigError(
                f"{self._job.words} ({phase}) has no pods, or none any more: their logs go with "
                "them; `neva status` tells why a job failed",
                reason=Reason.OBJECT_NOT_FOUND,
            )
        for container in containers:
            self._print(container, follow=False)
        if self._problem is not None:
            raise self._problem

    def _containers(self, namespace: str) -> list[Container]:
        """In the order in which the pods were made."""
        pods = list(self._cluster.api.list_pods(namespace, f"{LABEL_JOB}={self._job.name}"))
        pods.sort(key=lambda pod: pod["metadata"].get("creationTimestamp", ""))
        return [
            Container(namespace, pod["metadata"]["name"], name)
            for pod in pods
            for name in _names(pod)
        ]

    def _follow(self, namespace: str) -> None:
        while self._problem is None:
            try:
                body = self._cluster.job(self._job)
                containers = self._containers(namespace)
            except ApiError as error:
                if not error.retryable:
                    raise
                self._over.wait(_POLL_S)
                continue
            except ConfigError:
                break  # deleted: its pods are going, too
            for container in containers:
                if container not in self._begun:
                    self._begin(container)
            if Phase((body.get("status") or {}).get("phase", Phase.PENDING)).is_final:
                break
            self._over.wait(_POLL_S)
        self._over.set()
        for thread in self._begun.values():
            while thread.is_alive() and self._problem is None:
                thread.join(_POLL_S)
        if self._problem is not None:
            raise self._problem

    def _begin(self, container: Container) -> None:
        # Daemons: Ctrl-C does not wait for a container that says nothing.
        thread = threading.Thread(
            target=self._print, args=(container,), kwargs={"follow": True}, daemon=True
        )
        self._begun[container] = thread
        thread.start()

    def _print(self, container: Container, *, follow: bool) -> None:
        wanted = self._wanted
        while True:
            try:
                for line in self._cluster.transport.stream(container.path(wanted, follow=follow)):
                    if self._problem is not None:
                        return
                    self._say(container, line.decode(errors="replace").rstrip("\r"))
                return
            except BrokenPipeError as error:
                self._stop(error)
                return
            except ApiError as error:
                if error.status == _NOT_FOUND:  # the pod is gone
                    return
                if error.status == _BAD_REQUEST:  # not started, and perhaps never will be
                    if not follow or self._over.is_set():
                        return
                elif not (follow and error.retryable):
                    self._stop(error)
                    return
                else:
                    # Broken off: on from here. A line of the last second may come twice.
                    wanted = Wanted(_POLL_S + 1)
            self._over.wait(_POLL_S)

    def _stop(self, problem: ApiError | BrokenPipeError) -> None:
        """Wake who waits: a thread's error is nobody's but its own."""
        self._problem = problem
        self._over.set()


def _names(pod: Json) -> list[str]:
    spec = pod["spec"]
    kinds = ("initContainers", "containers")
    return [container["name"] for kind in kinds for container in spec.get(kind) or ()]
