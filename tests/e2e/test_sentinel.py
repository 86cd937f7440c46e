"""A job on an external Redis that Sentinels watch: its master is killed in the middle."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from neva.ledger import Ledger
from tests.support.jobs import JobFolder
from tests.support.sentinel import SentinelSet

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

NUM_CLIPS = 12
NUM_ROWS = 36
NUM_ROWS_BEFORE = 8


def test_shards_go_on_with_the_next_master(
    make_job: Callable[..., JobFolder], tmp_path: Path
) -> None:
    with SentinelSet(tmp_path / "servers") as servers, servers.server("replica") as replica:
        environment = {
            "NEVA_REDIS_URL": servers.url,
            "NEVA_FLUSH_ROWS": "1",
            "NEVA_ROWS_IN_FLIGHT": "1",
            "NEVA_MAX_BATCH_ROWS": "1",
            "NEVA_SHARDS_IN_FLIGHT": "1",
        }
        job = make_job(num_clips=NUM_CLIPS, environment=environment)
        process = job.start()
        while num_parts(job) < NUM_ROWS_BEFORE:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
        servers.fail_over()
        open_shards = num_open_shards(job)
        # Scripts reach a replica as what they wrote: these were a client's own.
        replica.config_resetstat()
        printed, _ = process.communicate(timeout=200)
        commands = replica.info("commandstats")

    assert process.returncode == 0, printed
    assert open_shards > 1, "it was killed in the middle"
    assert [row["question_id"] for row in job.lines("outputs.jsonl")] == list(range(NUM_ROWS))
    assert job.lines("errors.jsonl") == []
    assert commands["cmdstat_evalsha"]["calls"] > 0, "leases"
    assert commands["cmdstat_brpop"]["calls"] > 0, "messages"
    assert commands["cmdstat_zadd"]["calls"] > 0, "messages being worked on"


def num_parts(job: JobFolder) -> int:
    return sum("/part-" in item.key for item in job.output.list("shards/"))


def num_open_shards(job: JobFolder) -> int:
    return NUM_ROWS // job.max_rows - len(Ledger(job.output).committed_shards())
