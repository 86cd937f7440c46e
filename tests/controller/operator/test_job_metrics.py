"""What the operator exports of jobs."""

from __future__ import annotations

from typing import Any

import pytest

from controller.operator.job_metrics import (
    SHOWN_AFTER_END_S,
    failed_pod_samples,
    job_samples,
    phase_samples,
)
from controller.operator.seen import RunSeen
from controller.operator.status import rfc3339
from neva.conditions import ConditionReason, ConditionType, FolderCondition, Phase
from neva.metrics.base import Sample
from neva.reasons import Reason
from neva.trouble import Trouble

NOW_S = 1_800_000_000.0
KEY = ("team", "kitchen")


def body(**status: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "team", "name": "kitchen"}, "status": status}


def values(samples: Any) -> dict[tuple[str, ...], float]:
    return {(sample.metric.name, *sample.labels): sample.value for sample in samples}


def pod(state: dict[str, Any], phase: str = "Failed", **status: Any) -> dict[str, Any]:
    labels = {"batch.kubernetes.io/job-name": "a-workers-1", "neva-batch.dev/role": "worker"}
    return {
        "metadata": {"name": "a", "uid": "u", "labels": labels},
        "status": {
            "phase": phase,
            "containerStatuses": [{"name": "worker", "state": state}],
            **status,
        },
    }


def test_rows_shards_queue_and_leases_of_a_job_at_work() -> None:
    running = body(
        phase="Running",
        rows={"total": 10, "done": 4, "failed": 1},
        shards={"total": 5, "done": 2},
        conditions=[{"type": "Running", "status": "True", "reason": "Answering"}],
    )
    looked = RunSeen(NOW_S, run_id="r", num_leased=2, num_waiting=1)
    assert values(job_samples({KEY: running}, {KEY: looked}, NOW_S)) == {
        ("neva_job_phase", *KEY, "Running"): 1,
        ("neva_job_rows", *KEY, "open"): 6,
        ("neva_job_rows", *KEY, "answered"): 3,
        ("neva_job_rows", *KEY, "failed"): 1,
        ("neva_job_shards", *KEY, "open"): 3,
        ("neva_job_shards", *KEY, "committed"): 2,
        ("neva_job_condition", *KEY, "Running", "True", "Answering"): 1,
        ("neva_job_leases", *KEY): 2,
        ("neva_job_queue_messages", *KEY): 1,
    }


def test_a_look_that_saw_nothing_tells_no_counts() -> None:
    problem = RunSeen(NOW_S, problem=(ConditionReason.STORE_UNREACHABLE, "no"))
    assert values(job_samples({KEY: body()}, {KEY: problem}, NOW_S)) == {
        ("neva_job_phase", *KEY, "Pending"): 1
    }


@pytest.mark.parametrize(("ago_s", "shown"), [(10.0, True), (SHOWN_AFTER_END_S + 10, False)])
def test_a_job_that_is_over_is_shown_for_a_while(ago_s: float, shown: bool) -> None:
    ended = body(phase="Failed", finishTime=rfc3339(NOW_S - ago_s))
    assert bool(values(job_samples({KEY: ended}, {}, NOW_S))) is shown
    assert values(phase_samples({KEY: ended}))["neva_operator_jobs", "Failed"] == 1


def test_every_phase_has_a_series() -> None:
    assert values(phase_samples({})) == {("neva_operator_jobs", str(p)): 0 for p in Phase}


@pytest.mark.parametrize("reason", list(Reason))
def test_each_reason_is_a_label_of_pods_that_died_of_it_and_of_trouble(reason: Reason) -> None:
    ended = {"terminated": {"exitCode": 1, "message": f"{reason}: some words\n"}}
    assert values(failed_pod_samples([pod(ended), pod(ended)])) == {
        ("neva_operator_failed_pods", "worker", str(reason)): 2
    }
    looked = RunSeen(NOW_S, run_id="r", trouble=Trouble(str(reason), "words", True))
    found = values(job_samples({KEY: body()}, {KEY: looked}, NOW_S))
    assert found["neva_job_trouble", *KEY, str(reason)] == 1


@pytest.mark.parametrize("reason", list(ConditionReason))
def test_each_condition_reason_is_a_label(reason: ConditionReason) -> None:
    for kind in ConditionType:
        said = body(conditions=[{"type": str(kind), "status": "False", "reason": str(reason)}])
        found = values(job_samples({KEY: said}, {}, NOW_S))
        assert found["neva_job_condition", *KEY, str(kind), "False", str(reason)] == 1
    assert set(FolderCondition) == {"Ready", "Scanned"}


def test_pods_without_last_words_are_told_by_the_kubelets() -> None:
    killed = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    done = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    pods = [pod(killed), pod(done, "Succeeded"), pod({}, reason="Evicted")]
    assert values(failed_pod_samples(pods)) == {
        ("neva_operator_failed_pods", "worker", "OOMKilled"): 1,
        ("neva_operator_failed_pods", "worker", "Refused"): 1,
    }


def test_samples_are_of_the_operator() -> None:
    samples: list[Sample] = [
        *phase_samples({}),
        *job_samples({KEY: body(phase="Running")}, {}, NOW_S),
    ]
    assert {str(by) for sample in samples for by in sample.metric.by} == {"operator"}
