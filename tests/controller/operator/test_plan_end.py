"""How a job ends, and what is written of it on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.operator.actions import (
    CreateChild,
    DeleteChild,
    DeleteJob,
    Plan,
    TellEvent,
    WriteStatus,
)
from controller.operator.names import Role
from controller.operator.status import rfc3339
from neva.conditions import ConditionReason as Why
from neva.conditions import Phase
from tests.controller.operator.examples import NOW_S, child, job, pod, run, seen, started
from tests.controller.operator.plans import condition, decide, has, only, status_of

# The end


def test_the_finish_begins_when_every_shard_is_committed() -> None:
    done = run(num_shards_done=10, num_done=100)
    lingering = child(Role.WORKER, 1)
    planned = decide(seen(job(started()), lingering, run=done))
    assert only(planned, CreateChild) == CreateChild(Role.FINISH)
    assert condition(planned, "Finished")[:2] == ("False", Why.FINISHING)
    assert not has(planned, DeleteChild), "workers end by themselves, and keep their logs"


def summary() -> dict[str, Any]:
    judge = {"num_judged": 99, "num_failed": 1}
    return {"state": "Succeeded", "rows": 100, "answered": 100, "judge": judge}


def test_a_finished_job_succeeds_with_score_and_outputs() -> None:
    judged = job(started(), judge={"against": ["s3://eval/a.jsonl"]})
    finish = child(Role.FINISH, complete=True, ended_s=NOW_S - 1)
    done = run(num_shards_done=10, num_done=100, summary=summary(), score="87.5")
    planned = decide(seen(judged, finish, run=done))
    status = status_of(planned)
    assert (status["phase"], status["score"]) == (Phase.SUCCEEDED, "87.5")
    assert status["outputs"] == "s3://eval/runs/kitchen/outputs.jsonl"
    assert condition(planned, "Finished")[:2] == ("True", Why.SUCCEEDED)
    assert condition(planned, "Judged") == ("True", Why.JUDGED, "99 judged, 1 failed")
    assert "eta" not in status


@pytest.mark.parametrize(
    ("words", "finished", "judged"),
    [
        ("TooManyFailedRows: 9 of 9 rows failed", Why.TOO_MANY_FAILED_ROWS, None),
        (
            "JudgeUnavailable: no scores",
            Why.FINISH_FAILED,
            ("False", Why.JUDGE_FAILED),
        ),
        ("LedgerCorrupt: part is gone", Why.FINISH_FAILED, None),
    ],
)
def test_a_finish_that_failed_says_why(
    words: str, finished: str, judged: tuple[str, str] | None
) -> None:
    finish = child(Role.FINISH, failure="PodFailurePolicy", ended_s=NOW_S - 1)
    dead = pod(finish, exit_code=3, last_words=words)
    done = run(num_shards_done=10)
    planned = decide(seen(job(started()), finish, pods=(dead,), run=done))
    assert condition(planned, "Finished")[1] == finished
    if judged is not None:
        assert condition(planned, "Judged")[:2] == judged


def test_a_finished_job_is_left_alone_until_its_time_is_over() -> None:
    ended = started(phase="Succeeded", finishTime=rfc3339(NOW_S - 60))
    assert decide(seen(job(ended))) == Plan()
    assert decide(seen(job(ended, ttlSecondsAfterFinished=90))) == Plan((), 30.0)
    assert decide(seen(job(ended, ttlSecondsAfterFinished=60))).actions == (DeleteJob(),)
    lingering = child(Role.WORKER, 1)
    assert has(decide(seen(job(ended), lingering)), DeleteChild)


# Writing


def test_a_status_is_written_only_when_it_changed() -> None:
    workers = child(Role.WORKER, 1)
    observed = seen(job(started()), workers, pods=(pod(workers, running=True),), run=run())
    written = status_of(decide(observed))
    again = replace(observed, job=job(written), status_written_s=NOW_S)
    assert not has(decide(again), WriteStatus)
    moved = replace(again, run=run(num_done=21), now_s=NOW_S + 4)
    planned = decide(moved)
    assert not has(planned, WriteStatus), "counts alone wait for their interval"
    assert planned.again_in_s is not None and planned.again_in_s <= 6
    assert has(decide(replace(moved, now_s=NOW_S + 10)), WriteStatus)
    stuck = replace(moved, pods=(pod(workers, unschedulable="no GPUs"),))
    assert has(decide(stuck), WriteStatus), "a transition doesn't wait"


def test_one_event_per_transition() -> None:
    first = decide(seen(job()))
    event = only(first, TellEvent)
    assert (event.reason, event.warning) == ("Preparing", False)
    assert only(decide(seen(job())), TellEvent).name == event.name, "told again, it is the same"
    written = status_of(first)
    later = seen(job(written), child(Role.PREPARE), now_s=NOW_S + 60)
    assert not has(decide(later), TellEvent)


def test_the_transition_time_changes_with_the_status_only() -> None:
    workers = child(Role.WORKER, 1)
    observed = seen(job(started()), workers, run=run(), pods=(pod(workers),))
    written = status_of(decide(observed))
    stuck = (pod(workers, unschedulable="no GPUs"),)
    later = replace(observed, job=job(written), now_s=NOW_S + 60, pods=stuck)
    queued = {c["type"]: c for c in status_of(decide(later))["conditions"]}["Queued"]
    assert queued["reason"] == Why.UNSCHEDULABLE
    assert queued["lastTransitionTime"] == rfc3339(NOW_S)


def test_conditions_say_what_is_not_waited_for_and_not_asked_for() -> None:
    done = run(num_shards_done=10, num_done=100)
    planned = decide(seen(job(started()), child(Role.WORKER, 1), run=done))
    assert condition(planned, "Queued")[:2] == ("False", Why.WORKERS_STARTED)
    assert condition(planned, "Running")[:2] == ("False", Why.ALL_ROWS_SETTLED)
    finish = child(Role.FINISH, complete=True, ended_s=NOW_S - 1)
    unjudged = {key: value for key, value in summary().items() if key != "judge"}
    ended = decide(seen(job(started()), finish, run=replace(done, summary=unjudged)))
    assert condition(ended, "Judged")[:2] == ("False", Why.NO_JUDGE)


def test_workers_that_load_the_model_say_so() -> None:
    workers = child(Role.WORKER, 1)
    starting = seen(job(started()), workers, pods=(pod(workers, running=True),), run=run())
    assert condition(decide(starting), "Running")[:2] == ("True", Why.STARTING_ENGINE)
    assert condition(decide(starting), "Finished")[:2] == ("False", Why.NOT_FINISHED)


def test_a_child_that_the_api_server_refuses_is_told_in_its_words() -> None:
    words = "admission webhook denied the request"
    refused = seen(job(started()), run=run(), creation_refused={Role.WORKER: words})
    assert condition(decide(refused), "Queued") == ("True", Why.POD_REFUSED, words)
