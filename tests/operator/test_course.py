"""The course of a job on a cluster: real operator, broker, object store, workers and judge."""

from __future__ import annotations

from typing import Any

import pytest

from demo.judge_server import MODEL as JUDGE_MODEL
from tests.operator.bench import Bench
from tests.operator.conftest import NUM_CLIPS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NUM_ROWS = NUM_CLIPS * 3


def check_answers(bench: Bench, name: str) -> None:
    ids = [row["question_id"] for row in bench.lines(name, "outputs.jsonl")]
    assert ids == sorted(set(ids)), "once, in order"
    assert len(ids) == NUM_ROWS
    assert bench.lines(name, "errors.jsonl") == []


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
    bench.apply(bench.manifest(judge=judge))
    status = bench.wait_phase("kitchen", "Succeeded", "Failed")
    assert status["phase"] == "Succeeded", status
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
    assert roles == {"prepare", "worker", "finish"}
