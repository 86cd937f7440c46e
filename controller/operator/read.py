"""Kubernetes objects → what the planner wants to know of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.operator.names import (
    ANNOTATION_REPLICAS,
    ANNOTATION_SHARDS_DONE,
    FINALIZER,
    GROUP,
    LABEL_JOB,
    LABEL_ROLE,
    LABEL_ROUND,
    LABELS_OF_PODS_JOB,
    VERSION,
    Role,
)
from controller.operator.seen import ChildSeen, JobSeen, PodSeen, WorkloadSeen
from controller.operator.status import epoch_s
from neva.job_file import JobFileError, parse_job
from neva.spec import KIND

Json = Mapping[str, Any]
_BAD_MESSAGE = "no message"


def read_job(body: Json) -> JobSeen:
    metadata = body["metadata"]
    raw_spec = body.get("spec") or {}
    data = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": {"name": metadata["name"]},
        "spec": raw_spec,
    }
    spec, problem = None, ""
    try:
        spec = parse_job(data, metadata["name"]).spec
    except JobFileError as error:
        problem = "; ".join(error.problems)
    return JobSeen(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        generation=metadata.get("generation", 1),
        created_s=epoch_s(metadata.get("creationTimestamp")) or 0.0,
        deleted_s=epoch_s(metadata.get("deletionTimestamp")),
        finalized=FINALIZER in (metadata.get("finalizers") or []),
        raw_spec=raw_spec,
        spec=spec,
        problem=problem,
        status=body.get("status") or {},
    )


def owner_of(body: Json) -> tuple[str, str] | None:
    """(namespace, name) of the job that a child or pod belongs to."""
    metadata = body["metadata"]
    name = (metadata.get("labels") or {}).get(LABEL_JOB)
    return (metadata["namespace"], name) if name else None


def is_owned_by(body: Json, uid: str) -> bool:
    """Whether a child was made for this very job, not for an earlier one of the same name."""
    owners = body["metadata"].get("ownerReferences") or []
    return any(owner.get("uid") == uid for owner in owners)


def read_child(body: Json) -> ChildSeen | None:
    """A child Job; None when it has no role of ours."""
    metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    role = labels.get(LABEL_ROLE)
    if role not in set(Role):
        return None
    conditions = {c["type"]: c for c in status.get("conditions") or [] if c["status"] == "True"}
    failed = conditions.get("Failed")
    end = conditions.get("Complete") or failed
    ended_s = None
    if end is not None:
        ended_s = epoch_s(end.get("lastTransitionTime") or status.get("completionTime")) or 0.0
    return ChildSeen(
        name=metadata["name"],
        uid=metadata["uid"],
        role=Role(role),
        round=_number(labels.get(LABEL_ROUND)),
        created_s=epoch_s(metadata.get("creationTimestamp")) or 0.0,
        terminating="deletionTimestamp" in metadata,
        complete="Complete" in conditions,
        failure=failed.get("reason") or "Failed" if failed is not None else None,
        failure_message=(failed or {}).get("message") or "",
        ended_s=ended_s,
        suspended=bool(spec.get("suspend")),
        parallelism=spec.get("parallelism", 1),
        replicas=_number(annotations.get(ANNOTATION_REPLICAS)),
        shards_done=_number(annotations.get(ANNOTATION_SHARDS_DONE)),
        num_failed_pods=status.get("failed") or 0,
    )


def read_pod(body: Json) -> PodSeen | None:
    """A child's pod; None when it is no Job's."""
    metadata, status = body["metadata"], body.get("status") or {}
    labels = metadata.get("labels") or {}
    child = next((labels[label] for label in LABELS_OF_PODS_JOB if label in labels), None)
    if child is None:
        return None
    container = _main_container(body)
    state = container.get("state") or {}
    waiting, ended = state.get("waiting"), state.get("terminated")
    # What a lost node last said of a container stays: the phase is what holds.
    refused = _refused(status) if status.get("phase") == "Failed" and ended is None else None
    return PodSeen(
        name=metadata["name"],
        child=child,
        phase=status.get("phase") or "Pending",
        created_s=epoch_s(metadata.get("creationTimestamp")) or 0.0,
        terminating="deletionTimestamp" in metadata,
        running="running" in state and refused is None,
        unschedulable=_unschedulable(status),
        waiting=(waiting.get("reason") or "", waiting.get("message") or "") if waiting else None,
        exit_code=ended.get("exitCode") if ended else None,
        last_words=(ended or {}).get("message") or "",
        exit_reason=(ended or {}).get("reason") or "",
        ended_s=epoch_s((ended or {}).get("finishedAt")),
        uid=metadata["uid"],
        refused=refused,
    )


def read_workload(body: Json) -> WorkloadSeen | None:
    """Kueue's Workload of a Job."""
    owners = body["metadata"].get("ownerReferences") or []
    job = next((o["uid"] for o in owners if o.get("kind") == "Job"), None)
    if job is None:
        return None
    conditions = {c["type"]: c for c in (body.get("status") or {}).get("conditions") or []}
    admitted = conditions.get("Admitted") or {}
    told = conditions.get("QuotaReserved") or conditions.get("Evicted") or admitted
    return WorkloadSeen(
        child_uid=job,
        admitted=admitted.get("status") == "True",
        reason=told.get("reason") or "",
        message=told.get("message") or "",
    )


def refusal_of(events: list[Json]) -> str | None:
    """The latest words of why a Job's pod can't be made, or a pod's volumes can't be had."""
    told = [e for e in events if e.get("reason") in ("FailedCreate", "FailedMount")]
    told.sort(key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or "")
    return (told[-1].get("message") or _BAD_MESSAGE) if told else None


def _main_container(body: Json) -> Json:
    """The status of the container that is named after the pod's role."""
    role = (body["metadata"].get("labels") or {}).get(LABEL_ROLE)
    statuses = (body.get("status") or {}).get("containerStatuses") or []
    named = [s for s in statuses if s.get("name") == role]
    found: Json = (named or statuses or [{}])[0]
    return found


def _refused(status: Json) -> str:
    words = [status.get("reason"), status.get("message")]
    return ": ".join(word for word in words if word) or "no reason given"


def _unschedulable(status: Json) -> str | None:
    for condition in status.get("conditions") or []:
        is_it = condition["type"] == "PodScheduled" and condition["status"] == "False"
        if is_it and condition.get("reason") == "Unschedulable":
            return condition.get("message") or "no node fits"
    return None


def _number(text: object) -> int:
    return int(text) if isinstance(text, str) and text.isdecimal() else 0
