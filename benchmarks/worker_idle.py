"""How long a real worker's engine has no row while shard follows shard: the demo model, S3's
protocol (moto), Valkey, all settings as they are, two shards in flight.

Whatever leaves the engine without a row counts: queue and ledger, and media and prompts that are
not ready. The start and the end of the run, when there is nothing else to do, are left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.shard_overhead import ROWS, s3_bucket
from controller.local.broker import EmbeddedBroker
from controller.pods import prepare_job
from controller.reconciler import Progress, Reconciler
from demo.clips import write_clips
from neva import queue
from neva.job_file import load_job
from neva.lease import Leases
from neva.ledger import Ledger
from neva.settings import settings
from tests.support.jobs import JobFolder
from worker.engine.client import EngineClient, EngineLost
from worker.engine.protocol import EngineFigures

_SHARDS = 64
# Rows of a clip stand together: as many clips a shard as `demo_workload` has.
_CLIPS_PER_SHARD = -(-ROWS // 3)
_WARM_UP_SHARDS = 8
_LAST_SHARDS = 16  # more than get done between two looks: there is always a next one
_LIMIT_S = 300.0


def idle_s() -> tuple[float, float]:
    """(seconds without a row, seconds computing) of the engine, per shard of `ROWS` rows."""
    with ExitStack() as stack:
        bucket = stack.enter_context(s3_bucket())
        broker = stack.enter_context(EmbeddedBroker())
        job = _job(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nv-"))), bucket)
        prepare_job(load_job(job.folder / "job.yaml"))
        ledger = Ledger(job.output)
        manifest = ledger.read_manifest()
        assert manifest is not None
        client = stack.enter_context(queue.connect(broker.url))
        app = stack.enter_context(queue.make_app(broker.url, manifest.run_id))
        leases = Leases(client, manifest.run_id, settings().lease_ttl_s)
        grace_s = settings().lease_ttl_s
        reconciler = Reconciler(manifest, ledger, client, app, leases, grace_s=grace_s)
        stack.enter_context(_worker(job, broker.url))
        first = _look_when(job, reconciler, _WARM_UP_SHARDS)
        last = _look_when(job, reconciler, _SHARDS - _LAST_SHARDS)
        if last[0].num_shards_done > _SHARDS - 2 * settings().shards_in_flight:
            raise RuntimeError("the run was nearly over before it was looked at")
        num_shards = last[0].num_shards_done - first[0].num_shards_done
        idle_s, busy_s = last[1].idle_s - first[1].idle_s, last[1].busy_s - first[1].busy_s
        return idle_s / num_shards, busy_s / num_shards


def _look_when(
    job: JobFolder, reconciler: Reconciler, num_shards: int
) -> tuple[Progress, EngineFigures]:
    """What has become of the run, and the engine's figures, once so many shards are done."""
    deadline_s = time.monotonic() + _LIMIT_S
    while (progress := reconciler.step(listing=True)).num_shards_done < num_shards:
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"no {num_shards} shards: {job.folder}/worker.log")
        time.sleep(settings().reconcile_interval_s)
    return progress, _figures(job)


def _figures(job: JobFolder) -> EngineFigures:
    (socket,) = (job.folder / "s").glob("**/engine.sock")
    client = EngineClient(socket)
    try:
        return client.status(10.0).figures
    except EngineLost as lost:
        raise RuntimeError((job.folder / "worker.log").read_text()) from lost
    finally:
        client.close()


def _job(folder: Path, bucket: str) -> JobFolder:
    """A job in the bucket, whose shards ask about the same clips: once decoded, they are shared."""
    job = JobFolder(folder, max_rows=ROWS, bucket=f"s3://{bucket}")
    write_clips(folder, num_clips=_CLIPS_PER_SHARD, seed=5)
    asked = [json.loads(line) for line in (folder / "prompts.jsonl").read_bytes().splitlines()]
    job.write_prompts(
        {**prompt, "question_id": f"{shard}-{number}"}
        for shard in range(_SHARDS)
        for number, prompt in enumerate(asked[:ROWS])
    )
    (folder / "s").mkdir()
    job.upload()
    job.write_job()
    return job


@contextmanager
def _worker(job: JobFolder, redis_url: str) -> Iterator[None]:
    """A whole worker pod's processes, ended with the block."""
    environment = {**job.variables, "NEVA_REDIS_URL": redis_url, "NEVA_JOB": job.as_json()}
    with (
        (job.folder / "worker.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "worker", "--cpu"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            yield
        finally:
            process.terminate()
