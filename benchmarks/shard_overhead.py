"""What queue and ledger cost a shard, beside what the engine costs it.

The shard's way is the real one, but for the answers, which are there at once: its message through
Valkey, lease and heartbeat, input, claim, parts and commit on an S3 server (moto), and what the
controller reads of it, one step after the other and one shard after the other. The engine answers
a shard of as many rows on the demo model on one thread. What a worker hides of this behind other
shards is seen by `benchmarks.worker_idle`.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import boto3
import torch

from benchmarks.contenders import OurEngine
from benchmarks.scale_run import answered
from benchmarks.workloads import Workload, demo_workload
from controller.local.broker import EmbeddedBroker
from demo.s3_process import s3_process
from neva import queue
from neva.lease import Leases
from neva.ledger import FinishedRow, Ledger, ShardRow
from neva.local_model import LocalModel
from neva.settings import settings
from neva.store import open_store
from worker.config import WorkerConfig
from worker.engine import distributed
from worker.shard import Outcome, ShardWorker

ROWS = 64
_SHARDS = 20
_RUN = "bench"


class InstantAnswerer:
    """Has all answers at once."""

    def answer(
        self,
        rows: Iterable[ShardRow],
        attempt: int,
        finish: Callable[[FinishedRow], None],
        tick: Callable[[], None],
    ) -> None:
        for row in rows:
            tick()
            finish(answered(row))


def ledger_s() -> tuple[float, float]:
    """Medians of the seconds that queue and ledger take for one shard.

    Returns:
        (by the clock, of this process's computing); the rest is waiting for the two servers.
    """
    with ExitStack() as stack:
        bucket = stack.enter_context(s3_bucket())
        broker = stack.enter_context(EmbeddedBroker())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nv-")))
        client = stack.enter_context(queue.connect(broker.url))
        app = stack.enter_context(queue.make_app(broker.url, _RUN))
        messages = stack.enter_context(app.connection_for_read())
        consumer = stack.enter_context(messages.SimpleQueue(queue.queue_name(_RUN)))
        ledger = Ledger(open_store(f"s3://{bucket}/run/"))
        model: Any = LocalModel
        worker = ShardWorker(
            WorkerConfig("bench", "", "", model, 3, folder, folder, os.getpid()),
            settings(),
            ledger,
            Leases(client, _RUN, settings().lease_ttl_s),
            client,
            InstantAnswerer(),  # type: ignore[arg-type]
            max_attempts=3,
        )
        took_s, computed_s = [], []
        for number in range(_SHARDS):
            record = {"text": "What colour is the moving shape?", "video": f"{number}.mp4"}
            rows = [
                ShardRow(n, n + 1, str(n), record["text"], record["video"], record)
                for n in range(ROWS)
            ]
            plan = ledger.write_shard(number, rows)
            start_s, start_cpu_s = time.perf_counter(), time.process_time()
            queue.send(app, queue.ShardMessage(_RUN, number))
            message = consumer.get(timeout=10)
            outcome = worker.run(plan, message.delivery_tag)
            message.ack()
            ledger.read_commit(number)
            took_s.append(time.perf_counter() - start_s)
            computed_s.append(time.process_time() - start_cpu_s)
            assert outcome is Outcome.COMMITTED
        return median(took_s), median(computed_s)


def engine_s() -> float:
    """Seconds that the engine takes for one shard's rows, best of three."""
    with tempfile.TemporaryDirectory(prefix="nv-") as folder, ExitStack() as stack:
        torch.set_num_threads(1)
        ranks = distributed.join(0, 1, torch.device("cpu"), Path(folder) / "rendezvous")
        stack.callback(distributed.leave)
        whole = demo_workload("left", -(-ROWS // 3), Path(folder))
        workload = Workload(whole.name, whole.model_dir, whole.requests[:ROWS])
        engine = OurEngine(workload.model_dir, ranks)
        took_s = []
        for _ in range(3):
            start_s = time.perf_counter()
            engine.answer(workload)
            took_s.append(time.perf_counter() - start_s)
        return min(took_s)


@contextmanager
def s3_bucket() -> Iterator[str]:
    with s3_process() as url:
        os.environ.update(
            AWS_ENDPOINT_URL=url,
            AWS_ACCESS_KEY_ID="bench",
            AWS_SECRET_ACCESS_KEY="bench",
            AWS_REGION="us-east-1",
        )
        boto3.client("s3").create_bucket(Bucket="bench")
        yield "bench"
