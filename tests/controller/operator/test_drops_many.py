"""Thousands of files in a prefix: what a poll costs, in requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from controller.drop.bucket import Bucket
from controller.drop.scan import find_drops
from demo.s3_server import S3Server
from neva.store.s3_client import current_environment, shared_client
from tests.controller.operator.drop_bench import DropBench
from tests.kube.fixtures import Cluster

NUM_FILES = 5000
BUCKET = "many"


@pytest.fixture
def bench(
    emulated_cluster: Cluster, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DropBench]:
    """A folder with thousands of files on a server of its own, which is filled from inside."""
    with S3Server() as server, emulated_cluster.client() as client:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
        shared_client(current_environment()).create_bucket(Bucket=BUCKET)
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        for number in range(NUM_FILES):
            backend.put_object(BUCKET, f"in/{number:05d}.jsonl", b"{}\n")
        bench = DropBench(emulated_cluster, f"s3://{BUCKET}/", client)
        yield bench
        bench.controller.close()


@pytest.fixture
def calls(bench: DropBench) -> Iterator[Counter[str]]:
    counted: Counter[str] = Counter()
    client = shared_client(current_environment())
    client.meta.events.register(
        "before-call.s3", lambda model, **_: counted.update([model.name]), unique_id="count"
    )
    yield counted
    client.meta.events.unregister("before-call.s3", unique_id="count")


def test_a_poll_of_5000_files_is_five_requests_and_a_job_two_more(
    bench: DropBench, calls: Counter[str]
) -> None:
    bench.make_folder(concurrency=4, done={"action": "keep"})
    bench.turn()
    # Five pages, one listing of outputBase, and a record for each of the four jobs.
    assert calls == {"ListObjectsV2": 6, "PutObject": 4}
    assert len(bench.jobs()) == 4
    calls.clear()
    assert bench.cluster.emulator is not None
    bench.tell()
    bench.cluster.emulator.requests.clear()
    bench.now_s += 30
    bench.process()
    assert calls == {"ListObjectsV2": 5}, "no request for any file"
    assert bench.cluster.emulator.requests.all() == []


def test_files_that_are_kept_are_known_after_a_restart_without_a_request_each(
    bench: DropBench, calls: Counter[str]
) -> None:
    bench.make_folder(concurrency=4, done={"action": "keep"})
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    drops = find_drops(
        Bucket(f"{bench.base}in/").list(),
        base_uri=f"{bench.base}in/",
        folder_name="inbox",
        marker="_READY",
        skip="done/",
    )
    for drop in drops:
        backend.put_object(BUCKET, f"out/{drop.name}/drop.json", b"{}")
    calls.clear()
    bench.turn()
    assert bench.jobs() == {}, "every one ran; their jobs are deleted"
    assert calls == {"ListObjectsV2": 10}
    calls.clear()
    bench.turn()
    assert calls == {"ListObjectsV2": 5}
