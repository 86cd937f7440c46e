"""Rows whose processing kills, hangs or swells a process cost their own budget, not the shard's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neva.ledger import Ledger
from neva.ledger.attempts import PastAttempt
from tests.support.jobs import JobFolder
from tests.support.poison import poisoned_path

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

NUM_ROWS = 64
MAX_ATTEMPTS = 2
QUICK = {
    "NEVA_LEASE_TTL_S": "2",
    "NEVA_HEARTBEAT_S": "0.5",
    "NEVA_RECONCILE_INTERVAL_S": "0.1",
    "NEVA_DECODE_TIMEOUT_S": "15",  # innocent media are in time on a loaded machine, too
    "NEVA_DECODE_MEMORY_BYTES": str(1 << 30),
    "NEVA_FLUSH_ROWS": "4",
}


@pytest.fixture
def make_poisoned(make_job: Callable[..., JobFolder], tmp_path: Path) -> Callable[..., JobFolder]:
    """One shard; `poison` says which of its rows is what."""

    def make(
        poison: dict[int, str],
        num_rows: int = NUM_ROWS,
        max_attempts: int = MAX_ATTEMPTS,
        **environment: str,
    ) -> JobFolder:
        path = poisoned_path(tmp_path / "poison")
        variables = {**QUICK, "PYTHONPATH": path, **environment}
        job = make_job(num_clips=4, max_rows=NUM_ROWS, environment=variables)
        rows: list[dict[str, Any]] = []
        for number in range(num_rows):
            name = poison.get(number)
            video = f"clip-{number % 4:03d}.mp4"
            if name is not None and not name.startswith("engine-"):
                shutil.copy(job.videos / video, job.videos / f"{name}.mp4")
                video = f"{name}.mp4"
            row_id = number if name is None else name
            rows.append({"question_id": row_id, "video": video, "text": "Which shape moves?"})
        job.write_prompts(rows)
        job.spec["media"] = {"decoder": "pyav"}  # no second try with another one
        job.spec["failure"] = {"failOnError": len(poison), "maxAttempts": max_attempts}
        job.write_job()
        return job

    return make


def run(job: JobFolder, poison: dict[int, str], num_rows: int = NUM_ROWS) -> dict[str, str]:
    """Run it; neighbours must be answered. Returns the reasons of the poisonous rows."""
    code, printed = job.run()
    assert code == 0, printed
    answered = [row["question_id"] for row in job.lines("outputs.jsonl")]
    assert answered == [n for n in range(num_rows) if n not in poison]
    errors = job.lines("errors.jsonl")
    assert [error["question_id"] for error in errors] == list(poison.values())
    return {error["question_id"]: error["reason"] for error in errors}


def deaths(job: JobFolder) -> list[PastAttempt]:
    ledger = Ledger(job.output)
    past = ledger.past_attempts(0, ledger.shard_state(0))
    assert all(attempt.counts for attempt in past)
    return [attempt for attempt in past if not attempt.finished.issuperset(attempt.row_ids)]


def logged(job: JobFolder, words: str) -> int:
    (log,) = [path.read_text() for path in job.folder.glob("cache/runs/*/worker.log")]
    return log.count(words)


def test_media_that_kill_hang_or_swell_their_decoder_and_a_row_that_kills_the_engine(
    make_poisoned: Callable[..., JobFolder],
) -> None:
    poison = {5: "decoder-segv", 20: "decoder-hang", 33: "engine-kill", 40: "decoder-swell"}
    job = make_poisoned(poison)
    assert run(job, poison) == {
        "decoder-segv": "DecoderCrashed",
        "decoder-hang": "MediaTimeout",
        "engine-kill": "EngineCrashed",
        "decoder-swell": "MediaTooLarge",
    }
    assert {row["attempt"] for row in job.lines("outputs.jsonl")} == {1}, "no attempt was spent"
    assert Ledger(job.output).shard_state(0).attempts == (1,)
    # Once in company, which makes it a suspect, then alone.
    assert logged(job, '"engine died"') == 1 + MAX_ATTEMPTS


def test_two_rows_that_kill_the_child_are_found_among_64_and_given_up_alone(
    make_poisoned: Callable[..., JobFolder],
) -> None:
    poison = {20: "child-kill-1", 50: "child-kill-2"}
    job = make_poisoned(poison)
    assert set(run(job, poison).values()) == {"WorkerCrashed"}
    died = deaths(job)
    # In company, then halving 64 rows down to one, the last of which is already alone.
    assert len(died) <= len(poison) * (MAX_ATTEMPTS + 6 + MAX_ATTEMPTS - 1)
    alone = [attempt.row_ids[0] for attempt in died if len(attempt.row_ids) == 1]
    assert set(alone) <= set(poison.values()), "no innocent row was killed alone"


@pytest.mark.slow
def test_a_row_that_hangs_the_child_in_foreign_code_is_ended_by_the_watchdog(
    make_poisoned: Callable[..., JobFolder],
) -> None:
    # Long enough for a decoding process to start on a loaded machine.
    job = make_poisoned({1: "child-hang"}, num_rows=3, max_attempts=1, NEVA_STALL_S="10")
    assert run(job, {1: "child-hang"}, num_rows=3) == {"child-hang": "WorkerCrashed"}
    assert 1 <= len(deaths(job)) <= 3
    # Its lease ends long before: by then another child may have the rows.
    assert logged(job, "no sign of life, killing it") >= 1
