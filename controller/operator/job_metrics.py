"""What is exported of jobs and their pods. Pure.

A job's own series come from the acting operator alone, while the job is not over and for an hour
after it: the number of series follows the work, not the history. The labels are `job_namespace`
and `job_name`, because Prometheus has a `namespace` and a `job` of its own; the chart's PodMonitor
gives the pods' series the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from controller.operator.names import LABEL_ROLE, Role
from controller.operator.read import read_pod
from controller.operator.seen import PodSeen, RunSeen
from controller.operator.status import epoch_s
from controller.operator.world import Key
from neva.conditions import Phase
from neva.metrics import of_operator as metrics
from neva.metrics.base import Sample
from neva.pod import read_last_words

Json = Mapping[str, Any]

SHOWN_AFTER_END_S = 3600.0


def phase_samples(jobs: Mapping[Key, Json]) -> Iterator[Sample]:
    """Jobs by phase; 0 where there is none."""
    phases = Counter(_phase(body) for body in jobs.values())
    for phase in Phase:
        yield Sample(metrics.OPERATOR_JOBS, phases[str(phase)], (str(phase),))


def job_samples(
    jobs: Mapping[Key, Json], runs: Mapping[Key, RunSeen], now_s: float
) -> Iterator[Sample]:
    """Each job's own series.

    Args:
        runs: the last look at each, where there was one.
        now_s: seconds since the epoch.
    """
    for key, body in sorted(jobs.items()):
        status = body.get("status") or {}
        ended_s = epoch_s(status.get("finishTime"))
        if ended_s is not None and now_s - ended_s > SHOWN_AFTER_END_S:
            continue
        yield Sample(metrics.JOB_PHASE, 1, (*key, _phase(body)))
        yield from _of_status(key, status)
        run = runs.get(key)
        if run is not None and run.problem is None and ended_s is None:
            yield Sample(metrics.JOB_LEASES, run.num_leased, key)
            yield Sample(metrics.JOB_QUEUE, run.num_waiting, key)
            if run.trouble is not None:
                yield Sample(metrics.JOB_TROUBLE, 1, (*key, run.trouble.reason))


def failed_pod_samples(pods: Iterable[Json]) -> Iterator[Sample]:
    """Pods that ended badly, by their last words, else by the kubelet's word for it."""
    counts = Counter[tuple[str, str]]()
    for body in pods:
        pod = read_pod(body)
        role = (body["metadata"].get("labels") or {}).get(LABEL_ROLE)
        if pod is not None and pod.failed and role in set(Role):
            counts[role, _why(pod)] += 1
    for labels, number in sorted(counts.items()):
        yield Sample(metrics.OPERATOR_PODS_FAILED, number, labels)


def _why(pod: PodSeen) -> str:
    reason, _ = read_last_words(pod.last_words)
    return reason or pod.exit_reason or "Refused"


def _phase(body: Json) -> str:
    return str((body.get("status") or {}).get("phase") or Phase.PENDING)


def _of_status(key: Key, status: Json) -> Iterator[Sample]:
    rows, shards = status.get("rows"), status.get("shards")
    if rows:
        done, failed = rows.get("done", 0), rows.get("failed", 0)
        yield Sample(metrics.JOB_ROWS, rows["total"] - done, (*key, "open"))
        yield Sample(metrics.JOB_ROWS, done - failed, (*key, "answered"))
        yield Sample(metrics.JOB_ROWS, failed, (*key, "failed"))
    if shards:
        yield Sample(metrics.JOB_SHARDS, shards["total"] - shards["done"], (*key, "open"))
        yield Sample(metrics.JOB_SHARDS, shards["done"], (*key, "committed"))
    for said in status.get("conditions") or []:
        labels = (*key, said["type"], said["status"], said["reason"])
        yield Sample(metrics.JOB_CONDITION, 1, labels)
