"""The course of a job on a cluster: real operator, broker, object store, workers and judge."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import redis

from demo.judge_server import MODEL as JUDGE_MODEL
from tests.dashboards.check import without_data
from tests.dashboards.exported import TARGET, Exported, pod_target, scraping
from tests.kube.kubelet import Kubelet
from tests.operator.bench import AWS_VARIABLES, Bench
from tests.operator.conftest import NUM_CLIPS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

NUM_ROWS = NUM_CLIPS * 3
SUCCEEDED = re.compile(r'neva_job_phase{.*phase="Succeeded"} 1')


def check_answers(bench: Bench, name: str) -> None:
    ids = [row["question_id"] for row in bench.lines(name, "outputs.jsonl")]
    assert ids == sorted(set(ids)), "once, in order"
    assert len(ids) == NUM_ROWS
    assert bench.lines(name, "errors.jsonl") == []


def make_empty_folder(bench: Bench) -> None:
    spec = {k: v for k, v in bench.manifest()["spec"].items() if k not in ("output", "input")}
    spec["input"] = {"mediaBasePath": f"{bench.bucket}/videos/"}
    bench.make_folder("inbox", {"template": {"spec": spec}})


def check_metrics(bench: Bench, pages: dict[str, list[str]]) -> None:
    """Every panel has data, and the counts are those of the run.

    What a pod counts after the last scrape goes with it, so its sums may lack the end.
    """
    exported = Exported()
    labels = bench.children()[0]["spec"]["template"]["metadata"]["labels"]
    for role in ("finish", "worker"):
        target = pod_target(bench.namespace, {**labels, "neva-batch.dev/role": role})
        for page in pages[role]:
            exported.add(page, target)
    for page in pages["operator"]:
        exported.add(page, TARGET)
    if folder := os.environ.get("NEVA_TEST_EXPORTED"):
        Path(folder, "page").write_text(exported.page(), encoding="utf-8")
        Path(folder, "namespace").write_text(bench.namespace, encoding="utf-8")
    assert without_data(exported, bench.namespace, "kitchen") == []
    total = exported.total
    assert 0 < total("neva_rows_answered_total") <= NUM_ROWS
    assert 0 < total("neva_shards_total", outcome="committed") <= NUM_ROWS // 6
    assert 0 < total("neva_media_total", source="prepared") <= NUM_CLIPS
    assert total("neva_answer_tokens_total") <= total("neva_engine_generated_tokens_total")
    assert 0 < total("neva_engine_vision_passes_total") <= NUM_CLIPS
    assert total("neva_engine_starts_total") == total("neva_consumer_starts_total") == 1
    assert total("neva_stage_seconds_total", stage="engine") > 0
    assert total("neva_store_requests_total", operation="PutObject") > 0
    assert 0 < total("neva_judge_requests_total", outcome="replied") <= 2 * NUM_ROWS
    assert total("neva_judge_tokens_total", kind="prompt") > 0
    assert total("neva_job_rows", state="answered") == NUM_ROWS
    assert total("neva_job_condition", type="Finished", reason="Succeeded", status="True") == 1


def test_a_job_is_answered_judged_and_reported(
    bench: Bench, judge_url: str, truth: dict[int, str]
) -> None:
    bench.secret("judge-key", {"API_TOKEN": "any"})
    judge: dict[str, Any] = {
        "endpoint": judge_url,
        "model": JUDGE_MODEL,
        "apiKeySecret": "judge-key",
        "context": f"{bench.bucket}/context.jsonl",
        "against": [f"{bench.bucket}/reference.jsonl"],
    }
    make_empty_folder(bench)
    with scraping(bench.metrics_urls) as pages:
        bench.apply(bench.manifest(judge=judge))
        status = bench.wait_phase("kitchen", "Succeeded", "Failed")
        bench.wait("the end is exported", lambda: SUCCEEDED.search(pages["operator"][-1]))
    assert status["phase"] == "Succeeded", status
    check_metrics(bench, pages)
    check_answers(bench, "kitchen")
    rows = bench.lines("kitchen", "outputs.jsonl")
    assert sum(row["response"] == truth[row["question_id"]] for row in rows) >= 0.9 * NUM_ROWS
    assert status["rows"] == {"total": NUM_ROWS, "done": NUM_ROWS, "failed": 0}
    assert status["shards"]["done"] == status["shards"]["total"] == NUM_ROWS // 6
    assert float(status["score"]) > 0
    assert status["outputs"] == f"{bench.bucket}/runs/kitchen/outputs.jsonl"
    assert bench.output("kitchen").head("report.html") is not None
    conditions = {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}
    assert conditions["Validated"] == ("True", "Prepared")
    assert conditions["Finished"] == ("True", "Succeeded")
    assert conditions["Judged"] == ("True", "Judged")
    told = [event["message"].split(":")[0] for event in bench.events()]
    for phase in ("Preparing", "Queued", "Running", "Finishing", "Succeeded"):
        assert phase in told
    roles = {c["metadata"]["labels"]["neva-batch.dev/role"] for c in bench.children()}
    # Workers that are still leaving at the end are deleted.
    assert roles | {"worker"} == {"prepare", "worker", "finish"}


@pytest.mark.operator
def test_suspending_frees_the_workers_and_keeps_finished_rows(bench: Bench) -> None:
    bench.apply(bench.manifest())
    bench.wait("some rows", lambda: bench.num_parts("kitchen") >= 2)
    bench.patch("kitchen", {"suspend": True})
    bench.wait_phase("kitchen", "Suspended")
    bench.wait("no worker is left", lambda: not bench.pods("worker"))
    kept = bench.num_parts("kitchen")
    bench.patch("kitchen", {"suspend": False})
    status = bench.wait_phase("kitchen", "Succeeded", "Failed")
    assert status["phase"] == "Succeeded", status
    assert status["workerRound"] == 2
    check_answers(bench, "kitchen")
    first = [row for row in bench.lines("kitchen", "outputs.jsonl") if row["attempt"] == 1]
    assert len(first) >= kept, "rows that were written are not computed again"


@pytest.mark.operator
def test_replicas_are_changed_while_it_runs(bench: Bench) -> None:
    def parallelism() -> list[int]:
        workers = [c for c in bench.children() if "-workers-" in c["metadata"]["name"]]
        return [c["spec"]["parallelism"] for c in workers]

    bench.apply(bench.manifest(workers={"backoffLimit": 0}))
    bench.wait("a worker", lambda: bench.running("worker"))
    bench.patch("kitchen", {"workers": {"replicas": 2}})
    bench.wait("another worker", lambda: len(bench.running("worker")) == 2)
    assert parallelism() == [2]
    bench.patch("kitchen", {"workers": {"replicas": 1}})
    # A quick machine is done before.
    bench.wait(
        "one worker is enough",
        lambda: parallelism() == [1] or bench.status("kitchen")["phase"] != "Running",
    )
    status = bench.wait_phase("kitchen", "Succeeded", "Failed")
    assert status["phase"] == "Succeeded", status
    assert status["workerRound"] == 1, "a worker that was told to stop has not failed"
    check_answers(bench, "kitchen")


@pytest.mark.operator
def test_a_deleted_job_leaves_no_children_and_all_outputs(bench: Bench) -> None:
    bench.apply(bench.manifest())
    bench.wait("some rows", lambda: bench.num_parts("kitchen") >= 2)
    run_id = bench.status("kitchen")["runId"]
    bench.delete("kitchen")
    bench.wait("the job is gone", lambda: bench.get("kitchen") is None)
    bench.wait("its children are gone", lambda: not bench.children() and not bench.pods())
    assert bench.num_parts("kitchen") >= 2
    assert bench.output("kitchen").head("manifest.json") is not None
    client = redis.Redis.from_url(bench.redis_url)
    left = [key for key in client.keys(f"*{run_id}*") if b":lease:" not in key]
    assert left == []
    client.close()


@pytest.mark.operator
def test_a_killed_worker_is_replaced(bench: Bench, kubelet: Kubelet) -> None:
    bench.apply(bench.manifest())
    bench.wait("some rows", lambda: bench.num_parts("kitchen") >= 2)
    victim = bench.running("worker")[0]["metadata"]["name"]
    pid = kubelet.pid(victim)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    bench.wait("another worker", lambda: len(bench.pods("worker")) == 2)
    assert bench.wait_phase("kitchen", "Succeeded", "Failed")["phase"] == "Succeeded"
    check_answers(bench, "kitchen")


@pytest.mark.operator
def test_a_bad_model_is_told_before_a_worker_starts(bench: Bench) -> None:
    bench.output("x").put("model/config.json", b"{}")
    bench.apply(bench.manifest(model={"uri": f"{bench.bucket}/runs/x/model/"}))
    status = bench.wait_phase("kitchen", "Succeeded", "Failed")
    assert status["phase"] == "Failed"
    validated = bench.condition("kitchen", "Validated")
    assert validated["status"] == "False"
    assert validated["reason"] in ("UnsupportedModel", "InvalidCheckpoint", "InvalidConfig")
    assert "config.json" in validated["message"]
    assert bench.pods("worker") == []


@pytest.mark.operator
def test_missing_media_are_told_before_a_worker_starts(bench: Bench) -> None:
    bench.apply(bench.manifest(input={"mediaBasePath": f"{bench.bucket}/nowhere/"}))
    assert bench.wait_phase("kitchen", "Succeeded", "Failed")["phase"] == "Failed"
    validated = bench.condition("kitchen", "Validated")
    assert (validated["status"], validated["reason"]) == ("False", "TooManyBadRows")
    assert f"{NUM_ROWS} MediaNotFound" in validated["message"]
    assert bench.pods("worker") == []


@pytest.mark.operator
def test_a_missing_secret_is_told_and_waited_for(bench: Bench) -> None:
    bench.apply(bench.manifest(storage={"secretName": "mine"}))

    def told() -> bool:
        return bench.condition("kitchen", "Validated").get("reason") == "MissingSecret"

    bench.wait("the missing Secret is told", told)
    assert "mine" in bench.condition("kitchen", "Validated")["message"]
    bench.secret("mine", {name: os.environ[name] for name in AWS_VARIABLES})
    bench.wait("it goes on", lambda: bench.status("kitchen").get("runId"))


@pytest.mark.operator
def test_no_node_with_gpus_is_told(bench: Bench, kubelet: Kubelet) -> None:
    kubelet.node.capacity = {"nvidia.com/gpu": 0}
    bench.apply(bench.manifest(workers={"gpusPerWorker": 1}))
    bench.wait_phase("kitchen", "Queued")
    # Nobody schedules on a control plane without nodes: there is nobody to say why, either.
    if not bench.cluster.is_real:

        def told() -> bool:
            return bench.condition("kitchen", "Queued").get("reason") == "Unschedulable"

        bench.wait("why no node fits", told)
        assert "Insufficient" in bench.condition("kitchen", "Queued")["message"]


@pytest.mark.operator
def test_a_job_past_its_deadline_fails_and_frees_what_it_held(
    bench: Bench, kubelet: Kubelet
) -> None:
    kubelet.unavailable_images.add("neva/controller:test")
    bench.apply(bench.manifest(activeDeadlineSeconds=5))
    bench.wait(
        "the image is told",
        lambda: bench.condition("kitchen", "Validated").get("reason") == "ImagePullFailed",
    )
    assert bench.wait_phase("kitchen", "Succeeded", "Failed")["phase"] == "Failed"
    assert bench.condition("kitchen", "Finished")["reason"] == "DeadlineExceeded"
    bench.wait("its children have gone", lambda: not bench.children() and not bench.pods())


@pytest.mark.operator
def test_a_finished_job_goes_when_its_time_is_over(bench: Bench) -> None:
    spec = {"input": {"mediaBasePath": f"{bench.bucket}/nowhere/"}, "ttlSecondsAfterFinished": 3}
    bench.apply(bench.manifest(**spec))
    bench.wait("it has gone", lambda: bench.get("kitchen") is None)
    bench.wait("its children have gone", lambda: not bench.children())
    assert bench.output("kitchen").head("errors.jsonl") is not None
