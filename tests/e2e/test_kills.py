"""Something is killed at a random moment: nothing is lost, nothing doubled, not a byte differs.

Moments are drawn in rows, not in seconds, so that a slow machine kills in the middle, too.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.jobs import JobFolder
from tests.support.processes import (
    Process,
    celery_children,
    descendants,
    engine_ranks,
    is_running,
    supervisors,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

NUM_ROWS = 72
# Slow and fine-grained, so that there is a middle to kill in.
ENVIRONMENT = {
    "NEVA_FLUSH_ROWS": "1",
    "NEVA_ROWS_IN_FLIGHT": "2",
    "NEVA_MAX_BATCH_ROWS": "2",
    "NEVA_LEASE_TTL_S": "3",
}

Victims = Callable[[subprocess.Popen[str]], list[Process]]


def brokers(pid: int) -> list[Process]:
    return [p for p in descendants(pid) if "valkey-server" in p.command]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Filled by the first test: the outputs of a run that nobody disturbed."""
    return {}


def answers(job: JobFolder) -> list[dict[str, Any]]:
    """The outputs but for `attempt` and the model's path, which are a run's own."""
    rows = job.lines("outputs.jsonl")
    for row in rows:
        del row["attempt"]
    return rows


def num_parts(job: JobFolder) -> int:
    return len(list((job.folder / "out" / "shards").glob("*/attempts/*/part-*.jsonl")))


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    deadline_s = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, f"the run ended early:\n{process.communicate()[0]}"
        assert time.monotonic() < deadline_s, "the moment never came"
        time.sleep(0.002)


def check(job: JobFolder, undisturbed: dict[str, Any]) -> None:
    rows = answers(job)
    assert [row["question_id"] for row in rows] == list(range(NUM_ROWS)), "all, once, in order"
    assert rows == undisturbed["rows"]
    assert job.lines("errors.jsonl") == []
    code, printed = job.run()
    assert code == 0
    assert "is finished; nothing was changed" in printed


def test_an_undisturbed_run(
    make_job: Callable[..., JobFolder], undisturbed: dict[str, Any], truth: dict[int, str]
) -> None:
    job = make_job(tensor_parallel_size=2)
    code, printed = job.run()
    assert code == 0, printed
    undisturbed["rows"] = answers(job)
    right = [row["response"] == truth[row["question_id"]] for row in undisturbed["rows"]]
    assert sum(right) / NUM_ROWS >= 0.9
    check(job, undisturbed)


@pytest.mark.parametrize("seed", range(3))
def test_the_runner_is_killed(
    make_job: Callable[..., JobFolder], undisturbed: dict[str, Any], seed: int
) -> None:
    job = make_job(tensor_parallel_size=2, environment=ENVIRONMENT)
    moment = random.Random(seed).randrange(NUM_ROWS)
    process = job.start()
    wait_until(lambda: (job.folder / "out" / "manifest.json").exists(), process)
    wait_until(lambda: num_parts(job) >= moment, process)
    below = descendants(process.pid)
    assert below, "there is a worker to orphan"
    process.kill()
    process.communicate()
    deadline_s = time.monotonic() + 10
    while any(is_running(p.pid) for p in below):
        assert time.monotonic() < deadline_s, "processes outlive the runner"
        time.sleep(0.02)
    kept = num_parts(job)
    code, printed = job.run()
    assert code == 0, printed
    if kept:
        attempts = [row["attempt"] for row in job.lines("outputs.jsonl")]
        assert attempts.count(1) >= kept, "rows that were written are not computed again"
    check(job, undisturbed)


@pytest.mark.parametrize(
    ("who", "find", "seed"),
    [
        ("a Celery child", celery_children, 10),
        ("a Celery child", celery_children, 11),
        ("an engine rank", engine_ranks, 20),
        ("an engine rank", engine_ranks, 21),
        ("the supervisor", supervisors, 30),
        ("the broker", brokers, 40),
    ],
)
def test_a_process_of_the_run_is_killed_and_the_run_goes_on(
    make_job: Callable[..., JobFolder],
    undisturbed: dict[str, Any],
    who: str,
    find: Callable[[int], list[Process]],
    seed: int,
) -> None:
    job = make_job(tensor_parallel_size=2, environment=ENVIRONMENT)
    rng = random.Random(seed)
    moment = rng.randrange(NUM_ROWS - 8)
    process = job.start()
    wait_until(lambda: (job.folder / "out" / "manifest.json").exists(), process)
    wait_until(lambda: num_parts(job) >= moment and find(process.pid), process)
    victim = rng.choice(find(process.pid))
    os.kill(victim.pid, signal.SIGKILL)
    printed, _ = process.communicate(timeout=200)
    assert process.returncode == 0, f"after {who} was killed at row {moment}:\n{printed}"
    check(job, undisturbed)


def test_a_run_stopped_in_order_keeps_every_finished_row(
    make_job: Callable[..., JobFolder], undisturbed: dict[str, Any]
) -> None:
    job = make_job(tensor_parallel_size=2, environment={**ENVIRONMENT, "NEVA_FLUSH_ROWS": "5"})
    process = job.start()
    wait_until(lambda: num_parts(job) >= 4, process)
    below = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert "the same command goes on" in printed
    assert not any(is_running(p.pid) for p in below)
    releases = list((job.folder / "out" / "shards").glob("*/attempts/*/release.json"))
    assert [json.loads(path.read_bytes())["reason"] for path in releases] == ["Drained"] * 2
    code, printed = job.run()
    assert code == 0, printed
    check(job, undisturbed)


def test_nothing_is_left_in_shared_memory() -> None:
    assert list(Path("/dev/shm").glob("neva-worker-*")) == []
