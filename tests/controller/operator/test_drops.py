"""Drop folders over HTTP: an emulated cluster, a real S3 protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from controller.operator.api import ApiError
from controller.operator.drop_metrics import folder_samples
from neva.conditions import ConditionReason as Why
from neva.ledger import layout
from neva.store import open_store
from neva.store.s3_client import current_environment, shared_client
from tests.controller.operator.drop_bench import NAME, NAMESPACE, DropBench
from tests.controller.runs import SUMMARY
from tests.kube.fixtures import Cluster

PROMPT = b'{"question_id": 1, "video": "a.mp4", "text": "?"}\n'


@pytest.fixture
def bench(emulated_cluster: Cluster, s3_bucket: str) -> Iterator[DropBench]:
    with emulated_cluster.client() as client:
        bench = DropBench(emulated_cluster, f"s3://{s3_bucket}/", client)
        yield bench
        bench.controller.close()


def writes(bench: DropBench) -> list[str]:
    """What was written to the cluster since the last call, reads left out."""
    assert bench.cluster.emulator is not None
    log = bench.cluster.emulator.requests
    told = [f"{r.verb} {r.path}" for r in log.all() if r.is_write]
    log.clear()
    return told


def test_a_file_becomes_a_job_and_is_moved_when_it_succeeded(bench: DropBench) -> None:
    bench.make_folder(template={"spec": {"model": {"uri": "s3://models/m/"}}})
    bench.inputs.put("a b.jsonl", PROMPT)
    bench.turn()
    [job] = bench.jobs().values()
    name = job["metadata"]["name"]
    assert job["spec"]["input"]["prompts"] == f"{bench.base}in/a b.jsonl"
    assert job["spec"]["output"]["uri"] == f"{bench.base}out/{name}/"
    assert bench.folder()["status"]["jobs"] == {"active": 1, "succeeded": 0, "failed": 0}
    bench.end("a b.jsonl")
    bench.turn()
    assert bench.files() == {f"done/{name}/a b.jsonl"}
    assert bench.folder()["status"]["jobs"] == {"active": 0, "succeeded": 1, "failed": 0}
    assert bench.condition("Ready") == ("True", Why.WATCHING)
    assert bench.condition("Scanned") == ("True", Why.SCAN_SUCCEEDED)


def test_a_folder_waits_for_its_marker_and_brings_its_media(bench: DropBench) -> None:
    bench.make_folder()
    bench.inputs.put("x/prompts.jsonl", PROMPT)
    bench.inputs.put("x/a.mp4", b"video")
    bench.turn()
    assert bench.jobs() == {}
    bench.inputs.put("x/_READY", b"")
    bench.turn()
    [job] = bench.jobs().values()
    assert job["spec"]["input"]["mediaBasePath"] == f"{bench.base}in/x/"
    name = bench.end("x/prompts.jsonl")
    bench.turn()
    moved = {f"done/{name}/{file}" for file in ("prompts.jsonl", "a.mp4", "_READY")}
    assert bench.files() == moved


def test_a_file_settles_before_it_runs(bench: DropBench) -> None:
    bench.make_folder(settleSeconds=3600)
    bench.inputs.put("a.jsonl", PROMPT)
    bench.turn()
    bench.turn(1800)
    assert bench.jobs() == {}
    bench.turn(1800)
    assert list(bench.jobs()) == ["a.jsonl"]


@pytest.mark.parametrize("action", ["move", "tag", "keep"])
def test_the_same_file_never_runs_twice_and_a_changed_one_does(
    bench: DropBench, action: str
) -> None:
    bench.make_folder(done={"action": action})
    bench.inputs.put("a.jsonl", PROMPT)
    bench.turn()
    first = bench.end("a.jsonl")
    bench.turn()
    bench.inputs.put("a.jsonl", PROMPT)
    for _ in range(2):
        bench.restart()
        bench.turn()
    assert [job["metadata"]["name"] for job in bench.jobs().values()] == [first]
    bench.delete(first)  # as its time to live does
    bench.restart()
    bench.turn()
    assert bench.jobs() == {}
    bench.inputs.put("a.jsonl", PROMPT * 2)
    bench.turn()
    [second] = [job["metadata"]["name"] for job in bench.jobs().values()]
    assert second != first


def test_a_succeeded_file_is_moved_even_when_its_job_is_gone(bench: DropBench) -> None:
    bench.make_folder()
    bench.inputs.put("a.jsonl", PROMPT)
    bench.turn()
    [job] = bench.jobs().values()
    name = job["metadata"]["name"]
    summary = json.dumps(SUMMARY).encode()
    open_store(f"{bench.base}out/{name}/").put(layout.SUMMARY, summary)
    bench.delete(name)
    bench.restart()
    bench.turn()
    assert bench.files() == {f"done/{name}/a.jsonl"}
    assert bench.jobs() == {}


def test_a_tagged_file_carries_its_jobs_name(bench: DropBench, s3_bucket: str) -> None:
    bench.make_folder(done={"action": "tag"})
    bench.inputs.put("a.jsonl", PROMPT)
    bench.turn()
    name = bench.end("a.jsonl")
    bench.turn()
    client = shared_client(current_environment())
    tags = client.get_object_tagging(Bucket=s3_bucket, Key="in/a.jsonl")["TagSet"]
    assert tags == [{"Key": "neva-batch.dev/job", "Value": name}]


def test_a_file_changed_while_its_job_ran_is_kept_and_runs(bench: DropBench) -> None:
    bench.make_folder()
    bench.inputs.put("a.jsonl", PROMPT)
    bench.turn()
    first = bench.end("a.jsonl")
    bench.inputs.put("a.jsonl", PROMPT * 2)
    bench.turn()
    assert bench.files() == {"a.jsonl"}
    assert bench.jobs()["a.jsonl"]["metadata"]["name"] != first


def test_a_bad_file_gets_its_errors_beside_it_until_it_is_corrected(bench: DropBench) -> None:
    bench.make_folder()
    bench.inputs.put("a.jsonl", b"no json\n")
    bench.turn()
    [job] = bench.jobs().values()
    outputs = open_store(job["spec"]["output"]["uri"])
    row = {"line": 1, "reason": "InvalidJson", "message": "no JSON", "record": "no json"}
    outputs.put(layout.ERRORS, json.dumps(row).encode() + b"\n")
    failed = {
        "type": "Validated",
        "status": "False",
        "reason": "PrepareFailed",
        "message": "1 of 1 rows are bad",
        "lastTransitionTime": "2027-01-01T00:00:00Z",
    }
    bench.end("a.jsonl", "Failed", (failed,))
    bench.turn()
    assert bench.files() == {"a.jsonl", "a.errors.json"}
    told = json.loads(bench.inputs.get("a.errors.json"))
    assert (told["reason"], told["message"]) == (
        Why.PREPARE_FAILED,
        "1 of 1 rows are bad",
    )
    assert told["errors"] == [{"line": 1, "reason": "InvalidJson", "message": "no JSON"}]
    bench.turn()
    assert len(bench.jobs()) == 1, "it is not tried again as it is"
    assert bench.folder()["status"]["jobs"]["failed"] == 1
    bench.inputs.put("a.jsonl", PROMPT)
    bench.turn()
    name = bench.end("a.jsonl")
    bench.turn()
    assert bench.files() == {f"done/{name}/a.jsonl"}


def test_no_more_jobs_at_a_time_than_the_limit_and_the_next_follows_at_once(
    bench: DropBench,
) -> None:
    bench.make_folder(concurrency=2)
    for number in range(4):
        bench.inputs.put(f"{number}.jsonl", PROMPT)
    bench.turn()
    bench.restart()  # a controller that has seen nothing must not make more, either
    bench.turn()
    assert len(bench.jobs()) == 2
    assert bench.condition("Scanned") == ("True", Why.AT_CONCURRENCY_LIMIT)
    bench.end(sorted(bench.jobs())[0])
    bench.turn(after_s=0.1)
    assert len(bench.jobs()) == 3


def test_a_suspended_folder_makes_no_jobs_but_takes_care_of_those_there_are(
    bench: DropBench,
) -> None:
    bench.make_folder()
    bench.inputs.put("a.jsonl", PROMPT)
    bench.turn()
    bench.change_folder(suspend=True)
    bench.inputs.put("b.jsonl", PROMPT)
    name = bench.end("a.jsonl")
    bench.turn()
    assert bench.files() == {"b.jsonl", f"done/{name}/a.jsonl"}
    assert bench.condition("Ready") == ("False", Why.FOLDER_SUSPENDED)
    bench.change_folder(suspend=False)
    bench.turn()
    assert "b.jsonl" in bench.jobs()


def test_a_quiet_folder_writes_nothing(bench: DropBench) -> None:
    bench.make_folder()
    bench.inputs.put("a.jsonl", PROMPT)
    bench.turn()
    writes(bench)
    for _ in range(5):
        bench.turn()
    assert writes(bench) == []
    bench.turn(after_s=300)
    assert len(writes(bench)) == 1, "the time of the last scan, now and then"


def test_a_job_that_is_there_already_is_as_good_as_made(bench: DropBench) -> None:
    """A controller died between making the job and hearing so."""
    bench.make_folder()
    bench.inputs.put("a.jsonl", PROMPT)
    bench.turn()
    bench.restart()
    bench.api.list_jobs_labelled = lambda *_: iter(())  # type: ignore[method-assign]
    bench.now_s += 30
    bench.controller.put(bench.folder())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("controller.drop.bucket.Bucket.folders", lambda self: set())
        bench.controller.process((NAMESPACE, NAME))
    assert len(bench.jobs()) == 1
    assert bench.folder()["status"]["jobs"]["active"] == 1


def test_a_template_that_makes_no_job_is_told(bench: DropBench) -> None:
    bench.make_folder()
    bench.inputs.put("a.jsonl", PROMPT)
    with pytest.MonkeyPatch.context() as patch:

        def refuse(body: Any) -> Any:
            raise ApiError(422, "spec.workers: no such quota")

        patch.setattr(bench.api, "create_job", refuse)
        bench.turn()
    assert bench.condition("Scanned") == ("False", Why.JOB_REFUSED)
    assert bench.folder()["status"]["jobs"]["failed"] == 1
    bench.turn()
    assert len(bench.jobs()) == 1
    assert bench.condition("Scanned") == ("True", Why.SCAN_SUCCEEDED)


def test_a_bucket_that_is_not_there_is_told_and_tried_again(bench: DropBench) -> None:
    bench.make_folder(uri="s3://no-such-bucket/in/")
    bench.tell()
    bench.take()
    assert bench.condition("Scanned") == ("False", Why.SCAN_FAILED)
    assert bench.controller.queue.take(wait_s=0.0) is None, "not at once"
    bench.now_s += 1
    assert bench.controller.queue.take(wait_s=0.0) == (NAMESPACE, NAME)


def test_a_folder_is_looked_at_again_after_its_pause(bench: DropBench) -> None:
    bench.make_folder(pollSeconds=30)
    bench.tell()
    bench.take()
    bench.now_s += 29
    assert bench.controller.queue.take(wait_s=0.0) is None
    bench.now_s += 1
    assert bench.controller.queue.take(wait_s=0.0) == (NAMESPACE, NAME)


def test_a_path_that_is_no_buckets_is_refused(bench: DropBench) -> None:
    bench.make_folder(uri="file:///in/")
    bench.turn()
    assert bench.condition("Ready") == ("False", Why.INVALID_SPEC)


def test_a_job_made_is_told_as_an_event(bench: DropBench) -> None:
    bench.make_folder()
    bench.inputs.put("a.jsonl", PROMPT)
    bench.turn()
    told = list(bench.api.list_events_of(NAMESPACE, bench.folder()["metadata"]["uid"]))
    [name] = [job["metadata"]["name"] for job in bench.jobs().values()]
    assert [(e["reason"], e["message"]) for e in told] == [
        (Why.JOB_CREATED, f"a.jsonl became {name}")
    ]


def test_a_deleted_folder_is_forgotten_and_its_jobs_go_on(bench: DropBench) -> None:
    made = bench.make_folder()
    bench.inputs.put("a.jsonl", PROMPT)
    bench.turn()
    bench.custom.delete_namespaced_custom_object(
        "neva-batch.dev", "v1alpha1", NAMESPACE, "dropfolders", "inbox"
    )
    bench.controller.put(made, deleted=True)
    bench.controller.process((NAMESPACE, NAME))
    assert len(bench.jobs()) == 1


class Cut(BaseException):
    """The controller is killed."""


def test_cutting_a_turn_short_anywhere_loses_and_doubles_nothing(bench: DropBench) -> None:
    """The controller dies before each of its requests in turn, to the cluster and to the store,
    and is started again."""
    bench.make_folder(concurrency=9)
    for key in ("0.jsonl", "1.jsonl", "x/prompts.jsonl", "x/_READY"):
        bench.inputs.put(key, PROMPT)
    client = shared_client(current_environment())
    left = 0

    def cut(**_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Cut

    def die_at_every_request() -> int:
        """How many requests an undisturbed turn made in the end."""
        nonlocal left
        for step in range(1, 80):
            bench.restart()
            bench.tell()
            left = step
            try:
                bench.process()
            except Cut:
                continue
            finally:
                step, left = step - left, 0
            return step
        raise AssertionError("never got through")

    client.meta.events.register("before-call.s3", cut, unique_id="cut")
    bench.before_request = cut
    try:
        assert die_at_every_request() > 0
        assert len(bench.jobs()) == 3
        for key in bench.jobs():
            bench.end(key)
        assert die_at_every_request() > 0
    finally:
        client.meta.events.unregister("before-call.s3", unique_id="cut")
    assert len(bench.jobs()) == 3
    names = {key: job["metadata"]["name"] for key, job in bench.jobs().items()}
    x = f"done/{names['x/prompts.jsonl']}"
    assert bench.files() == {
        f"done/{names['0.jsonl']}/0.jsonl",
        f"done/{names['1.jsonl']}/1.jsonl",
        f"{x}/prompts.jsonl",
        f"{x}/_READY",
    }


def test_the_metrics_tell_what_each_folder_is_at(bench: DropBench) -> None:
    bench.make_folder(concurrency=1)
    for name in ("a", "b", "c"):
        bench.inputs.put(f"{name}.jsonl", PROMPT)
    bench.turn()
    bench.end("a.jsonl", "Failed")
    bench.turn()
    figures = bench.controller.figures()
    values = {
        (sample.metric.name, *sample.labels): sample.value for sample in folder_samples(figures)
    }
    folder = f"{NAMESPACE}/{NAME}"
    prefix = "neva_drop_folder_"
    polled_s = values.pop((f"{prefix}last_poll_timestamp_seconds", folder))
    assert polled_s == figures[NAMESPACE, NAME].polled_s
    assert values == {
        (f"{prefix}files", folder): 3,
        (f"{prefix}files_settling", folder): 0,
        (f"{prefix}files_waiting", folder): 1,
        (f"{prefix}files_refused", folder): 0,
        (f"{prefix}jobs_started_total", folder): 2,
        (f"{prefix}jobs", folder, "active"): 1,
        (f"{prefix}jobs", folder, "succeeded"): 0,
        (f"{prefix}jobs", folder, "failed"): 1,
        (f"{prefix}failing", folder): 0,
        (f"{prefix}condition", folder, "Ready", "True", Why.WATCHING): 1,
        (f"{prefix}condition", folder, "Scanned", "True", Why.AT_CONCURRENCY_LIMIT): 1,
    }
