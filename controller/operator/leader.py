"""Which of several operators works: the one that holds a Lease, as client-go's election does it.

A Lease that did not change for its duration, by the watcher's own clock, is free; clocks of two
machines are never compared. A leader that could not renew for the deadline, which is shorter than
the duration, stops before anybody else may start.
https://kubernetes.io/docs/concepts/architecture/leases/
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from controller.operator.api import ApiError, Json, KubeApi

log = structlog.get_logger()

DURATION_S = 30.0
RENEW_DEADLINE_S = 20.0
RETRY_S = 10.0  # one request each


class Elector:
    """One candidate. Call `step` every RETRY_S.

    Args:
        clock: monotonic seconds. wall: seconds since the epoch, only written for people.
    """

    def __init__(
        self,
        api: KubeApi,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._wall = wall
        self._lease: Json | None = None
        self._changed_s = 0.0
        self._renewed_s: float | None = None

    @property
    def leading(self) -> bool:
        """Whether the Lease is surely ours still."""
        if self._renewed_s is None:
            return False
        return self._clock() - self._renewed_s < RENEW_DEADLINE_S

    def step(self) -> bool:
        """Renew the Lease, or try to get it. API errors are told and are no renewal."""
        try:
            if self._renewed_s is not None and self._lease is not None:
                self._renew(self._lease)
            else:
                self._try_to_get()
        except ApiError as error:
            log.warning("lease", error=error.message, status=error.status)
            if error.status == 409:
                self._renewed_s = self._lease = None  # somebody else wrote it
        if not self.leading:
            self._renewed_s = None
        return self.leading

    def release(self) -> None:
        """Let the next one start at once."""
        if self._renewed_s is None or self._lease is None:
            return
        self._renewed_s = None
        try:
            self._api.replace_lease(self._with_spec(self._lease, holder="", duration_s=1))
        except ApiError as error:
            log.warning("lease not released", error=error.message)

    def _renew(self, lease: Json) -> None:
        asked_s = self._clock()
        self._lease = self._api.replace_lease(self._with_spec(lease, self._identity))
        self._renewed_s = asked_s

    def _try_to_get(self) -> None:
        asked_s = self._clock()
        lease = self._api.get_lease(self._namespace, self._name)
        if lease is None:
            metadata = {"name": self._name, "namespace": self._namespace}
            new = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
            self._lease = self._api.create_lease(self._with_spec(new, self._identity))
            self._renewed_s = asked_s
            return
        version = lease["metadata"]["resourceVersion"]
        if self._lease is None or self._lease["metadata"]["resourceVersion"] != version:
            self._lease, self._changed_s = lease, asked_s
        spec = lease.get("spec") or {}
        duration_s = spec.get("leaseDurationSeconds") or DURATION_S
        free = not spec.get("holderIdentity") or spec["holderIdentity"] == self._identity
        if free or asked_s - self._changed_s >= duration_s:
            self._lease = self._api.replace_lease(self._with_spec(lease, self._identity))
            self._renewed_s = asked_s

    def _with_spec(self, lease: Json, holder: str, duration_s: float = DURATION_S) -> Json:
        old = lease.get("spec") or {}
        now = datetime.fromtimestamp(self._wall(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        mine = old.get("holderIdentity") == holder
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": int(duration_s),
            "renewTime": now,
            "acquireTime": old.get("acquireTime", now) if mine else now,
            "leaseTransitions": (old.get("leaseTransitions") or 0) + (0 if mine else 1),
        }
        return {**lease, "spec": spec}
