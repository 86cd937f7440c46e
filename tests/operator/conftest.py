"""The operator's bench: emulated or real cluster, real broker, S3 server, workers and judge."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from neva.store import open_store
from neva.tethered import tethered
from tests.e2e.conftest import clips, truth
from tests.kube.fixtures import Cluster, cluster, namespace
from tests.kube.kubelet import Kubelet
from tests.operator.bench import Bench

__all__ = ["bench", "clips", "cluster", "judge_url", "kubelet", "namespace", "truth"]

NUM_CLIPS = 8
# Slow and fine-grained, so that there is a middle to disturb.
WORKER_ENVIRONMENT = {
    "NEVA_FLUSH_ROWS": "1",
    "NEVA_ROWS_IN_FLIGHT": "2",
    "NEVA_MAX_BATCH_ROWS": "2",
    "NEVA_LEASE_TTL_S": "3",
    "NEVA_IDLE_EXIT_S": "3",
    "NEVA_DRAIN_S": "10",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture
def kubelet(cluster: Cluster, tmp_path: Path) -> Iterator[Kubelet]:
    (tmp_path / "kubelet").mkdir()
    # A socket's path is short; a pod's /tmp lies deep here.
    with tempfile.TemporaryDirectory(prefix="nv-", dir="/var/tmp") as scratch:
        environment = {**WORKER_ENVIRONMENT, "NEVA_SCRATCH_DIR": scratch}
        kubelet = cluster.kubelet(tmp_path / "kubelet", environment=environment)
        kubelet.start()
        yield kubelet
        kubelet.stop()


@pytest.fixture
def bench(
    cluster: Cluster,
    namespace: str,
    kubelet: Kubelet,
    broker_url: str,
    s3_bucket: str,
    clips: Path,
    tmp_path: Path,
) -> Iterator[Bench]:
    """A namespace with an operator, Secrets, and prompts about eight clips in a bucket."""
    base = f"s3://{s3_bucket}"
    store = open_store(f"{base}/")
    names = [f"clip-{number:03d}.mp4" for number in range(NUM_CLIPS)]
    for name in names:
        store.put_file(f"videos/{name}", clips / "videos" / name)
    for file in ("prompts.jsonl", "reference.jsonl"):
        lines = (clips / file).read_bytes().splitlines(keepends=True)
        store.put(file, b"".join(x for x in lines if _video(clips, x) in names))
    store.put("context.jsonl", (clips / "context.jsonl").read_bytes())
    with cluster.client() as client:
        bench = Bench(cluster, namespace, tmp_path, broker_url, base, client)
        bench.serve_metrics()
        bench.make_secrets()
        bench.start_operator()
        yield bench
        if bench.operator is not None and bench.operator.poll() is None:
            _let_go(bench)
            bench.stop_operator()
    shutil.rmtree(tmp_path / "kubelet" / "pods", ignore_errors=True)


def _let_go(bench: Bench) -> None:
    """Delete the jobs while there is an operator to take its finalizer off."""
    for job in bench._jobs():
        bench.delete(job["metadata"]["name"])
    bench.wait("the jobs are gone", lambda: not bench._jobs(), 60)


def _video(clips: Path, line: bytes) -> str:
    """The video that a prompt, or the question of an answer, is about."""
    record = json.loads(line)
    if "video" in record:
        return str(record["video"])
    asked = [json.loads(x) for x in (clips / "prompts.jsonl").read_bytes().splitlines()]
    return {a["question_id"]: str(a["video"]) for a in asked}[record["question_id"]]


@pytest.fixture
def judge_url(clips: Path, tmp_path: Path) -> Iterator[str]:
    """The demo's stand-in judge."""
    port_file = tmp_path / "judge.port"
    command = tethered([sys.executable, "-m", "demo.judge_server"])
    command += ["--truth", str(clips / "truth.jsonl"), "--port-file", str(port_file)]
    with subprocess.Popen(command) as process:
        deadline_s = time.monotonic() + 60
        while not port_file.exists():
            assert process.poll() is None and time.monotonic() < deadline_s
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port_file.read_text().strip()}/v1"
        process.terminate()
