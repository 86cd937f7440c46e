"""What is done in every state a job can be seen in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.operator.actions import (
    CreateChild,
    DeleteChild,
    LookAtRun,
    LookForRefusals,
    PurgeRun,
    ScaleWorkers,
    SetFinalizer,
)
from controller.operator.names import Role
from controller.operator.seen import WorkloadSeen
from controller.operator.status import rfc3339
from neva.conditions import ConditionReason as Why
from neva.conditions import Phase
from neva.ledger.control import Order
from neva.reasons import Reason
from neva.trouble import Trouble
from tests.controller.operator.examples import NOW_S, child, job, pod, run, seen, started
from tests.controller.operator.plans import condition, decide, has, only, status_of

# Before the workers


def test_the_finalizer_comes_before_anything_else() -> None:
    planned = decide(seen(replace(job(), finalized=False)))
    assert planned.actions == (SetFinalizer(True),)


def test_a_new_job_is_prepared() -> None:
    planned = decide(seen(job()))
    assert only(planned, CreateChild) == CreateChild(Role.PREPARE)
    status = status_of(planned)
    assert (status["phase"], status["startTime"]) == (Phase.PREPARING, rfc3339(NOW_S))
    assert condition(planned, "Validated")[:2] == ("Unknown", Why.PREPARING)


def test_a_spec_that_cant_be_honoured_is_told_and_nothing_starts() -> None:
    bad = replace(job(), spec=None, problem="spec.model.quantization: is not supported")
    planned = decide(seen(bad))
    assert not has(planned, CreateChild)
    assert condition(planned, "Validated") == ("False", Why.INVALID_SPEC, bad.problem)
    status = status_of(planned)
    assert status["phase"] == Phase.FAILED
    assert "startTime" not in status, "so that the spec may be changed"
    mended = replace(job(), status=status, generation=2)
    assert has(decide(seen(mended)), CreateChild)


def test_a_job_suspended_from_the_start_is_left_alone() -> None:
    planned = decide(seen(job(suspend=True)))
    assert not has(planned, CreateChild)
    assert status_of(planned)["phase"] == Phase.SUSPENDED


@pytest.mark.parametrize(
    ("code", "words", "reason"),
    [
        (2, "InvalidCheckpoint: no config.json", Reason.INVALID_CHECKPOINT),
        (3, "TooManyBadRows: 5 of 9 rows are bad: 5 MediaNotFound", Reason.TOO_MANY_BAD_ROWS),
        (1, "Traceback (most recent call last)", Why.PREPARE_FAILED),
    ],
)
def test_why_prepare_failed_stands_in_validated(code: int, words: str, reason: str) -> None:
    prepare = child(Role.PREPARE, failure="PodFailurePolicy", ended_s=NOW_S - 1)
    dead = pod(prepare, exit_code=code, last_words=words, ended_s=NOW_S - 2)
    planned = decide(seen(job(), prepare, pods=(dead,)))
    status, told, message = condition(planned, "Validated")
    assert (status, told) == ("False", reason)
    assert words.partition(": ")[2] in message
    assert status_of(planned)["phase"] == Phase.FAILED
    assert condition(planned, "Finished")[:2] == ("True", Why.PREPARE_FAILED)


def test_the_ledger_is_looked_at_when_prepare_is_complete() -> None:
    prepare = child(Role.PREPARE, complete=True, ended_s=NOW_S - 1)
    assert has(decide(seen(job(), prepare)), LookAtRun)
    planned = decide(seen(job(), prepare, run=run(num_done=0, num_shards_done=0)))
    assert only(planned, CreateChild) == CreateChild(Role.WORKER, 1, 2, 0)
    status = status_of(planned)
    assert (status["phase"], status["runId"]) == ("Queued", "run")
    assert "workerRound" not in status, "its number is taken when it is there"
    assert condition(planned, "Validated")[:2] == ("True", Why.PREPARED)


# Workers


def test_no_more_workers_than_open_shards() -> None:
    crowd = job(started(), workers={"replicas": 50})
    planned = decide(seen(crowd, run=run()))
    assert only(planned, CreateChild).parallelism == 8


@pytest.mark.parametrize(
    ("pod_seen", "reason"),
    [
        (
            {"unschedulable": "0/3 nodes: 3 Insufficient nvidia.com/gpu."},
            Why.UNSCHEDULABLE,
        ),
        (
            {"waiting": ("ImagePullBackOff", "Back-off pulling image x")},
            Why.IMAGE_PULL_FAILED,
        ),
        (
            {"waiting": ("CreateContainerConfigError", 'secret "broker" not found')},
            Why.MISSING_SECRET,
        ),
        (
            {"waiting": ("CreateContainerConfigError", 'configmap "ca" not found')},
            Why.MISSING_CONFIG_MAP,
        ),
        ({"waiting": ("ContainerCreating", "")}, Why.WAITING_FOR_PODS),
        (
            {"phase": "Failed", "refused": "UnexpectedAdmissionError: no free device"},
            Why.WORKERS_FAILING,
        ),
    ],
)
def test_why_no_worker_runs_is_told(pod_seen: dict[str, Any], reason: str) -> None:
    workers = child(Role.WORKER, 1)
    planned = decide(seen(job(started()), workers, pods=(pod(workers, **pod_seen),), run=run()))
    assert status_of(planned)["phase"] == Phase.QUEUED
    status, told, message = condition(planned, "Queued")
    assert (status, told) == ("True", reason)
    words = pod_seen.get("unschedulable") or pod_seen.get("refused") or pod_seen["waiting"][1]
    assert words in message


def test_kueues_words_are_passed_on() -> None:
    workers = child(Role.WORKER, 1, suspended=True)
    words = "couldn't assign flavors: insufficient quota for nvidia.com/gpu"
    workload = WorkloadSeen(workers.uid, False, "Pending", words)
    planned = decide(seen(job(started()), workers, workloads=(workload,), run=run()))
    assert condition(planned, "Queued") == (
        "True",
        Why.WAITING_FOR_QUOTA,
        f"Kueue: {words}",
    )


def test_events_are_asked_for_when_there_are_no_pods_ever_more_seldom() -> None:
    workers = child(Role.WORKER, 1)
    observed = seen(job(started()), workers, run=run())
    assert only(decide(observed), LookForRefusals).uid == workers.uid
    asked = replace(observed, refusals_asked={workers.uid: (NOW_S - 30, 3)})
    planned = decide(asked)
    assert not has(planned, LookForRefusals)
    assert planned.again_in_s is not None and planned.again_in_s <= 10
    told = replace(
        asked, refusals={workers.uid: 'pods "x" is forbidden: exceeded quota: gpus, requested: 8'}
    )
    assert condition(decide(told), "Queued")[:2] == ("True", Why.WAITING_FOR_QUOTA)


def test_a_volume_that_cant_be_had_is_found_in_the_pods_events() -> None:
    workers = child(Role.WORKER, 1)
    stuck = pod(workers, waiting=("ContainerCreating", ""), uid="pod-1")
    observed = seen(job(started()), workers, pods=(stuck,), run=run())
    assert only(decide(observed), LookForRefusals).uid == "pod-1"
    words = 'MountVolume.SetUp failed for volume "storage-ca": configmap "ca" not found'
    told = replace(observed, refusals={"pod-1": words})
    assert condition(decide(told), "Queued") == ("True", Why.MISSING_CONFIG_MAP, words)


def test_progress_is_told_while_workers_run() -> None:
    workers = child(Role.WORKER, 1)
    looked = run(rows_per_s=12.34, eta_s=(300.0, 780.0), num_leased=1, num_failed=1)
    planned = decide(seen(job(started()), workers, pods=(pod(workers, running=True),), run=looked))
    status = status_of(planned)
    assert (status["phase"], status["rowsPerSecond"], status["eta"]) == ("Running", "12.3", "13m")
    assert status["rows"] == {"total": 100, "done": 20, "failed": 1}
    assert condition(planned, "Running") == (
        "True",
        Why.ANSWERING,
        "1 of 2 workers run; 20 of 100 rows at 12.3 rows/s, 5m to 13m left",
    )


def test_changed_replicas_are_followed_and_finished_shards_are_not() -> None:
    workers = child(Role.WORKER, 1, parallelism=2, replicas=2)
    more = seen(job(started(), workers={"replicas": 4}), workers, run=run())
    assert only(decide(more), ScaleWorkers) == ScaleWorkers(workers.name, 4, 4)
    tail = seen(job(started()), workers, run=run(num_shards_done=9))
    assert not has(decide(tail), ScaleWorkers), "a busy pod might be the one that is stopped"


def test_a_round_that_got_somewhere_is_followed_at_once() -> None:
    ended = child(Role.WORKER, 1, complete=True, ended_s=NOW_S - 5, shards_done=1)
    assert only(decide(seen(job(started()), ended, run=run())), CreateChild).round == 2


def test_a_round_that_got_nowhere_is_followed_after_a_pause() -> None:
    ended = child(Role.WORKER, 1, complete=True, ended_s=NOW_S - 5, shards_done=2)
    planned = decide(seen(job(started()), ended, run=run()))
    assert not has(planned, CreateChild)
    assert planned.again_in_s == pytest.approx(25, abs=0.1)


def test_the_ledger_is_asked_again_before_a_round_is_judged() -> None:
    ended = child(Role.WORKER, 1, complete=True, ended_s=NOW_S - 5, shards_done=2)
    planned = decide(seen(job(started()), ended, run=run()), looked_late=False)
    assert planned.actions == (LookAtRun(listing=True),)


def test_a_round_that_failed_after_progress_is_followed() -> None:
    ended = child(Role.WORKER, 3, failure="BackoffLimitExceeded", ended_s=NOW_S - 5, shards_done=1)
    assert only(decide(seen(job(started()), ended, run=run())), CreateChild).round == 4


def test_a_round_that_failed_without_progress_fails_the_job() -> None:
    ended = child(Role.WORKER, 1, failure="BackoffLimitExceeded", ended_s=NOW_S - 5, shards_done=2)
    dead = pod(ended, exit_code=137, exit_reason="OOMKilled", ended_s=NOW_S - 6)
    planned = decide(seen(job(started()), ended, pods=(dead,), run=run()))
    told = condition(planned, "Finished")
    assert told[:2] == ("True", Why.WORKERS_FAILED)
    assert "exit code 137 (OOMKilled)" in told[2]


def test_wrong_configuration_of_a_worker_fails_the_job_in_its_words() -> None:
    ended = child(Role.WORKER, 1, failure="PodFailurePolicy", ended_s=NOW_S - 5)
    dead = pod(ended, exit_code=64, last_words="InvalidCheckpoint: tensor x is missing\n")
    other = replace(pod(ended, exit_code=143), name="other", ended_s=NOW_S)
    planned = decide(seen(job(started()), ended, pods=(dead, other), run=run()))
    assert condition(planned, "Finished")[2] == "InvalidCheckpoint: tensor x is missing"


def test_more_failures_than_are_tolerated_end_the_job_early() -> None:
    workers = child(Role.WORKER, 1)
    strict = job(started(), failure={"failOnError": 3})
    planned = decide(seen(strict, workers, run=run(num_failed=4)))
    assert condition(planned, "Finished")[:2] == ("True", Why.TOO_MANY_FAILED_ROWS)
    assert only(planned, DeleteChild).name == workers.name
    assert only(planned, PurgeRun).run_id == "run"
    assert not has(decide(seen(strict, workers, run=run(num_failed=3))), DeleteChild)


def test_trouble_that_waiting_wont_mend_fails_the_job() -> None:
    workers = child(Role.WORKER, 1)
    denied = run(trouble=Trouble("StoreDenied", "403", retryable=False))
    assert status_of(decide(seen(job(started()), workers, run=denied)))["phase"] == Phase.FAILED
    away = run(trouble=Trouble("StoreUnavailable", "503", retryable=True))
    running = pod(workers, running=True)
    planned = decide(seen(job(started()), workers, pods=(running,), run=away))
    assert condition(planned, "Running")[:2] == ("True", Why.WORKERS_FAILING)


def test_nothing_is_decided_while_the_ledger_cant_be_seen() -> None:
    away = run(problem=(Why.STORE_UNREACHABLE, "503"))
    planned = decide(seen(job(started()), run=away))
    assert not has(planned, CreateChild)
    assert condition(planned, "Queued") == ("True", Why.STORE_UNREACHABLE, "503")


# Suspended, deleted, late


def test_a_run_that_an_order_suspends_has_no_workers_and_is_looked_at_until_it_is_lifted() -> None:
    workers = child(Role.WORKER, 1)
    suspended = run(order=Order.SUSPEND)
    planned = decide(seen(job(started()), workers, run=suspended))
    assert only(planned, DeleteChild).name == workers.name
    assert status_of(planned)["phase"] == Phase.SUSPENDED
    assert "neva resume s3://eval/runs/kitchen/" in condition(planned, "Queued")[2]
    long_ago = replace(suspended, looked_s=NOW_S - 60)
    planned = decide(seen(job(started(phase="Suspended")), run=long_ago))
    assert only(planned, LookAtRun)
    resumed = decide(seen(job(started(phase="Suspended")), run=run()))
    assert only(resumed, CreateChild).role is Role.WORKER


def test_a_run_that_an_order_cancels_is_over() -> None:
    workers = child(Role.WORKER, 1)
    planned = decide(seen(job(started()), workers, run=run(order=Order.CANCEL)))
    assert only(planned, DeleteChild).name == workers.name
    assert status_of(planned)["phase"] == Phase.FAILED
    assert condition(planned, "Finished")[:2] == ("True", Why.CANCELLED)


def test_a_retry_ends_early_by_the_share_of_the_whole_job_not_of_its_own_rows() -> None:
    retried = run(num_rows=10, num_done=5, num_failed=5, num_kept=990)
    assert status_of(decide(seen(job(started()), run=retried)))["phase"] != Phase.FAILED
    alone = replace(retried, num_kept=0)
    assert status_of(decide(seen(job(started()), run=alone)))["phase"] == Phase.FAILED


def test_suspending_deletes_the_workers_and_keeps_the_counts() -> None:
    workers = child(Role.WORKER, 1)
    planned = decide(seen(job(started(), suspend=True), workers, run=run()))
    assert only(planned, DeleteChild) == DeleteChild(workers.name, workers.uid)
    status = status_of(planned)
    assert (status["phase"], status["rows"]["done"]) == (Phase.SUSPENDED, 20)
    assert condition(planned, "Queued")[:2] == ("False", Why.SUSPENDED)
    assert not has(planned, PurgeRun)


def test_a_resumed_job_gets_the_next_round() -> None:
    resumed = job(started(phase="Suspended"))
    assert only(decide(seen(resumed, run=run())), CreateChild).round == 2


def test_a_deleted_job_loses_children_then_queue_then_finalizer() -> None:
    gone = replace(job(started()), deleted_s=NOW_S - 1)
    workers = child(Role.WORKER, 1)
    assert decide(seen(gone, workers)).actions == (DeleteChild(workers.name, workers.uid),)
    going = replace(workers, terminating=True)
    assert decide(seen(gone, going)).actions == ()
    left = pod(workers, running=True, terminating=True)
    assert decide(seen(gone, pods=(left,))).actions == ()
    lost = replace(gone, deleted_s=NOW_S - 1000)
    assert has(decide(seen(lost, pods=(left,))), SetFinalizer), "a lost node holds up nobody"
    assert decide(seen(gone)).actions == (PurgeRun("run"), SetFinalizer(False))
    assert decide(seen(lost)).actions == (SetFinalizer(False),), "nor does a broker that is gone"
    assert decide(seen(replace(gone, finalized=False))).actions == ()


def test_a_job_past_its_deadline_fails() -> None:
    late = job(started(startTime=rfc3339(NOW_S - 61)), activeDeadlineSeconds=60)
    workers = child(Role.WORKER, 1)
    planned = decide(seen(late, workers, run=run()))
    assert condition(planned, "Finished")[:2] == ("True", Why.DEADLINE_EXCEEDED)
    assert has(planned, DeleteChild)


def test_the_deadline_is_not_slept_over() -> None:
    late = job(started(startTime=rfc3339(NOW_S - 50)), activeDeadlineSeconds=60)
    workers = child(Role.WORKER, 1)
    planned = decide(seen(late, workers, run=run(), pods=(pod(workers),)))
    assert planned.again_in_s is not None and planned.again_in_s <= 10
