"""VideoNevaJobs of a cluster: the list by one call to the API, details from each job's output."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from controller.operator.api import KubeApi
from controller.operator.status import headline
from controller.ui.reader import RunReader
from controller.ui.source import NoSuchJob
from controller.ui.view import JobLine
from neva.conditions import ConditionReason, Phase
from neva.errors import ConfigError
from neva.pages import visible

_MAX_READERS = 32
_CALM = {
    ConditionReason.ANSWERING,
    ConditionReason.SUCCEEDED,
    ConditionReason.FINISHING,
    ConditionReason.PREPARING,
}


class ClusterJobs:
    """The jobs of some namespaces, or of all.

    Only outputs on S3 are read: a job's spec is its owner's to write, and `file:` would be the
    files of this process.
    """

    on_cluster = True
    only_run = None

    def __init__(self, api: KubeApi, namespaces: Sequence[str] | None) -> None:
        self._api = api
        self._namespaces: Sequence[str | None] = (None,) if namespaces is None else namespaces
        self._lock = threading.Lock()
        self._jobs: dict[str, Mapping[str, Any]] = {}
        self._listed_s: float | None = None
        self._readers: OrderedDict[str, RunReader] = OrderedDict()  # by URI, last used last

    def lines(self, max_age_s: float) -> Sequence[JobLine]:
        with self._lock:
            self._list(max_age_s)
            return [cluster_line(job) for job in _in_order(self._jobs.values())]

    def line(self, run_id: str) -> JobLine | None:
        return cluster_line(self._job(run_id))

    def reader(self, run_id: str) -> RunReader:
        uri = str(((self._job(run_id).get("spec") or {}).get("output") or {}).get("uri"))
        if not uri.startswith("s3://"):
            raise ConfigError(f"its output, {uri}, is not on S3: only s3:// is read from here")
        with self._lock:
            reader = self._readers.pop(uri, None) or RunReader(uri)
            self._readers[uri] = reader
            while len(self._readers) > _MAX_READERS:
                self._readers.popitem(last=False)
            return reader

    def _job(self, run_id: str) -> Mapping[str, Any]:
        with self._lock:
            if run_id not in self._jobs:
                self._list(1.0)
            if run_id not in self._jobs:
                raise NoSuchJob(f"there is no job {run_id!r}, or it is not watched here")
            return self._jobs[run_id]

    def _list(self, max_age_s: float) -> None:
        now_s = time.monotonic()
        if self._listed_s is not None and now_s - self._listed_s <= max_age_s:
            return
        found = [job for place in self._namespaces for job in self._api.list_jobs(place)]
        self._jobs = {_id(job): job for job in found}
        self._listed_s = now_s


def cluster_line(job: Mapping[str, Any]) -> JobLine:
    """A VideoNevaJob as the API server gives it."""
    metadata, status = job["metadata"], job.get("status") or {}
    rows = status.get("rows") or {}
    said = headline(status)
    note = ""
    if said is not None and said[1] not in _CALM:
        note = f"{said[1]}: {said[2]}" if said[2] else said[1]
    return JobLine(
        _id(job),
        visible(metadata["name"]),
        visible(metadata["namespace"]),
        visible(_phase(job)),
        int(rows.get("done", 0)),
        int(rows.get("total", 0)),
        int(rows.get("failed", 0)),
        visible(status.get("rowsPerSecond") or ""),
        visible(status.get("eta") or ""),
        visible(status.get("score") or ""),
        visible(note),
    )


def _id(job: Mapping[str, Any]) -> str:
    return f"{job['metadata']['namespace']}/{job['metadata']['name']}"


def _in_order(jobs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What is not over first, and of each kind the newest first."""
    newest_first = sorted(jobs, key=_created, reverse=True)
    return sorted(newest_first, key=lambda job: _phase(job) in (Phase.SUCCEEDED, Phase.FAILED))


def _created(job: Mapping[str, Any]) -> tuple[str, str]:
    return str(job["metadata"].get("creationTimestamp") or ""), _id(job)


def _phase(job: Mapping[str, Any]) -> str:
    return str((job.get("status") or {}).get("phase") or Phase.PENDING)
