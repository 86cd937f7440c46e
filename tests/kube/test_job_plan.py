"""The Job controller's decisions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.kube.kubelet.jobs import Plan, plan

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=100)

Obj = dict[str, Any]


def job(status: Obj | None = None, **spec: Any) -> Obj:
    return {"spec": {"parallelism": 2, "backoffLimit": 1, **spec}, "status": status or {}}


def pod(name: str, phase: str = "Running", *, exit_code: int = 1, **metadata: Any) -> Obj:
    terminated = {"terminated": {"exitCode": exit_code}}
    ended = phase in ("Succeeded", "Failed")
    statuses = [{"name": "worker", "state": terminated if ended else {"running": {}}}]
    return {
        "metadata": {"name": name, "uid": name, "namespace": "n", **metadata},
        "status": {"phase": phase, "containerStatuses": statuses},
    }


def step(wanted: Obj, *pods: Obj, counted: set[str] | None = None, now: datetime = NOW) -> Plan:
    return plan(wanted, list(pods), counted or set(), now)


def conditions(found: Plan) -> list[tuple[str, str]]:
    return [(c["type"], c["reason"]) for c in found.status.get("conditions", ())]


def test_a_new_job_gets_its_pods() -> None:
    found = step(job())
    assert (found.num_new_pods, found.status["active"]) == (2, 2)
    assert found.status["startTime"] == "2026-01-01T00:00:00Z"


def test_a_work_queue_starts_no_pod_once_one_succeeded_and_ends_with_the_last() -> None:
    found = step(job(), pod("a", "Succeeded"), pod("b"))
    assert (found.num_new_pods, found.delete, found.status["succeeded"]) == (0, [], 1)
    assert conditions(found) == []
    found = step(job(found.status), pod("a", "Succeeded"), pod("b", "Succeeded"), counted={"a"})
    assert conditions(found) == [
        ("SuccessCriteriaMet", "CompletionsReached"),
        ("Complete", "CompletionsReached"),
    ]
    assert (found.status["succeeded"], found.status["completionTime"]) == (
        2,
        "2026-01-01T00:00:00Z",
    )
    assert "active" not in found.status


def test_completions_are_counted_and_no_more_pods_run_than_are_missing() -> None:
    wanted = job(completions=3, parallelism=3)
    found = step(wanted, pod("a", "Succeeded"), pod("b", "Succeeded"), pod("c"), pod("d"))
    assert found.delete == ["c"]
    everything = [pod(name, "Succeeded") for name in "abc"]
    assert ("Complete", "CompletionsReached") in conditions(step(wanted, *everything))


def test_a_failed_pod_is_replaced_until_the_limit_is_passed() -> None:
    found = step(job(), pod("a", "Failed"), pod("b"))
    assert (found.num_new_pods, found.status["failed"]) == (1, 1)
    found = step(job(found.status), pod("a", "Failed"), pod("c", "Failed"), pod("b"), counted={"a"})
    assert (found.num_new_pods, found.delete) == (0, ["b"])
    assert conditions(found) == [("FailureTarget", "BackoffLimitExceeded")]
    found = step(job(found.status), pod("b", "Failed"), counted={"a", "c"})
    assert conditions(found)[-1] == ("Failed", "BackoffLimitExceeded")


POLICY = {
    "rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": "worker", "operator": "In", "values": [64]},
        },
    ]
}


def test_an_exit_code_of_the_policy_fails_the_job_at_once() -> None:
    found = step(job(podFailurePolicy=POLICY), pod("a", "Failed", exit_code=64), pod("b"))
    assert conditions(found) == [("FailureTarget", "PodFailurePolicy")]
    message = found.status["conditions"][0]["message"]
    assert message == (
        "Container worker for pod n/a failed with exit code 64 matching FailJob rule at index 1"
    )
    assert found.delete == ["b"]


def test_a_disrupted_pod_does_not_count() -> None:
    disrupted = pod("a", "Failed", exit_code=64)
    disrupted["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
    found = step(job(podFailurePolicy=POLICY), disrupted, pod("b"))
    assert "failed" not in found.status
    assert (found.num_new_pods, found.count) == (1, ["a"])


def test_fewer_or_more_pods_when_parallelism_changes() -> None:
    assert step(job(parallelism=5), pod("a"), pod("b")).num_new_pods == 3
    found = step(job(parallelism=1), pod("a"), pod("b", "Pending"))
    assert found.delete == ["b"]
    assert step(job(parallelism=0), pod("a")).delete == ["a"]


def test_a_suspended_job_loses_its_pods_and_starts_anew_when_resumed() -> None:
    found = step(job({"startTime": "x"}, suspend=True), pod("a"))
    assert (found.delete, found.num_new_pods) == (["a"], 0)
    assert "startTime" not in found.status
    assert conditions(found) == [("Suspended", "JobSuspended")]
    found = step(job(found.status), now=LATER)
    assert conditions(found) == [("Suspended", "JobResumed")]
    assert found.num_new_pods == 2
    assert found.status["startTime"] == "2026-01-01T00:01:40Z"


def test_a_job_that_is_active_too_long_fails() -> None:
    started = {"startTime": "2026-01-01T00:00:00Z"}
    wanted = job(started, activeDeadlineSeconds=100)
    assert step(wanted, pod("a"), now=NOW + timedelta(seconds=99)).delete == []
    found = step(wanted, pod("a"), now=LATER)
    assert conditions(found) == [("FailureTarget", "DeadlineExceeded")]
    assert found.delete == ["a"]


@pytest.mark.parametrize(("replacement", "num_new"), [("Failed", 1), ("TerminatingOrFailed", 2)])
def test_a_stopping_pod_is_replaced_when_the_policy_says(replacement: str, num_new: int) -> None:
    stopping = pod("a", deletionTimestamp="x")
    found = step(job(podReplacementPolicy=replacement), stopping)
    assert (found.num_new_pods, found.status["terminating"]) == (num_new, 1)


def test_a_finished_job_goes_when_its_time_to_live_is_over() -> None:
    ended = {
        "conditions": [
            {"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        ]
    }
    wanted = job(ended, ttlSecondsAfterFinished=100)
    assert not step(wanted, now=NOW + timedelta(seconds=99)).delete_job
    assert step(wanted, now=LATER).delete_job
    assert not step(job(ended), now=LATER).delete_job
    assert step(wanted, pod("a"), now=LATER).num_new_pods == 0
