"""Many runs, each of another shape, and their sum."""

from __future__ import annotations

import contextlib
import random
import shutil
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import redelivery
from tests.chaos.jobs import Answers, JobKind, read_answers
from tests.chaos.run import Limits, Verdict, keep_for_reading, run
from tests.chaos.store import Bucket, bucket_behind_weather
from tests.chaos.world import ClusterWorld, LocalWorld, World

_BLOWS_PER_RUN = 60


@dataclass(frozen=True, slots=True)
class Shape:
    """How one run is made up, drawn from its seed."""

    local: bool
    on_s3: bool
    fault_rate: float
    append_only: bool
    num_workers: int
    num_controllers: int
    flush_rows: int
    num_blows: int

    @classmethod
    def draw(cls, rng: random.Random, num_blows: int) -> Shape:
        return cls(
            local=rng.random() < 0.35,
            on_s3=rng.random() < 0.4,
            fault_rate=rng.choice((0.0, 0.02, 0.05, 0.1)),
            append_only=rng.random() < 0.5,
            num_workers=rng.choice((2, 2, 3)),
            num_controllers=rng.choice((1, 1, 1, 2)),
            flush_rows=rng.choice((1, 4, 16)),
            num_blows=rng.randint(num_blows // 2, num_blows + num_blows // 2),
        )


@dataclass
class Totals:
    """What is printed at the end."""

    runs: int = 0
    rows: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    stuck: int = 0
    bad: int = 0
    recomputed: int = 0
    at_work: int = 0  # kills while rows were computed
    hits: Counter[str] = field(default_factory=Counter)
    redelivery_s: list[float] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return sum(self.hits.values())

    def add(self, verdict: Verdict) -> None:
        self.runs += 1
        self.rows += verdict.num_rows
        self.lost += verdict.lost
        self.doubled += verdict.doubled
        self.different += verdict.different
        self.stuck += verdict.stuck
        self.bad += not verdict.good
        self.at_work += verdict.num_at_work
        self.hits += verdict.hits
        self.recomputed += verdict.num_recomputed

    def line(self, *, counted: bool) -> str:
        per_kill = f"{self.recomputed / max(1, self.kills):.2f}" if counted else "not-counted"
        p95 = f"{redelivery.p95(self.redelivery_s):.2f}" if self.redelivery_s else "not-measured"
        return (
            f"chaos: runs={self.runs} kills={self.kills} rows={self.rows} lost={self.lost} "
            f"doubled={self.doubled} stuck={self.stuck} recomputed_rows_per_kill={per_kill} "
            f"redelivery_s_p95={p95}"
        )


class Chaos:
    """All runs of one invocation."""

    def __init__(self, base: Path, seed: int, kind: JobKind, keep: Path) -> None:
        self.base = base
        self._seed = seed
        self.kind = kind
        self._keep = keep
        self._expected: Answers | None = None
        self.totals = Totals()

    @property
    def _is_stub(self) -> bool:
        return self.kind.row_s is not None

    def undisturbed(self) -> None:
        """Run once in peace; all others must answer the same."""
        folder = self._folder()
        job = self.kind.make(folder, None, self._settings(1))
        world = LocalWorld(job)
        limits = Limits(0, 1.0, 300.0, 2.0)
        verdict = run(world, None, limits, 0)
        if not verdict.good:
            raise SystemExit(f"the undisturbed run failed: {verdict.problems}, see {folder}")
        self._expected = read_answers(job)
        shutil.rmtree(folder)

    def one(self, number: int, shape: Shape | None = None) -> Verdict:
        """The run of this number; everything in it, its shape too, derives from the seed."""
        seed = self._seed * 1_000_003 + number
        shape = shape or Shape.draw(random.Random(seed), _BLOWS_PER_RUN)
        started_s = time.monotonic()
        folder = self._folder()
        with self._store(shape, seed) as bucket:
            environment = {**self._settings(shape.flush_rows), **bucket.environment}
            job = self.kind.make(folder, bucket.uri, environment)
            world: World
            if shape.local:
                world = LocalWorld(job)
            else:
                world = ClusterWorld(
                    job,
                    shape.num_workers,
                    shape.append_only,
                    num_controllers=shape.num_controllers,
                )
            limits = Limits(
                shape.num_blows,
                # Of the model's own start, after each death of a rank, too.
                patience_s=6.0 if self._is_stub else 90.0,
                stuck_s=90.0 if self._is_stub else 180.0,
                lease_ttl_s=2.0,
                max_rows=8 if self._is_stub else 4,
            )
            verdict = run(world, self._expected, limits, seed)
        self.totals.add(verdict)
        self._tell(number, shape, verdict, time.monotonic() - started_s)
        if verdict.good:
            shutil.rmtree(folder)
        else:
            kept = keep_for_reading(folder, f"{self._seed}-{number}", self._keep)
            print(f"  kept: {kept}; again: NEVA_CHAOS_SEED={self._seed} NEVA_CHAOS_RUN={number}")
        return verdict

    def redelivery(self, number: int) -> None:
        """Whole workers killed while hundreds of messages wait."""
        folder = self._folder()
        seed = self._seed * 1_000_003 + number
        kind = JobKind(self.kind.media, 0.1, max_rows=1)
        job = kind.make(folder, None, self._settings(1))
        world = ClusterWorld(job, num_workers=2, append_only=False)
        found, verdict = redelivery.measure(world, self._expected, random.Random(seed))
        self.totals.redelivery_s += found
        self.totals.add(verdict)
        words = " ".join(f"{seconds:.2f}" for seconds in sorted(found))
        print(f"run {number}: redelivery_s {words} {'good' if verdict.good else verdict}")
        sys.stdout.flush()
        if verdict.good:
            shutil.rmtree(folder)
        else:
            keep_for_reading(folder, f"{self._seed}-{number}", self._keep)

    def _folder(self) -> Path:
        folder = self.base / uuid.uuid4().hex[:6]
        folder.mkdir()
        return folder

    @contextlib.contextmanager
    def _store(self, shape: Shape, seed: int) -> Iterator[Bucket]:
        if not shape.on_s3:
            yield Bucket(None, {})
            return
        with bucket_behind_weather(seed, shape.fault_rate) as bucket:
            yield bucket

    def _settings(self, flush_rows: int) -> dict[str, str]:
        return {
            "NEVA_LEASE_TTL_S": "2",
            "NEVA_HEARTBEAT_S": "0.3",
            "NEVA_FLUSH_ROWS": str(flush_rows),
            "NEVA_FLUSH_INTERVAL_S": "0.5" if flush_rows < 16 else "2",
            "NEVA_ROWS_IN_FLIGHT": "2",
            "NEVA_MAX_BATCH_ROWS": "4",
            "NEVA_RECONCILE_INTERVAL_S": "0.25",
            "NEVA_STALL_S": "8",
            "NEVA_DRAIN_S": "10",
            "NEVA_ENGINE_HANG_S": "5" if self._is_stub else "15",
            "NEVA_IDLE_EXIT_S": "5",
        }

    def _tell(self, number: int, shape: Shape, verdict: Verdict, took_s: float) -> None:
        words = "good" if verdict.good else f"BAD {verdict}"
        where = "local" if shape.local else f"cluster of {shape.num_workers}"
        store = f"s3 {shape.fault_rate}" if shape.on_s3 else "file"
        print(
            f"run {number}: {where}, {store}: {verdict.num_kills} kills, {verdict.num_at_work} of "
            f"them while rows were computed, in {took_s:.0f} s, "
            f"{verdict.num_recomputed} rows computed again, {words}",
            flush=True,
        )
