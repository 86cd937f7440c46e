"""One small real run, watched: real workers with a stub for an engine, S3's protocol, Valkey.

The first shards of each worker, with which its processes warm up, are left out of the time.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import redis

from controller.local.broker import EmbeddedBroker
from controller.pods import prepare_job
from controller.reconciler import Reconciler
from demo.s3_process import s3_process
from neva import queue
from neva.job_file import load_job
from neva.lease import Leases
from neva.ledger import Ledger
from neva.store import open_store
from neva.store.s3_client import current_environment, shared_client
from tests.chaos.jobs import JobKind, write_media
from tests.support.jobs import JobFolder
from tests.support.s3_proxy import S3Proxy, s3_proxy

_LEASE_TTL_S = 6.0
LOOK_S = 0.5
_READY_S = 240.0
_DONE_S = 600.0
_PROBES = 20
_KINDS = (
    (r"/shards/\d+/attempts/\d+/part-", "part"),
    (r"/shards/\d+/attempts/\d+/release", "release"),
    (r"/shards/\d+/attempts/\d+/claim", "claim"),
    (r"/shards/\d+/commit", "commit"),
    (r"/out/inputs/", "input"),
    (r"/out/timings/", "timings"),
    (r"/out/frames/", "frames"),
    (r"prefix=[^&]*out%2Fshards", "list shards"),
    (r"prefix=[^&]*out%2Fcontrol", "list control"),
    (r"/videos/|prefix=[^&]*videos", "media"),
)
_COMMIT = re.compile(r"/shards/\d+/commit\.json$")


@dataclass(slots=True)
class Watched:
    """What was seen of a run, between the moment when all workers stood ready and its end.

    Attributes:
        timed_rows, timed_s: from the first commit after the warming up to the last commit.
        read_s, write_s: medians of one small request to the store, just before.
        requests: the workers', by (method, kind); controller_requests: the controller's.
        redis_all_ops: commands, redis_cpu_s: the server's computing for them.
    """

    num_workers: int
    max_rows: int
    row_s: float
    num_shards: int
    whole_s: float = 0.0
    timed_shards: int = 0
    timed_s: float = 0.0
    read_s: float = 0.0
    write_s: float = 0.0
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    controller_requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    redis_all_ops: int = 0
    redis_cpu_s: float = 0.0
    redis_connections: int = 0


def kind_of(path: str) -> str:
    """What a request to the store is about."""
    return next((kind for pattern, kind in _KINDS if re.search(pattern, path)), "other")


def watch_run(
    num_workers: int, num_shards: int, max_rows: int, row_s: float, questions_per_clip: int = 12
) -> Watched:
    """Run `num_shards` shards of `max_rows` rows, which the stub answers `row_s` after asked."""
    seen = Watched(num_workers, max_rows, row_s, num_shards)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nv-")))
        url = stack.enter_context(s3_process())
        ours, theirs = (stack.enter_context(s3_proxy(url)) for _ in range(2))
        os.environ.update(
            AWS_ENDPOINT_URL=ours.url,
            AWS_ACCESS_KEY_ID="sim",
            AWS_SECRET_ACCESS_KEY="sim",
            AWS_REGION="us-east-1",
        )
        bucket = f"sim-{os.getpid()}-{time.monotonic_ns()}"
        shared_client(current_environment()).create_bucket(Bucket=bucket)
        broker = stack.enter_context(EmbeddedBroker())
        num_clips = -(-num_shards * max_rows // questions_per_clip)
        media = write_media(folder / "media", num_clips, questions_per_clip)
        _keep_good(media / "prompts.jsonl", num_shards * max_rows)
        kind = JobKind(media, row_s=row_s, max_rows=max_rows)
        job = kind.make(folder / "job", f"s3://{bucket}", {"AWS_ENDPOINT_URL": theirs.url})
        prepare_job(load_job(job.folder / "job.yaml"))
        _probe(seen, ours, f"s3://{bucket}/probe/")
        _run(seen, stack, job, broker.url, ours, theirs)
    return seen


def _keep_good(prompts: Path, num_rows: int) -> None:
    """Without the lines that are there to fail."""
    lines = prompts.read_bytes().splitlines(keepends=True)
    good = [line for line in lines if b"broken" not in line and b"gone" not in line]
    prompts.write_bytes(b"".join(good[:num_rows]))


def _probe(seen: Watched, proxy: S3Proxy, uri: str) -> None:
    """How long a small request takes here and now."""
    store = open_store(uri)
    reads, writes = [], []
    for number in range(_PROBES):
        started_s = time.perf_counter()
        store.put(f"{number}", b"x" * 500)
        writes.append(time.perf_counter() - started_s)
        started_s = time.perf_counter()
        store.head(f"{number}")
        reads.append(time.perf_counter() - started_s)
    seen.read_s, seen.write_s = median(reads), median(writes)


def _run(
    seen: Watched,
    stack: ExitStack,
    job: JobFolder,
    redis_url: str,
    ours: S3Proxy,
    theirs: S3Proxy,
) -> None:
    client = stack.enter_context(queue.connect(redis_url))
    ledger = Ledger(job.output)
    manifest = ledger.read_manifest()
    assert manifest is not None and len(manifest.shards) == seen.num_shards
    app = stack.enter_context(queue.make_app(redis_url, manifest.run_id))
    workers = [
        stack.enter_context(_worker(job, redis_url, number)) for number in range(seen.num_workers)
    ]
    _wait_until_ready(client, workers)
    before, first_at = _redis(client), len(theirs.seen)
    controller_at = len(ours.seen)
    leases = Leases(client, manifest.run_id, _LEASE_TTL_S)
    reconciler = Reconciler(manifest, ledger, client, app, leases, grace_s=_LEASE_TTL_S)
    started_s = time.time()
    reconciler.step()  # sends all messages
    while not reconciler.step().finished:
        seen.redis_connections = max(seen.redis_connections, _num_connections(client))
        if time.time() - started_s > _DONE_S or any(w.poll() is not None for w in workers):
            raise RuntimeError(f"the run does not end: {(job.folder / 'worker-0.log').read_text()}")
        time.sleep(LOOK_S)
    seen.whole_s = time.time() - started_s
    after = _redis(client)
    seen.redis_all_ops, seen.redis_cpu_s = after[0] - before[0], after[1] - before[1]
    for method, path, _ in theirs.seen[first_at:]:
        seen.requests[method, kind_of(path)] += 1
    for method, path, _ in ours.seen[controller_at:]:
        seen.controller_requests[method, kind_of(path)] += 1
    committed_s = sorted(at for path, at in theirs.put_at_s.items() if _COMMIT.search(path))
    num_warm = 4 * seen.num_workers
    seen.timed_shards = len(committed_s) - num_warm
    seen.timed_s = committed_s[-1] - committed_s[num_warm - 1]


@contextmanager
def _worker(job: JobFolder, redis_url: str, number: int) -> Iterator[subprocess.Popen[bytes]]:
    """A whole worker pod's processes, ended with the block."""
    environment = {
        **job.variables,
        "NEVA_REDIS_URL": redis_url,
        "NEVA_JOB": job.as_json(),
        "NEVA_SCRATCH_DIR": str(job.folder / f"s{number}"),
        "NEVA_TERMINATION_LOG": str(job.folder / f"{number}.words"),
    }
    (job.folder / f"s{number}").mkdir()
    with (job.folder / f"worker-{number}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.worker"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(client: redis.Redis, workers: list[subprocess.Popen[bytes]]) -> None:
    """Until every worker waits for messages."""
    deadline_s = time.monotonic() + _READY_S
    while int(client.info("clients")["blocked_clients"]) < len(workers):
        if time.monotonic() > deadline_s:
            raise RuntimeError("the workers do not get ready")
        time.sleep(0.3)


def _num_connections(client: redis.Redis) -> int:
    return int(client.info("clients")["connected_clients"]) - 2  # the controller's


def _redis(client: redis.Redis) -> tuple[int, float]:
    """(commands so far, the server's CPU seconds so far)."""
    stats, cpu = client.info("stats"), client.info("cpu")
    seconds = float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])
    return int(stats["total_commands_processed"]), seconds
