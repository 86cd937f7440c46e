"""Observations for the planner's tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from controller.operator.names import Role, child_name
from controller.operator.seen import ChildSeen, JobSeen, Observed, PodSeen, RunSeen
from neva.job_file import parse_job

NOW_S = 1_800_000_000.0


def raw_spec(**changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "model": {"uri": "s3://models/m/"},
        "input": {"prompts": "s3://eval/p.jsonl", "mediaBasePath": "s3://eval/videos/"},
        "output": {"uri": "s3://eval/runs/kitchen/"},
        "workers": {"replicas": 2},
    }
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(spec.get(key), dict)
        spec[key] = {**spec[key], **value} if both else value
    return spec


def job(status: dict[str, Any] | None = None, **changes: Any) -> JobSeen:
    """A job with our finalizer on it."""
    raw = raw_spec(**changes)
    data = {
        "apiVersion": "neva-batch.dev/v1alpha1",
        "kind": "VideoNevaJob",
        "metadata": {"name": "kitchen"},
        "spec": raw,
    }
    return JobSeen(
        namespace="team",
        name="kitchen",
        uid="uid-1",
        resource_version="7",
        generation=1,
        created_s=NOW_S - 100,
        deleted_s=None,
        finalized=True,
        raw_spec=raw,
        spec=parse_job(data, "kitchen").spec,
        problem="",
        status=status or {},
    )


def started(**status: Any) -> dict[str, Any]:
    """A status of a job that was prepared."""
    return {"startTime": "2027-01-15T07:58:20Z", "runId": "run", "workerRound": 1, **status}


def child(role: Role, number: int = 0, **changes: Any) -> ChildSeen:
    base = ChildSeen(
        name=child_name("kitchen", role, number),
        uid=f"{role}-{number}",
        role=role,
        round=number,
        created_s=NOW_S - 50,
        parallelism=2,
        replicas=2 if role is Role.WORKER else 0,
    )
    return replace(base, **changes)


def pod(of: ChildSeen, **changes: Any) -> PodSeen:
    return replace(PodSeen(f"{of.name}-abc", of.name, "Pending", NOW_S - 40), **changes)


def run(**changes: Any) -> RunSeen:
    base = RunSeen(
        looked_s=NOW_S - 0.1,
        run_id="run",
        num_rows=100,
        num_done=20,
        num_shards=10,
        num_shards_done=2,
    )
    return replace(base, **changes)


def seen(job_seen: JobSeen, *children: ChildSeen, **changes: Any) -> Observed:
    return replace(Observed(NOW_S, job_seen, tuple(children)), **changes)
