"""A job whose model is spread over pipeline stages: the same answers as with all on one rank."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.support.jobs import JobFolder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_two_stages_answer_as_one(make_job: Callable[..., JobFolder]) -> None:
    job = make_job(4)
    assert job.run()[0] == 0
    expected = job.lines("outputs.jsonl")
    assert len(expected) == 12
    job.pipeline_parallel_size = 2
    # Another number of stages may go on with a finished run, so this one needs its own folder.
    job.output_folder = "stages"
    job.write_job()
    code, printed = job.run()
    assert code == 0, printed
    assert job.lines("outputs.jsonl") == expected
    logs = [path.read_text() for path in (job.folder / "cache" / "runs").glob("*/worker.log")]
    events = [json.loads(line) for log in logs for line in log.splitlines() if line[:1] == "{"]
    started = [event["pids"] for event in events if event["event"] == "engine started"]
    assert sorted(len(pids) for pids in started) == [1, 2]
