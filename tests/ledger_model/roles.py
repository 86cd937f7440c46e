"""A worker's child and a controller: the real code, with the loops that Celery and `neva` put
around it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import orjson
import redis

import worker.heartbeat
import worker.shard
from controller.intake import take_in
from controller.merge import merge
from controller.reconciler import Reconciler
from controller.split import split
from neva.errors import NevaError
from neva.job_file import parse_job
from neva.lease import Leases
from neva.ledger import FinishedRow, Ledger, Manifest, ShardRow, layout
from neva.settings import Settings
from neva.spec import VideoNevaJob
from neva.store import StoreUnavailable
from tests.fakes.questions import AnyQuestion
from tests.ledger_model.scheduler import Process
from tests.ledger_model.shims import heartbeat_modules
from worker.part_writer import PartWriter
from worker.shard import Outcome, ShardWorker

if TYPE_CHECKING:
    from tests.ledger_model.world import World

LEASE_TTL_S = 6.0


def a_job(source: dict[str, str]) -> VideoNevaJob:
    return parse_job(
        {
            "apiVersion": "neva-batch.dev/v1alpha1",
            "kind": "VideoNevaJob",
            "metadata": {"name": "model"},
            "spec": {
                "model": {"uri": "/model"},
                "input": source,
                "output": {"uri": "/out"},
                "shards": {"maxRows": 4},
            },
        },
        "model",
    )


JOB = a_job({"prompts": "/prompts.jsonl", "mediaBasePath": "/videos"})
SETTINGS = Settings(heartbeat_s=1, stall_s=12, flush_interval_s=2, lease_ttl_s=LEASE_TTL_S)


def answer_to(row: ShardRow, attempt: int, neighbours: Sequence[ShardRow] = ()) -> dict[str, Any]:
    """The reference: what anybody answers at any time, whatever else is in the batch."""
    return {**row.record, "response": f"answer to {row.row_id}", "attempt": attempt}


def input_rows(num_rows: int) -> list[ShardRow]:
    """Rows of videos that fill a shard each."""
    per_shard = JOB.spec.shards.max_rows
    return [
        ShardRow(n, n + 1, str(n), record["text"], record["video"], record)
        for n in range(num_rows)
        if (record := {"question_id": n, "text": "?", "video": f"{n // per_shard}.mp4"})
    ]


def split_rows(ledger: Ledger, num_rows: int) -> Manifest:
    """The real split of `num_rows` rows and a line that validation refuses."""
    rows = input_rows(num_rows)
    with tempfile.TemporaryDirectory(prefix="neva-model-") as name:
        folder = Path(name)
        for media_name in {row.media_name for row in rows}:
            (folder / media_name).touch()
        lines = [orjson.dumps(row.record) for row in rows]
        (folder / "prompts.jsonl").write_bytes(b"\n".join([*lines, b"no JSON"]))
        job = a_job({"prompts": f"{folder}/prompts.jsonl", "mediaBasePath": name})
        with take_in(job.spec, AnyQuestion(), lookups=1, processes=1) as intake:
            return split(JOB, ledger, intake, "model", processes=1)


@dataclass(slots=True)
class ModelConfig:
    """What a worker's child reads of `WorkerConfig`."""

    worker_id: str
    draining: bool = False

    def still_working_on(self, shard: int) -> None:
        pass


@dataclass(slots=True)
class ModelAnswerer:
    """Computes one row after the other; what has come of a row is the world's decision."""

    world: World
    process: Process
    finished: list[str] = field(default_factory=list)

    def answer(
        self,
        rows: Iterable[ShardRow],
        attempt: int,
        finish: Callable[[FinishedRow], None],
        tick: Callable[[], None],
    ) -> None:
        self.finished.clear()
        neighbours = list(rows)
        for row in neighbours:
            tick()
            self.world.compute(self.process, row, attempt)
            output = self.world.answer_to(row, attempt, neighbours)
            self.finished.append(row.row_id)
            finish(FinishedRow(row.seq, row.row_id, output, None))


def run_worker(world: World, process: Process, config: ModelConfig) -> None:
    """One child of a pool: messages until it drains."""
    answerer = ModelAnswerer(world, process)
    ledger = Ledger(world.store)
    child = ShardWorker(
        config,  # type: ignore[arg-type]
        SETTINGS.model_copy(update={"flush_rows": world.setup.flush_rows}),
        ledger,
        Leases(world.server, world.run_id, LEASE_TTL_S),  # type: ignore[arg-type]
        world.server,  # type: ignore[arg-type]
        answerer,  # type: ignore[arg-type]
        world.setup.max_attempts,
        sleep=lambda seconds: world.scheduler.sleep(seconds) and None,
    )
    while not config.draining:
        tag, shard = world.broker.take()
        world.messages[process] = tag
        if config.draining:
            world.broker.give_back(tag)
            return
        outcome = None
        try:
            outcome = child.run(world.plan(shard), tag)
        except NevaError as error:
            world.reported(error)
        except redis.RedisError:
            pass
        if outcome is Outcome.DRAINED:
            world.drained(process, shard, answerer.finished)
            world.broker.give_back(tag)
        else:
            world.broker.acknowledge(tag)
        del world.messages[process]


def run_controller(world: World) -> None:
    """From prompts to merged files, starting over wherever it is interrupted."""
    ledger = Ledger(world.store)
    while True:
        try:
            manifest = ledger.read_manifest() or split_rows(ledger, world.setup.num_rows)
            reconciler = Reconciler(
                manifest,
                ledger,
                world.server,  # type: ignore[arg-type]
                world.broker,  # type: ignore[arg-type]
                Leases(world.server, manifest.run_id, LEASE_TTL_S),  # type: ignore[arg-type]
                grace_s=LEASE_TTL_S,
                clock=world.scheduler.clock,
                readers=1,
            )
            while not _step(reconciler):
                world.scheduler.sleep(0.5)
            merge(ledger, manifest, readers=1)
            world.store.put(layout.SUCCESS, b"")
        except (StoreUnavailable, redis.RedisError):
            world.scheduler.sleep(0.5)
        except NevaError as error:
            world.reported(error)
            return
        else:
            return


def _step(reconciler: Reconciler) -> bool:
    try:
        return reconciler.step().finished
    except (StoreUnavailable, redis.RedisError):
        return False


@contextmanager
def stand_ins(world: World) -> Iterator[None]:
    """Clocks and threads of the workers' code are the world's."""
    clock = world.scheduler.clock
    with ExitStack() as stack:
        for name, module in heartbeat_modules(world.scheduler).items():
            stack.enter_context(mock.patch.object(worker.heartbeat, name, module))
        writer = partial(PartWriter, clock=clock)
        stack.enter_context(mock.patch.object(worker.shard, "PartWriter", writer))
        yield
