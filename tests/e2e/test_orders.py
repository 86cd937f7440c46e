"""`neva suspend`, `resume`, `cancel` and `status` beside a real `neva run`, and two of those."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from neva.ledger import Ledger
from tests.support.jobs import NEVA, JobFolder
from tests.support.processes import descendants, is_running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

NUM_ROWS = 36
# Slow and fine-grained, so that there is a middle to stop in.
SLOW = {
    "NEVA_FLUSH_ROWS": "1",
    "NEVA_ROWS_IN_FLIGHT": "1",
    "NEVA_MAX_BATCH_ROWS": "1",
    "NEVA_LEASE_TTL_S": "3",
}


def neva(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([NEVA, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def status(job: JobFolder) -> dict[str, Any]:
    code, printed = neva("status", str(job.folder / "out"), "-o", "json")
    assert code == 0, printed
    return dict(json.loads(printed))


def num_parts(job: JobFolder) -> int:
    return sum("/part-" in item.key for item in job.output.list("shards/"))


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline_s = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, f"the run ended early:\n{process.communicate()[0]}"
        assert time.monotonic() < deadline_s, "the moment never came"
        time.sleep(0.02)


def test_a_run_is_suspended_resumed_and_cancelled_and_finished_rows_stay_readable(
    make_job: Callable[..., JobFolder], truth: dict[int, str]
) -> None:
    job = make_job(num_clips=24, environment=SLOW)
    asked = [json.loads(line) for line in (job.folder / "prompts.jsonl").read_text().splitlines()]
    # More than are answered while `neva suspend` starts on a loaded machine.
    num_rows = 12 * len(asked)
    again = [{**row, "question_id": n + i * 72} for i in range(12) for n, row in enumerate(asked)]
    job.write_prompts(again)
    out = str(job.folder / "out")
    process = job.start()
    wait_until(lambda: num_parts(job) >= 3, process)
    assert status(job)["phase"] == "Running"
    below = descendants(process.pid)
    assert neva("suspend", out)[0] == 0
    printed, _ = process.communicate(timeout=40)
    assert process.returncode == 4, printed
    assert "is suspended; `neva resume" in printed
    assert not any(is_running(p.pid) for p in below), "nothing is left at work"
    ledger = Ledger(job.output)
    for number in range(num_rows // 6):
        state = ledger.shard_state(number)
        if state.attempts and not state.committed:
            assert state.attempts[-1] in state.released, "an order is nobody's fault"
    seen = status(job)
    assert seen["phase"] == "Suspended"
    kept = seen["rows"]["done"]
    assert 3 <= kept < num_rows
    code, printed = job.run()
    assert (code, "`neva resume" in printed) == (4, True), "it says how to go on"
    assert status(job)["rows"]["done"] == kept

    assert neva("resume", out)[0] == 0
    process = job.start()
    wait_until(lambda: num_parts(job) >= kept + 3, process)
    code, told = neva("cancel", out)
    assert code == 0, told
    printed, _ = process.communicate(timeout=40)
    assert process.returncode == 4, printed
    assert "was cancelled" in printed
    rows = job.lines("partial.jsonl")
    assert kept + 3 <= len(rows) < num_rows
    assert f"{len(rows)} of {num_rows} rows are answered" in told, "the last part was waited for"
    ids = [row["question_id"] for row in rows]
    assert ids == sorted(set(ids))
    right = [row["response"] == truth[row["question_id"] % 72] for row in rows]
    assert sum(right) / len(rows) >= 0.9
    assert job.output.head("outputs.jsonl") is None
    assert job.output.head("_SUCCESS") is None
    assert status(job)["phase"] == "Cancelled"
    code, printed = job.run()
    assert (code, "was cancelled" in printed) == (4, True)
    for order in ("suspend", "resume"):
        code, printed = neva(order, out)
        assert (code, "final" in printed) == (2, True)


def test_of_two_runs_of_one_job_one_works_and_the_other_takes_over_when_it_is_killed(
    make_job: Callable[..., JobFolder],
) -> None:
    job = make_job(num_clips=12, environment=SLOW)
    first, second = job.start(), job.start()
    wait_until(lambda: num_parts(job) >= 3, first)
    number = 1 if Ledger(job.output).store.head("control/runner-0002.json") is None else 2
    record = json.loads(job.output.get(f"control/runner-{number:04d}.json"))
    assert number == 1
    worker, watcher = (first, second) if record["pid"] == first.pid else (second, first)
    assert record["pid"] == worker.pid
    assert len(descendants(worker.pid)) > 3
    assert descendants(watcher.pid) == [], "it only watches"
    worker.kill()
    worker.communicate()
    printed, _ = watcher.communicate(timeout=120)
    assert watcher.returncode == 0, printed
    assert f"process {worker.pid} on {os.uname().nodename} runs this job" in printed
    assert [row["question_id"] for row in job.lines("outputs.jsonl")] == list(range(NUM_ROWS))
    assert status(job)["phase"] == "Succeeded"
    code, printed = neva("cancel", str(job.folder / "out"))
    assert (code, "is finished; nothing was changed" in printed) == (2, True)


@pytest.mark.slow
def test_a_runner_that_was_stopped_for_long_leaves_the_run_to_its_follower(
    make_job: Callable[..., JobFolder],
) -> None:
    job = make_job(num_clips=12, environment=SLOW)
    stopped = job.start()
    wait_until(lambda: num_parts(job) >= 2, stopped)
    os.kill(stopped.pid, signal.SIGSTOP)
    follower = job.start()
    wait_until(lambda: job.output.head("control/runner-0002.json") is not None, follower)
    os.kill(stopped.pid, signal.SIGCONT)
    ends = [process.communicate(timeout=150)[0] for process in (stopped, follower)]
    assert (stopped.returncode, follower.returncode) == (0, 0), ends
    assert "has taken" in ends[0]
    assert [row["question_id"] for row in job.lines("outputs.jsonl")] == list(range(NUM_ROWS))
    assert job.lines("errors.jsonl") == []
