"""A shard's attempts on a real store and a real broker, with made-up answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import redis

from neva.errors import NevaError
from neva.lease import Lease, Leases
from neva.ledger import Claim, FinishedRow, Ledger, ShardPlan, ShardRow, layout
from neva.settings import Settings
from neva.store import Store
from worker.config import DRAINING_FILE, WorkerConfig
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
        self.config = WorkerConfig("me", "", "", folder, folder, folder)
        self.settings = Settings(flush_rows=1, heartbeat_s=0.02)
        self.plan: ShardPlan = self.ledger.write_shard(0, ROWS)

    def run(self, answerer: FakeAnswerer, max_attempts: int = 3) -> Outcome:
        worker = ShardWorker(
            self.config,
            self.settings,
            self.ledger,
            self.leases,
            self.client,
            answerer,  # type: ignore[arg-type]
            max_attempts,
        )
        return worker.run(self.plan, None)

    def killed_attempt(self, number: int, window: list[str], finished: list[str]) -> None:
        """What a worker leaves that was killed: a claim and some parts."""
        self.ledger.claim(0, Claim(number, "dead", window))
        for part, row_id in enumerate(finished, 1):
            row = ROWS[int(row_id)]
            done = FinishedRow(row.seq, row_id, {**row.record, "attempt": number}, None)
            self.ledger.write_part(0, number, part, [done])

    def answers(self) -> list[tuple[str, object]]:
        """(row, attempt that answered it) of the committed shard, errors as their reason."""
        rows = self.ledger.committed_rows(self.plan)
        return [(r.row_id, r.output["attempt"] if r.output else r.error["reason"]) for r in rows]  # type: ignore[index]


@pytest.fixture
def bench(store: Store, redis_client: redis.Redis, tmp_path: Path) -> Bench:
    return Bench(store, redis_client, tmp_path)


def test_a_shard_is_answered_committed_and_its_lease_released(bench: Bench) -> None:
    assert bench.run(FakeAnswerer()) is Outcome.COMMITTED
    assert bench.answers() == [(str(n), 1) for n in range(6)]
    assert bench.leases.get(0) is None


def test_a_repeated_message_finds_nothing_to_do(bench: Bench) -> None:
    bench.run(FakeAnswerer())
    answerer = FakeAnswerer()
    assert bench.run(answerer) is Outcome.NOTHING_TO_DO
    assert answerer.asked == []


def test_a_shard_somebody_works_on_is_left_to_them(bench: Bench) -> None:
    bench.leases.beat(0, Lease(1, 0, 0))
    answerer = FakeAnswerer()
    assert bench.run(answerer) is Outcome.NOTHING_TO_DO
    assert answerer.asked == []
    assert not bench.ledger.shard_state(0).attempts


def test_only_rows_that_no_earlier_attempt_finished_are_computed(bench: Bench) -> None:
    bench.killed_attempt(1, [str(n) for n in range(6)], ["0", "1", "3"])
    answerer = FakeAnswerer()
    assert bench.run(answerer) is Outcome.COMMITTED
    assert answerer.asked == ["2", "4", "5"]
    assert bench.answers() == [("0", 1), ("1", 1), ("2", 2), ("3", 1), ("4", 2), ("5", 2)]


def test_a_lost_lease_stops_the_writer(bench: Bench) -> None:
    taken = threading.Event()

    def take_over(row: ShardRow) -> None:
        if row.row_id == "2" and not taken.is_set():
            bench.leases.beat(0, Lease(2, 0, 0))
            taken.set()
        if taken.is_set():
            threading.Event().wait(0.1)  # several heartbeats

    assert bench.run(FakeAnswerer(take_over)) is Outcome.LOST
    parts = bench.ledger.shard_state(0).parts[1]
    assert len(parts) < 6
    assert not bench.ledger.shard_state(0).committed
    assert bench.leases.get(0) == Lease(2, 0, 0), "the new owner's lease is untouched"


def test_a_flushed_redis_does_not_cost_the_lease(bench: Bench) -> None:
    def flush(row: ShardRow) -> None:
        bench.client.flushall()
        threading.Event().wait(0.05)

    assert bench.run(FakeAnswerer(flush)) is Outcome.COMMITTED


def test_a_lease_that_ran_out_while_another_attempt_came_and_went_is_lost(bench: Bench) -> None:
    def sleep_through_another_attempt(row: ShardRow) -> None:
        if row.row_id == "3":
            bench.ledger.claim(0, Claim(2, "other", ["3", "4", "5"]))
            bench.client.flushall()
            threading.Event().wait(0.2)

    assert bench.run(FakeAnswerer(sleep_through_another_attempt)) is Outcome.LOST


def test_a_drain_keeps_finished_rows_and_does_not_count(bench: Bench) -> None:
    def drain(row: ShardRow) -> None:
        if row.row_id == "2":
            (bench.config.scratch_dir / DRAINING_FILE).touch()

    assert bench.run(FakeAnswerer(drain)) is Outcome.DRAINED
    assert bench.leases.get(0) is None
    (past,) = bench.ledger.past_attempts(0, bench.ledger.shard_state(0))
    assert past.finished == frozenset("012")
    assert not past.counts


def test_an_error_outside_the_rows_releases_the_shard(bench: Bench) -> None:
    def fail(row: ShardRow) -> None:
        if row.row_id == "1":
            raise NevaError("no store")

    with pytest.raises(NevaError, match="no store"):
        bench.run(FakeAnswerer(fail))
    assert bench.leases.get(0) is None
    assert bench.run(FakeAnswerer()) is Outcome.COMMITTED
    assert bench.answers()[0] == ("0", 1)


def test_a_row_that_killed_everything_alone_fails_and_the_others_are_answered(
    bench: Bench,
) -> None:
    bench.killed_attempt(1, [str(n) for n in range(6)], ["0", "1"])
    bench.killed_attempt(2, ["2", "3", "4", "5"], [])
    for number in (3, 4, 5):
        bench.killed_attempt(number, ["2"], [])
    answerer = FakeAnswerer()
    assert bench.run(answerer) is Outcome.COMMITTED
    assert answerer.asked == ["3", "4", "5"]
    assert ("2", "WorkerCrashed") in bench.answers()


def test_a_committed_shard_is_not_committed_again(bench: Bench) -> None:
    def commit_elsewhere(row: ShardRow) -> None:
        if row.row_id == "5":
            done = [FinishedRow(r.seq, r.row_id, {"attempt": 9}, None) for r in ROWS]
            part = bench.ledger.write_part(0, 9, 1, done)
            bench.ledger.commit(0, 9, [part], done)

    assert bench.run(FakeAnswerer(commit_elsewhere)) is Outcome.COMMITTED
    assert bench.answers() == [(str(n), 9) for n in range(6)]


def test_a_message_with_an_unreadable_input_names_the_file(bench: Bench, store: Store) -> None:
    store.put(layout.shard_input(0), b"junk\n")
    with pytest.raises(NevaError, match=r"shards/00000/input\.jsonl"):
        bench.run(FakeAnswerer())
