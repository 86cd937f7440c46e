"""Something is killed at a random moment: nothing is lost, nothing doubled, not a byte differs.

Moments are drawn in rows, not in seconds, so that a slow machine kills in the middle, too.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neva.ledger import Ledger
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
ATTEMPT = re.compile(rb',"attempt":\d+')
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


def answers(job: JobFolder) -> list[bytes]:
    """The outputs' lines without `attempt`, which is a run's own. All else must not differ."""
    return [ATTEMPT.sub(b"", line) for line in job.output.get("outputs.jsonl").splitlines()]


def num_parts(job: JobFolder) -> int:
    return sum("/part-" in item.key for item in job.output.list("shards/"))


def has_manifest(job: JobFolder) -> bool:
    return job.output.head("manifest.json") is not None


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    deadline_s = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, f"the run ended early:\n{process.communicate()[0]}"
        assert time.monotonic() < deadline_s, "the moment never came"
        time.sleep(0.02)


def pixel_folders(pid: int) -> set[Path]:
    """Folders in shared memory that the workers below `pid` hold the locks of."""
    found: set[Path] = set()
    for supervisor in supervisors(pid):
        with contextlib.suppress(OSError):  # it ended in between
            links = [link.readlink() for link in Path(f"/proc/{supervisor.pid}/fd").iterdir()]
            found |= {link for link in links if link.match("/dev/shm/neva-worker-*")}
    return found


def check(job: JobFolder, undisturbed: dict[str, Any]) -> None:
    ids = [row["question_id"] for row in job.lines("outputs.jsonl")]
    assert ids == list(range(NUM_ROWS)), "all, once, in order"
    assert answers(job) == undisturbed["lines"]
    assert job.lines("errors.jsonl") == []
    code, printed = job.run()
    assert code == 0
    assert "is finished; nothing was changed" in printed
    assert list(job.folder.glob("s/*")) == [], "no scratch files are left"


@pytest.mark.baseline
def test_an_undisturbed_run(
    make_job: Callable[..., JobFolder], undisturbed: dict[str, Any], truth: dict[int, str]
) -> None:
    job = make_job(tensor_parallel_size=2)
    code, printed = job.run()
    assert code == 0, printed
    undisturbed["lines"] = answers(job)
    rows = job.lines("outputs.jsonl")
    right = [row["response"] == truth[row["question_id"]] for row in rows]
    assert sum(right) / NUM_ROWS >= 0.9
    check(job, undisturbed)


@pytest.mark.parametrize(
    ("seed", "on_s3"), [(0, False), pytest.param(1, False, marks=pytest.mark.slow), (2, True)]
)
def test_the_runner_is_killed(
    make_job: Callable[..., JobFolder],
    undisturbed: dict[str, Any],
    seed: int,
    on_s3: bool,
    request: pytest.FixtureRequest,
) -> None:
    bucket = f"s3://{request.getfixturevalue('s3_bucket')}" if on_s3 else None
    job = make_job(tensor_parallel_size=2, environment=ENVIRONMENT, bucket=bucket)
    moment = random.Random(seed).randrange(NUM_ROWS)
    process = job.start()
    wait_until(lambda: has_manifest(job), process)
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
    ("who", "find", "seed", "on_s3"),
    [
        pytest.param("a Celery child", celery_children, 10, False, marks=pytest.mark.slow),
        ("a Celery child", celery_children, 11, True),
        pytest.param("an engine rank", engine_ranks, 20, False, marks=pytest.mark.slow),
        ("an engine rank", engine_ranks, 21, True),
        ("the supervisor", supervisors, 30, False),
        ("the broker", brokers, 40, False),
    ],
)
def test_a_process_of_the_run_is_killed_and_the_run_goes_on(
    make_job: Callable[..., JobFolder],
    undisturbed: dict[str, Any],
    who: str,
    find: Callable[[int], list[Process]],
    seed: int,
    on_s3: bool,
    request: pytest.FixtureRequest,
) -> None:
    bucket = f"s3://{request.getfixturevalue('s3_bucket')}" if on_s3 else None
    job = make_job(tensor_parallel_size=2, environment=ENVIRONMENT, bucket=bucket)
    rng = random.Random(seed)
    moment = rng.randrange(NUM_ROWS - 8)
    process = job.start()
    wait_until(lambda: has_manifest(job), process)
    wait_until(lambda: num_parts(job) >= moment and find(process.pid), process)
    victim = rng.choice(find(process.pid))
    pixels = pixel_folders(process.pid)
    assert pixels or not os.access("/dev/shm", os.W_OK)
    os.kill(victim.pid, signal.SIGKILL)
    printed, _ = process.communicate(timeout=200)
    assert process.returncode == 0, f"after {who} was killed at row {moment}:\n{printed}"
    check(job, undisturbed)
    assert not any(folder.exists() for folder in pixels), "shared memory is left behind"


def test_a_rank_is_killed_while_it_loads_and_another_stopped_at_work(
    make_job: Callable[..., JobFolder], undisturbed: dict[str, Any]
) -> None:
    job = make_job(tensor_parallel_size=2, environment={**ENVIRONMENT, "NEVA_ENGINE_HANG_S": "5"})
    process = job.start()
    wait_until(lambda: len(engine_ranks(process.pid)) == 2, process)
    os.kill(engine_ranks(process.pid)[1].pid, signal.SIGKILL)
    wait_until(lambda: list(job.folder.glob("s/neva-worker-*/engine-end.txt")), process)
    (end,) = job.folder.glob("s/neva-worker-*/engine-end.txt")
    wait_until(lambda: "was killed by SIGKILL" in end.read_text(), process)
    wait_until(lambda: num_parts(job) >= 5, process)
    stopped = engine_ranks(process.pid)[1].pid
    os.kill(stopped, signal.SIGSTOP)
    printed, _ = process.communicate(timeout=200)
    assert process.returncode == 0, printed
    assert not is_running(stopped), "the watchdog ended it"
    check(job, undisturbed)


def test_a_child_stopped_for_good_does_not_keep_the_engine_from_the_others(
    make_job: Callable[..., JobFolder], undisturbed: dict[str, Any]
) -> None:
    # After an engine's death its rows are asked alone, which the stopped child's turn forbids.
    job = make_job(tensor_parallel_size=2, environment={**ENVIRONMENT, "NEVA_STALL_S": "8"})
    process = job.start()
    wait_until(lambda: num_parts(job) >= 4 and len(celery_children(process.pid)) == 2, process)
    stopped = celery_children(process.pid)[0].pid
    os.kill(stopped, signal.SIGSTOP)
    os.kill(engine_ranks(process.pid)[0].pid, signal.SIGKILL)
    printed, _ = process.communicate(timeout=200)
    assert process.returncode == 0, printed
    assert not is_running(stopped)
    (log,) = [path.read_text() for path in job.folder.glob("cache/runs/*/worker.log")]
    assert '"event": "child gives no sign of life, killing it"' in log
    check(job, undisturbed)


def test_a_run_stopped_in_order_keeps_every_finished_row(
    make_job: Callable[..., JobFolder], undisturbed: dict[str, Any]
) -> None:
    job = make_job(tensor_parallel_size=2, environment={**ENVIRONMENT, "NEVA_FLUSH_ROWS": "5"})
    process = job.start()
    wait_until(lambda: num_parts(job) >= 4, process)
    below = descendants(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert "the same command goes on" in printed
    assert not any(is_running(p.pid) for p in below)
    ledger = Ledger(job.output)
    states = [ledger.shard_state(number) for number in range(NUM_ROWS // 6)]
    interrupted = [state for state in states if state.attempts and not state.committed]
    assert interrupted, "it was stopped in the middle"
    for state in interrupted:
        assert state.attempts[-1] in state.released, "no attempt counts as killed"
    code, printed = job.run()
    assert code == 0, printed
    check(job, undisturbed)
