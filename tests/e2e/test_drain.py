"""A worker that is told to stop ends within its grace period, whatever else is broken by then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis

from controller.local.broker import EmbeddedBroker
from controller.local.worker_process import STOP_GRACE_S
from controller.operator.pod_spec import GRACE_S
from controller.reconciler import Reconciler
from controller.start import start_run
from neva import queue
from neva.job_file import load_job
from neva.lease import Leases
from neva.ledger import Ledger, Manifest
from neva.settings import Settings
from tests.support.jobs import JobFolder
from tests.support.processes import celery_children, descendants, engine_ranks, is_running
from tests.support.s3_proxy import Fault, S3Proxy, s3_proxy
from worker.engine.launch import TERM_GRACE_S

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

# Slow and fine-grained, so that there is a middle to stop in.
SLOW = {
    "NEVA_FLUSH_ROWS": "1",
    "NEVA_ROWS_IN_FLIGHT": "1",
    "NEVA_MAX_BATCH_ROWS": "1",
    "NEVA_DRAIN_S": "5",
    "OMP_NUM_THREADS": "1",
}
# Its drain time, the engine's last seconds, and what a loaded machine takes to kill processes.
LONGEST_S = 5 + TERM_GRACE_S + 10


class Drain:
    """A worker at work on a run, and what becomes of it."""

    def __init__(self, job: JobFolder, redis_url: str) -> None:
        loaded = load_job(job.folder / "job.yaml")
        self.ledger = Ledger(job.output)
        manifest = start_run(loaded, self.ledger, lambda *_: None)
        assert isinstance(manifest, Manifest)
        self.manifest = manifest
        self.redis_url = redis_url
        self.client = queue.connect(redis_url)
        with queue.make_app(redis_url, manifest.run_id) as app:
            leases = Leases(self.client, manifest.run_id, 6)
            Reconciler(manifest, self.ledger, self.client, app, leases, grace_s=6).step()
        self.log = job.folder / "worker.log"
        environment = {
            **os.environ,
            **SLOW,
            "NEVA_REDIS_URL": redis_url,
            "NEVA_CACHE_DIR": str(job.folder / "cache"),
            "NEVA_SCRATCH_DIR": str(job.folder / "s"),
        }
        with self.log.open("wb") as log:
            self.worker = subprocess.Popen(
                [sys.executable, "-m", "worker", "--output", job.output.base_uri],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def num_rows_kept(self) -> int:
        states = (self.ledger.shard_state(plan.number) for plan in self.manifest.shards)
        return sum(len(refs) for state in states for refs in state.parts.values())

    def wait_for_rows(self, number: int) -> None:
        deadline_s = time.monotonic() + 120
        while self.num_rows_kept < number:
            assert self.worker.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline_s, self.log.read_text()
            time.sleep(0.02)

    def stop(self, signals: int = 1) -> float:
        """SIGTERM; returns the seconds it took to end, in order and with all its processes."""
        below = descendants(self.worker.pid)
        assert engine_ranks(self.worker.pid)
        started_s = time.monotonic()
        for _ in range(signals):
            self.worker.send_signal(signal.SIGTERM)
            time.sleep(0.2)
        assert self.worker.wait(GRACE_S) == 0, self.log.read_text()
        took_s = time.monotonic() - started_s
        assert not any(is_running(p.pid) for p in below), "engine and children are gone"
        assert took_s < LONGEST_S
        return took_s

    def kill(self) -> None:
        if self.worker.poll() is None:
            os.killpg(self.worker.pid, signal.SIGKILL)
            self.worker.wait()
        self.client.close()


@contextmanager
def draining(job: JobFolder, redis_url: str, num_rows: int = 3) -> Iterator[Drain]:
    drain = Drain(job, redis_url)
    try:
        drain.wait_for_rows(num_rows)
        yield drain
    finally:
        drain.kill()


def test_a_pods_grace_is_longer_than_all_that_a_worker_takes_to_stop() -> None:
    longest_s = Settings().drain_s + TERM_GRACE_S
    assert longest_s + 10 <= STOP_GRACE_S <= GRACE_S


def test_told_twice_to_stop_it_keeps_rows_and_gives_leases_and_messages_back(
    make_job: Callable[..., JobFolder], broker_url: str, redis_client: redis.Redis
) -> None:
    # Long shards: both that are in flight might have just ended.
    with draining(make_job(max_rows=36), broker_url) as drain:
        drain.stop(signals=2)
        states = [drain.ledger.shard_state(plan.number) for plan in drain.manifest.shards]
        unfinished = [state for state in states if not state.committed]
        assert any(state.attempts for state in unfinished), "it was stopped in the middle"
        for state in unfinished:
            assert set(state.attempts) == state.released, "no attempt counts as killed"
        leases = Leases(redis_client, drain.manifest.run_id, 6)
        assert leases.get_many(range(len(states))) == {}
        depth = queue.depth(redis_client, drain.manifest.run_id)
        assert (depth.ready, depth.unacked) == (len(unfinished), 0)
        assert not list((drain.log.parent / "s").glob("neva-worker-*")), "no scratch is left"


@pytest.mark.slow
def test_with_a_store_that_is_down(
    make_job: Callable[..., JobFolder],
    broker_url: str,
    redis_client: redis.Redis,
    s3_bucket: str,
    s3_endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with s3_proxy(s3_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with draining(make_job(bucket=f"s3://{s3_bucket}"), broker_url) as drain:
            _break(proxy)
            time.sleep(1)
            drain.stop()


def _break(proxy: S3Proxy) -> None:
    for method in ("GET", "PUT", "HEAD", "POST", "DELETE"):
        proxy.faults.append(Fault(method, times=1 << 30, status=503, code="SlowDown"))


@pytest.mark.slow
def test_with_an_engine_that_hangs(
    make_job: Callable[..., JobFolder], broker_url: str, redis_client: redis.Redis
) -> None:
    with draining(make_job(), broker_url) as drain:
        os.kill(engine_ranks(drain.worker.pid)[0].pid, signal.SIGSTOP)
        drain.stop()
        states = [drain.ledger.shard_state(plan.number) for plan in drain.manifest.shards]
        for state in states:
            assert state.committed or set(state.attempts) == state.released


@pytest.mark.slow
def test_with_a_broker_that_is_gone(make_job: Callable[..., JobFolder]) -> None:
    with EmbeddedBroker() as broker, draining(make_job(), broker.url) as drain:
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
        time.sleep(1)
        kept = drain.num_rows_kept
        drain.stop()
        assert drain.num_rows_kept >= kept


@pytest.mark.slow
def test_with_a_child_that_is_stopped(
    make_job: Callable[..., JobFolder], broker_url: str, redis_client: redis.Redis
) -> None:
    with draining(make_job(), broker_url) as drain:
        os.kill(celery_children(drain.worker.pid)[0].pid, signal.SIGSTOP)
        assert drain.stop() >= 5, "it is waited for, in vain"
