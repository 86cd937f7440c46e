"""Why a child is not at work yet, from its pods, its events and Kueue. Pure.

The answer is a condition's reason and words that name what to do something about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from controller.operator.seen import ChildSeen, PodSeen, WorkloadSeen
from neva.conditions import ConditionReason

Why = tuple[ConditionReason, str]

_IMAGE_REASONS = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "RegistryUnavailable",
    "ImageInspectError",
}
_CONFIG_REASONS = {"CreateContainerConfigError", "CreateContainerError"}


def why_waiting(
    child: ChildSeen,
    pods: Sequence[PodSeen],
    workload: WorkloadSeen | None,
    refusals: Mapping[str, str],
) -> Why:
    """Why no pod of `child` runs.

    Args:
        refusals: by uid, what events say is wrong with the child or a pod.

    What a person can do something about comes first: an image that can't be had holds the job up
    for ever, a node may still come.
    """
    if child.suspended:
        return _why_suspended(workload)
    alive = [pod for pod in pods if not pod.terminating and pod.alive]
    for pod in alive:
        if pod.waiting is not None and (why := _why_container_waits(*pod.waiting)) is not None:
            return why
        if pod.stuck and pod.uid in refusals:
            return _why_refused(refusals[pod.uid])
    stuck = Counter(pod.unschedulable for pod in alive if pod.unschedulable)
    if stuck:
        words, count = stuck.most_common(1)[0]
        return ConditionReason.UNSCHEDULABLE, f"{count} of {len(alive)} pods: {words}"
    if not alive and child.uid in refusals:
        return _why_refused(refusals[child.uid])
    crashed = [pod for pod in pods if pod.failed]
    if crashed and not alive:
        return ConditionReason.WORKERS_FAILING, how_ended(crashed[-1])
    return ConditionReason.WAITING_FOR_PODS, f"{len(alive)} pods of {child.name} are starting"


def how_ended(pod: PodSeen) -> str:
    """The end of a failed pod in words."""
    if pod.refused is not None:
        return f"{pod.name} could not run: {pod.refused}"
    words = f": {pod.last_words.strip()}" if pod.last_words.strip() else ""
    reason = f" ({pod.exit_reason})" if pod.exit_reason not in ("", "Error") else ""
    return f"{pod.name} ended with exit code {pod.exit_code}{reason}{words}"


def _why_suspended(workload: WorkloadSeen | None) -> Why:
    if workload is None or not workload.message:
        return ConditionReason.WAITING_FOR_QUOTA, "Kueue has not admitted the worker Job yet"
    return ConditionReason.WAITING_FOR_QUOTA, f"Kueue: {workload.message}"


def _why_container_waits(reason: str, message: str) -> Why | None:
    if reason in _IMAGE_REASONS:
        return ConditionReason.IMAGE_PULL_FAILED, message or reason
    if reason in _CONFIG_REASONS:
        return _why_refused(message or reason)
    return None


def _why_refused(words: str) -> Why:
    lower = words.lower()
    if "exceeded quota" in lower:
        return ConditionReason.WAITING_FOR_QUOTA, words
    if "configmap" in lower:
        return ConditionReason.MISSING_CONFIG_MAP, words
    if "secret" in lower:
        return ConditionReason.MISSING_SECRET, words
    return ConditionReason.POD_REFUSED, words
