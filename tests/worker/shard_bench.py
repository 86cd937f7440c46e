"""A shard, a real store and a real broker, with made-up answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import redis

from neva.lease import Leases
from neva.ledger import Claim, FinishedRow, Ledger, ShardPlan, ShardRow
from neva.settings import Settings
from neva.store import Store
from worker.config import WorkerConfig
from worker.shard import Outcome, ShardWorker

ROWS = [ShardRow(n, n + 1, str(n), "?", "a.mp4", {"question_id": n}) for n in range(6)]


class FakeAnswerer:
    """Answers rows one by one; calls `before` first, which may raise."""

    def __init__(self, before: Callable[[ShardRow], None] = lambda row: None) -> None:
        self.before = before
        self.asked: list[str] = []

    def answer(
        self,
        rows: Iterable[ShardRow],
        attempt: int,
        finish: Callable[[FinishedRow], None],
        tick: Callable[[], None],
    ) -> None:
        for row in rows:
            tick()
            self.before(row)
            self.asked.append(row.row_id)
            finish(FinishedRow(row.seq, row.row_id, {**row.record, "attempt": attempt}, None))


class Bench:
    def __init__(self, store: Store, client: redis.Redis, folder: Path) -> None:
        self.ledger = Ledger(store)
        self.client = client
        self.leases = Leases(client, "run", ttl_s=30)
        self.config = WorkerConfig("me", "", "", folder, 3, folder, folder, os.getpid())
        self.settings = Settings(flush_rows=1, heartbeat_s=0.02)
        self.plan: ShardPlan = self.ledger.write_shard(0, ROWS)

    def worker(self, answerer: FakeAnswerer, ledger: Ledger | None = None) -> ShardWorker:
        return ShardWorker(
            self.config,
            self.settings,
            ledger or self.ledger,
            self.leases,
            self.client,
            answerer,  # type: ignore[arg-type]
            max_attempts=3,
            sleep=lambda seconds: None,
        )

    def run(self, answerer: FakeAnswerer) -> Outcome:
        return self.worker(answerer).run(self.plan, None)

    def killed_attempt(self, number: int, window: list[str], finished: list[str]) -> None:
        """What a worker leaves that was killed: a claim and some parts."""
        self.ledger.claim(0, Claim(number, "dead", "d", window))
        for part, row_id in enumerate(finished, 1):
            row = ROWS[int(row_id)]
            done = FinishedRow(row.seq, row_id, {**row.record, "attempt": number}, None)
            self.ledger.write_part(0, number, part, [done])

    def answers(self) -> list[tuple[str, object]]:
        """(row, attempt that answered it) of the committed shard, errors as their reason."""
        rows = self.ledger.committed_rows(self.plan)
        return [(r.row_id, r.output["attempt"] if r.output else r.error["reason"]) for r in rows]  # type: ignore[index]
