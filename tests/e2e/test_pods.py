"""The commands that a cluster's pods run, one after the other as a cluster would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from controller.reconciler import Reconciler
from neva import queue
from neva.lease import Leases
from neva.ledger import Ledger
from neva.store import open_store
from tests.support.jobs import NEVA, JobFolder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


class Pods:
    """Starts pods' commands for one job."""

    def __init__(self, job: JobFolder, redis_url: str) -> None:
        self.folder = job.folder
        data = yaml.safe_load((job.folder / "job.yaml").read_text())
        for block, key in (("input", "prompts"), ("input", "mediaBasePath"), ("output", "uri")):
            data["spec"][block][key] = f"{job.folder}/{data['spec'][block][key]}"
        self.data: dict[str, Any] = data
        self.redis_url = redis_url

    @property
    def output(self) -> str:
        return str(self.data["spec"]["output"]["uri"])

    @property
    def words(self) -> str:
        path = self.folder / "words"
        return path.read_text() if path.exists() else ""

    def start(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        (self.folder / "words").unlink(missing_ok=True)
        variables: Mapping[str, str] = {
            **os.environ,
            "NEVA_JOB": json.dumps(self.data),
            "NEVA_TERMINATION_LOG": str(self.folder / "words"),
            "NEVA_REDIS_URL": self.redis_url,
            "NEVA_CACHE_DIR": str(self.folder / "cache"),
            "NEVA_SCRATCH_DIR": str(self.folder / "s"),
            "OMP_NUM_THREADS": "1",
            **environment,
        }
        return subprocess.Popen([NEVA, *command], env=variables, stderr=subprocess.DEVNULL)

    def run(self, *command: str, **environment: str) -> int:
        return self.start(*command, **environment).wait(200)

    def reconciler(self, client: redis.Redis) -> Reconciler:
        ledger = Ledger(open_store(self.output))
        manifest = ledger.read_manifest()
        assert manifest is not None
        app = queue.make_app(self.redis_url, manifest.run_id)
        leases = Leases(client, manifest.run_id, 6)
        return Reconciler(manifest, ledger, client, app, leases, grace_s=6)


@pytest.fixture
def make_pods(make_job: Callable[..., JobFolder], broker_url: str) -> Callable[..., Pods]:
    return lambda **options: Pods(make_job(**options), broker_url)


def test_prepare_worker_and_finish_make_a_run(
    make_pods: Callable[..., Pods], redis_client: redis.Redis
) -> None:
    pods = make_pods(num_clips=4)
    assert pods.run("finish") == 2, "there is no run yet"
    assert pods.words.startswith("InvalidConfig: ")
    assert pods.run("prepare") == 0
    assert pods.run("prepare") == 0, "twice is once"
    reconciler = pods.reconciler(redis_client)
    reconciler.step()
    worker = pods.start("worker", "--until-done")
    while worker.poll() is None:
        reconciler.step()
        time.sleep(0.2)
    assert worker.returncode == 0
    assert reconciler.step().finished
    assert pods.run("finish") == 0
    store = open_store(pods.output)
    outputs = store.get("outputs.jsonl")
    assert len(outputs.splitlines()) == 12
    assert store.head("_SUCCESS") is not None
    assert pods.run("finish") == 0
    assert store.get("outputs.jsonl") == outputs


def test_a_worker_leaves_when_all_is_with_others_and_says_so_when_told_to_stop(
    make_pods: Callable[..., Pods], redis_client: redis.Redis
) -> None:
    pods = make_pods(num_clips=4)
    assert pods.run("prepare") == 0
    manifest = Ledger(open_store(pods.output)).read_manifest()
    assert manifest is not None
    worker = pods.start("worker", "--until-done")
    while not list(pods.folder.glob("s/neva-worker-*/worker.json")):
        assert worker.poll() is None
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 143
    for shard in range(len(manifest.shards)):
        redis_client.set(f"neva:{manifest.run_id}:lease:{shard}", "1 0 0")
    assert pods.run("worker", "--until-done", NEVA_IDLE_EXIT_S="2") == 0


def test_too_many_bad_rows_are_named(make_pods: Callable[..., Pods]) -> None:
    pods = make_pods(num_clips=2)
    for path in (pods.folder / "videos").iterdir():
        path.unlink()
    assert pods.run("prepare") == 3
    assert pods.words.startswith("TooManyBadRows: 6 of 6 rows are bad")
    assert "6 MediaNotFound" in pods.words


def test_a_bad_model_is_named(make_pods: Callable[..., Pods], tmp_path: Path) -> None:
    pods = make_pods(num_clips=1)
    (tmp_path / "model").mkdir()
    pods.data["spec"]["model"]["uri"] = str(tmp_path / "model")
    assert pods.run("prepare") == 2
    assert str(tmp_path / "model") in pods.words
