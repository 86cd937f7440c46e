"""What the operator costs a cluster with many jobs: `python -m tests.operator.scale 200 2000`.

A real operator process over HTTP against the emulator. A change is a job that is deleted: looked
at, its children listed, its queue emptied, its finalizer taken off.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import kubernetes

from controller.local.broker import EmbeddedBroker
from tests.kube.emulator import Request
from tests.kube.fixtures import Cluster, running_cluster
from tests.operator.bench import GROUP, JOBS, Bench
from tests.support.processes import free_port

NUM_CHANGES = 20
IDLE_S = 20.0


@dataclass(frozen=True)
class Numbers:
    """Costs at one number of jobs."""

    num_jobs: int
    settled_s: float  # until the operator had looked at every new job
    requests_per_new_job: float
    requests_per_change: float
    turns_per_change: float
    ms_per_turn: float
    idle_requests_per_s: float


def measure(num_jobs: int, folder: Path, redis_url: str) -> Numbers:
    """Fill a cluster with suspended jobs, change some, then leave it alone."""
    with running_cluster(folder) as cluster, cluster.client() as client:
        bench = Bench(cluster, "default", folder, redis_url, "s3://nowhere", client)
        port = free_port()
        bench.config = {"metricsPort": port}
        for number in range(num_jobs):
            bench.apply(bench.manifest(f"job-{number:05d}", suspend=True))
        bench.start_operator()
        started_s = time.monotonic()
        bench.wait("every job is looked at", lambda: _num_suspended(bench) == num_jobs, 900)
        settled_s = time.monotonic() - started_s
        new = len(_asked(cluster)) / num_jobs
        _settle(cluster)
        before, turns, seconds = len(_asked(cluster)), *_turns(port)
        for number in range(NUM_CHANGES):
            bench.delete(f"job-{number:05d}")
        left = num_jobs - NUM_CHANGES
        bench.wait("the deleted are gone", lambda: _num_suspended(bench) == left, 900)
        _settle(cluster)
        changes = (len(_asked(cluster)) - before) / NUM_CHANGES
        more_turns, more_seconds = _turns(port)
        quiet = len(_asked(cluster, leases=True))
        time.sleep(IDLE_S)
        idle = (len(_asked(cluster, leases=True)) - quiet) / IDLE_S
        bench.stop_operator()
    return Numbers(
        num_jobs,
        settled_s,
        new,
        changes,
        (more_turns - turns) / NUM_CHANGES,
        1000 * (more_seconds - seconds) / max(more_turns - turns, 1),
        idle,
    )


def _asked(cluster: Cluster, *, leases: bool = False) -> list[Request]:
    """The operator's requests."""
    assert cluster.emulator is not None
    return cluster.emulator.requests.all(
        lambda r: r.user == "operator" and (leases or r.resource != "leases")
    )


def _settle(cluster: Cluster) -> None:
    """Wait until the operator has asked nothing for a while."""
    count = -1
    while count != (count := len(_asked(cluster))):
        time.sleep(3)


def _num_suspended(bench: Bench) -> int:
    custom = kubernetes.client.CustomObjectsApi(bench.client)
    found = custom.list_namespaced_custom_object(*GROUP, "default", JOBS)["items"]
    return sum((job.get("status") or {}).get("phase") == "Suspended" for job in found)


def _turns(port: int) -> tuple[float, float]:
    """(turns, seconds spent in them) so far, by the operator's metrics."""
    url = f"http://127.0.0.1:{port}/metrics"
    text = urllib.request.urlopen(url, timeout=10).read().decode()
    values = dict(line.split(" ") for line in text.splitlines() if not line.startswith("#"))
    return (
        float(values["neva_operator_reconciles_total"]),
        float(values["neva_operator_reconcile_seconds_total"]),
    )


def main() -> None:
    os.environ.setdefault("AWS_REGION", "us-east-1")
    with EmbeddedBroker() as broker:
        for num_jobs in map(int, sys.argv[1:] or ["200", "2000"]):
            with tempfile.TemporaryDirectory() as folder:
                print(measure(num_jobs, Path(folder), broker.url), flush=True)


if __name__ == "__main__":
    main()
