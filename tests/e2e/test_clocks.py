"""Two workers whose clocks are ten minutes apart, one of them killed: no row is lost or doubled."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from controller.merge import merge
from controller.reconciler import Reconciler
from controller.start import start_run
from neva import queue
from neva.job_file import load_job
from neva.lease import Leases
from neva.ledger import Ledger, Manifest
from tests.support.jobs import JobFolder
from tests.support.processes import celery_children

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

NUM_ROWS = 72
LEASE_S = 3
OFFSETS_S = (300, -300)
CODE = """
import os, time

real = time.time
offset_s = float(os.environ["TEST_CLOCK_OFFSET_S"])
time.time = lambda: real() + offset_s
"""


def test_clocks_ten_minutes_apart_and_a_kill(
    make_job: Callable[..., JobFolder],
    broker_url: str,
    redis_client: redis.Redis,
    tmp_path: Path,
    truth: dict[int, str],
) -> None:
    job = make_job()
    ledger = Ledger(job.output)
    manifest = start_run(load_job(job.folder / "job.yaml"), ledger, lambda *_: None)
    assert isinstance(manifest, Manifest)
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(CODE)
    workers = [start_worker(job, broker_url, tmp_path, offset_s) for offset_s in OFFSETS_S]
    rng = random.Random(5)
    victims = 0
    try:
        with queue.make_app(broker_url, manifest.run_id) as app:
            leases = Leases(redis_client, manifest.run_id, LEASE_S)
            reconciler = Reconciler(manifest, ledger, redis_client, app, leases, grace_s=LEASE_S)
            while not (progress := reconciler.step()).finished:
                assert all(worker.poll() is None for worker in workers)
                children = [p for worker in workers for p in celery_children(worker.pid)]
                if progress.num_done > 8 * (victims + 1) and victims < 3 and children:
                    os.kill(rng.choice(children).pid, signal.SIGKILL)
                    victims += 1
                time.sleep(0.1)
    finally:
        for worker in workers:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
    assert victims
    merged = merge(ledger, manifest)
    assert (merged.num_answered, merged.num_failed) == (NUM_ROWS, 0)
    rows = job.lines("outputs.jsonl")
    assert [row["question_id"] for row in rows] == list(range(NUM_ROWS))
    right = [row["response"] == truth[row["question_id"]] for row in rows]
    assert sum(right) / NUM_ROWS >= 0.9


def start_worker(
    job: JobFolder, broker_url: str, folder: Path, offset_s: int
) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder / "clock"),
        "TEST_CLOCK_OFFSET_S": str(offset_s),
        "NEVA_LEASE_TTL_S": str(LEASE_S),
        "NEVA_FLUSH_ROWS": "1",
        "NEVA_MAX_BATCH_ROWS": "2",
        "NEVA_REDIS_URL": broker_url,
        "NEVA_CACHE_DIR": str(job.folder / "cache"),
        "NEVA_SCRATCH_DIR": str(job.folder / f"s{offset_s}"),
        "OMP_NUM_THREADS": "1",
    }
    with (job.folder / f"worker{offset_s}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "worker", "--output", job.output.base_uri],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
