"""The Job controller's decisions, pure: a Job and its pods in, what to do out.

Work-queue Jobs (no `completions`) end when one pod succeeded and all have ended; others when
`completions` pods succeeded. Failed pods count against backoffLimit, unless podFailurePolicy says
otherwise. A pod counts once it has ended; until then its finalizer holds it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

Obj = dict[str, Any]

TRACKING = "batch.kubernetes.io/job-tracking"


@dataclass
class Plan:
    """What the controller does next.

    Attributes:
        status: the Job's new status.
        num_new_pods: pods to create.
        delete: names of pods to delete.
        count: uids of ended pods that the new status counts; their finalizers go.
        delete_job: the Job's time to live is over.
    """

    status: Obj
    num_new_pods: int = 0
    delete: list[str] = field(default_factory=list)
    count: list[str] = field(default_factory=list)
    delete_job: bool = False


def plan(job: Obj, pods: list[Obj], counted: set[str], now: datetime) -> Plan:
    """The next step of `job`.

    Args:
        pods: all pods that the Job controls.
        counted: uids of ended pods that `job`'s status counts already.
    """
    spec, old = job["spec"], job.get("status") or {}
    if ended := _condition(old, "Complete") or _condition(old, "Failed"):
        ttl = spec.get("ttlSecondsAfterFinished")
        since = now - datetime.fromisoformat(ended["lastTransitionTime"])
        over = ttl is not None and since >= timedelta(seconds=ttl)
        return Plan(old, count=_uids(pods, ended=True), delete_job=over)

    status = {**old, "conditions": list(old.get("conditions") or ())}
    result = Plan(status)
    ignored_or_counted = _count_ended(spec, pods, counted, result, now)
    active = [pod for pod in pods if not has_ended(pod) and not _is_deleted(pod)]
    stopping = [pod for pod in pods if not has_ended(pod) and _is_deleted(pod)]
    if spec.get("suspend"):
        _suspend(result, active, now)
    else:
        _resume(result, now)
        _decide(spec, result, active, stopping, now)
    status["ready"] = sum(_is_running(pod) for pod in active)
    status["terminating"] = len(stopping)
    status["active"] = len(active) - len(result.delete) + result.num_new_pods
    if spec.get("podReplacementPolicy") == "Failed":
        status["active"] = max(0, status["active"])
    for name in ("active", "ready", "terminating", "succeeded", "failed"):
        if not status.get(name):
            status.pop(name, None)  # as the real one: absent instead of 0
    if not status["conditions"]:
        del status["conditions"]
    result.count = ignored_or_counted
    return result


def has_ended(pod: Obj) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _count_ended(
    spec: Obj, pods: list[Obj], counted: set[str], result: Plan, now: datetime
) -> list[str]:
    """Add pods that have ended to the status; returns the uids of all that have."""
    status = result.status
    for pod in pods:
        uid = pod["metadata"]["uid"]
        if not has_ended(pod) or uid in counted:
            continue
        if pod["status"]["phase"] == "Succeeded":
            status["succeeded"] = status.get("succeeded", 0) + 1
            continue
        action, why = _failure_action(spec, pod)
        if action == "FailJob":
            _set_condition(status, "FailureTarget", "PodFailurePolicy", why, now)
        if action != "Ignore":
            status["failed"] = status.get("failed", 0) + 1
    return _uids(pods, ended=True)


def _failure_action(spec: Obj, pod: Obj) -> tuple[str, str]:
    """The first rule of podFailurePolicy that matches: its action, and the condition's words."""
    where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    for index, rule in enumerate((spec.get("podFailurePolicy") or {}).get("rules", ())):
        if exits := rule.get("onExitCodes"):
            for container, code in _exit_codes(pod):
                if exits.get("containerName") not in (None, container):
                    continue
                listed = code in exits["values"]
                if code != 0 and listed is (exits["operator"] == "In"):
                    words = f"Container {container} for pod {where} failed with exit code {code}"
                    return rule[
                        "action"
                    ], f"{words} matching {rule['action']} rule at index {index}"
        for pattern in rule.get("onPodConditions") or ():
            found = _condition(pod["status"], pattern["type"], pattern.get("status", "True"))
            if found:
                words = f"Pod {where} has condition {pattern['type']}"
                return rule["action"], f"{words} matching {rule['action']} rule at index {index}"
    return "Count", ""


