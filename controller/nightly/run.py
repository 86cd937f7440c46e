"""Starts a night's job, waits for it, compares it and tells. Survives API servers that stumble."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol, TypeVar

import structlog

from controller.nightly.night import (
    LABEL_SERIES,
    Json,
    Verdict,
    compare,
    last_good_night,
    phase_of,
)
from controller.operator.api import ApiError, KubeApi
from controller.operator.status import rfc3339
from neva.conditions import ConditionType, Phase
from neva.errors import NevaError

log = structlog.get_logger()
T = TypeVar("T")

PATIENCE_S = 900.0  # an API server is away so long before a night is given up
_MAX_PAUSE_S = 30.0


class Gone(NevaError):
    """The job was deleted while it was waited for."""


class Watcher(Protocol):
    """Waits until a job may have changed, for a bounded time. Raises ApiError."""

    def __call__(self, job: Json) -> None: ...


@dataclass
class Patience:
    """Repeats calls that the API server can't answer now.

    Args:
        clock: monotonic seconds.
    """

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    limit_s: float = PATIENCE_S
    _failing_since_s: float | None = field(default=None, init=False)

    def call(self, what: Callable[[], T]) -> T:
        """The answer. Raises the last ApiError when patience ends, others at once."""
        pause_s = 1.0
        while True:
            try:
                answer = what()
            except ApiError as error:
                now_s = self.clock()
                if self._failing_since_s is None:
                    self._failing_since_s = now_s
                if not error.retryable or now_s - self._failing_since_s > self.limit_s:
                    raise
                log.warning("the API server fails", status=error.status, error=error.message)
                self.sleep(pause_s)
                pause_s = min(2 * pause_s, _MAX_PAUSE_S)
                continue
            self._failing_since_s = None
            return answer


class Night:
    """One night of a series in one namespace."""

    def __init__(self, api: KubeApi, watcher: Watcher, patience: Patience) -> None:
        self._api = api
        self._watcher = watcher
        self._patience = patience

    def series(self, namespace: str, series: str) -> list[Json]:
        """Every job of the series."""

        def jobs() -> Iterator[Json]:
            return self._api.list_jobs_labelled(namespace, f"{LABEL_SERIES}={series}")

        return self._patience.call(lambda: list(jobs()))

    def start(self, body: dict[str, Any]) -> Json:
        """Make the job, unless it is there."""

        def make() -> Json:
            try:
                return self._api.create_job(body)
            except ApiError as error:
                if error.status != 409:
                    raise
            found = self._get(body)
            if found is None:  # deleted between the two
                raise ApiError(0, f"{body['metadata']['name']} comes and goes")
            log.info("job is there already", job=body["metadata"]["name"])
            return found

        return self._patience.call(make)

    def wait(self, job: Json) -> Json:
        """The job at its end. Raises Gone."""
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        while True:
            found = self._patience.call(lambda: self._get(job))
            if found is None or found["metadata"]["uid"] != uid:
                raise Gone(f"{name} was deleted")
            if phase_of(found).is_final:
                return found
            at = found

            def watch(at: Json = at) -> None:
                try:
                    self._watcher(at)
                except ApiError as error:
                    if error.status != 410:  # too old: look again
                        raise

            self._patience.call(watch)

    def judge(
        self, job: Json, series: str, max_drop: Decimal | None, now_s: float
    ) -> Verdict | None:
        """Compare a night that succeeded, and say so in its status; None when it did not."""
        if phase_of(job) != Phase.SUCCEEDED:
            return None
        nights = self.series(job["metadata"]["namespace"], series)
        verdict = compare(job, last_good_night(nights, job), max_drop)
        condition = _condition(job, verdict, now_s)
        if condition is not None:
            self._patience.call(lambda: self._api.write_condition(job, condition))
        return verdict

    def _get(self, job: Json) -> Json | None:
        metadata = job["metadata"]
        return self._api.get_job(metadata["namespace"], metadata["name"])


def _condition(job: Json, verdict: Verdict, now_s: float) -> dict[str, Any] | None:
    """The condition as it should be; None when it is so already."""
    conditions = {c["type"]: c for c in (job.get("status") or {}).get("conditions") or []}
    held = conditions.get(ConditionType.COMPARED)
    status = "True" if verdict.compared else "Unknown"
    same = held is not None and held["status"] == status
    found = {
        "type": str(ConditionType.COMPARED),
        "status": status,
        "reason": str(verdict.reason),
        "message": verdict.message,
        "lastTransitionTime": held["lastTransitionTime"] if held and same else rfc3339(now_s),
        "observedGeneration": job["metadata"].get("generation", 1),
    }
    return None if held == found else found