def _exit_codes(pod: Obj) -> list[tuple[str, int]]:
    statuses = pod["status"].get("containerStatuses") or ()
    return [
        (status["name"], status["state"]["terminated"]["exitCode"])
        for status in statuses
        if "terminated" in status["state"]
    ]


def _decide(spec: Obj, result: Plan, active: list[Obj], stopping: list[Obj], now: datetime) -> None:
    status = result.status
    succeeded, failed = status.get("succeeded", 0), status.get("failed", 0)
    completions, parallelism = spec.get("completions"), spec.get("parallelism", 1)
    target = _condition(status, "FailureTarget")
    if target is None and failed > spec.get("backoffLimit", 6):
        message = "Job has reached the specified backoff limit"
        _set_condition(status, "FailureTarget", "BackoffLimitExceeded", message, now)
    elif target is None and _deadline_is_over(spec, status, now):
        message = "Job was active longer than specified deadline"
        _set_condition(status, "FailureTarget", "DeadlineExceeded", message, now)
    if target := _condition(status, "FailureTarget"):
        result.delete = _names(active)
        if not active and not stopping:
            _set_condition(status, "Failed", target["reason"], target["message"], now)
        return
    if completions is None:
        is_enough = succeeded > 0
        wanted = len(active) if is_enough else parallelism
        done = is_enough and not active and not stopping
    else:
        is_enough = succeeded >= completions
        wanted = 0 if is_enough else min(parallelism, completions - succeeded)
        done = is_enough and not active and not stopping
    if is_enough and not (completions is None and active):
        words = ("CompletionsReached", "Reached expected number of succeeded pods")
        _set_condition(status, "SuccessCriteriaMet", *words, now)
        if done:
            _set_condition(status, "Complete", *words, now)
            status["completionTime"] = _text(now)
    # With podReplacementPolicy Failed a pod is replaced once it has ended, not before.
    held = len(stopping) if spec.get("podReplacementPolicy") == "Failed" else 0
    if len(active) > wanted:
        youngest_idle_first = sorted(active, key=_is_running)
        result.delete = _names(youngest_idle_first[: len(active) - wanted])
    elif not done:
        result.num_new_pods = max(0, wanted - len(active) - held)


def _deadline_is_over(spec: Obj, status: Obj, now: datetime) -> bool:
    limit = spec.get("activeDeadlineSeconds")
    if limit is None or "startTime" not in status:
        return False
    return now - datetime.fromisoformat(status["startTime"]) >= timedelta(seconds=limit)


def _suspend(result: Plan, active: list[Obj], now: datetime) -> None:
    result.delete = _names(active)
    result.status.pop("startTime", None)
    _set_condition(result.status, "Suspended", "JobSuspended", "Job suspended", now)


def _resume(result: Plan, now: datetime) -> None:
    status = result.status
    if _condition(status, "Suspended"):
        _set_condition(status, "Suspended", "JobResumed", "Job resumed", now, "False")
    status.setdefault("startTime", _text(now))


def _condition(status: Obj, kind: str, value: str = "True") -> Obj | None:
    for condition in status.get("conditions") or ():
        if condition["type"] == kind and condition["status"] == value:
            return dict(condition)
    return None


def _set_condition(
    status: Obj, kind: str, reason: str, message: str, now: datetime, value: str = "True"
) -> None:
    if _condition(status, kind, value):
        return
    others = [c for c in status["conditions"] if c["type"] != kind]
    new = {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": message,
        "lastProbeTime": _text(now),
        "lastTransitionTime": _text(now),
    }
    status["conditions"] = [*others, new]


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_deleted(pod: Obj) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def _is_running(pod: Obj) -> bool:
    return (pod.get("status") or {}).get("phase") == "Running"


def _names(pods: list[Obj]) -> list[str]:
    return [pod["metadata"]["name"] for pod in pods]


def _uids(pods: list[Obj], *, ended: bool) -> list[str]:
    return [pod["metadata"]["uid"] for pod in pods if has_ended(pod) is ended]
