"""A shard's attempts on a real store and a real broker, with made-up answers."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import redis

from neva.errors import NevaError
from neva.lease import Lease, Leases
from neva.ledger import Claim, FinishedRow, Ledger, PartRef, Release, ShardRow, layout
from neva.reasons import Reason
from neva.settings import Settings
from neva.store import Store, StoreUnavailable
from tests.worker.shard_bench import ROWS, Bench, FakeAnswerer
from worker.config import DRAINING_FILE
from worker.heartbeat import Heartbeat
from worker.shard import Outcome


@pytest.fixture
def bench(store: Store, redis_client: redis.Redis, tmp_path: Path) -> Bench:
    return Bench(store, redis_client, tmp_path)


def test_a_shard_is_answered_committed_and_its_lease_released(bench: Bench) -> None:
    assert bench.run(FakeAnswerer()) is Outcome.COMMITTED
    assert bench.answers() == [(str(n), 1) for n in range(6)]
    assert bench.leases.get(0) is None


def test_the_heartbeat_of_a_shard_at_work_touches_its_file(bench: Bench) -> None:
    def wait_for_a_beat(row: ShardRow) -> None:
        (path,) = bench.config.busy_files
        os.utime(path, ns=(1, 1))
        deadline_s = time.monotonic() + 30
        while path.stat().st_mtime_ns == 1:
            assert time.monotonic() < deadline_s
            time.sleep(0.005)

    with bench.config.working_on(0):
        assert bench.run(FakeAnswerer(wait_for_a_beat)) is Outcome.COMMITTED


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


def test_a_lease_that_is_lost_on_the_last_row_is_not_followed_by_a_commit(bench: Bench) -> None:
    class Loser(FakeAnswerer):
        def answer(self, *arguments: object) -> None:  # type: ignore[override]
            super().answer(*arguments)  # type: ignore[arg-type]
            bench.leases.beat(0, Lease(2, 0, 0))
            threading.Event().wait(0.1)

    assert bench.run(Loser()) is Outcome.LOST
    assert not bench.ledger.shard_state(0).committed


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
            bench.ledger.claim(0, Claim(2, "other", "o", ["3", "4", "5"]))
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
    key = layout.release(0, 1)
    assert Release.from_json(bench.ledger.store.get(key), key).reason == Reason.DRAINED


def test_an_error_outside_the_rows_releases_the_shard(bench: Bench) -> None:
    def fail(row: ShardRow) -> None:
        if row.row_id == "1":
            raise NevaError("no store")

    with pytest.raises(NevaError, match="no store"):
        bench.run(FakeAnswerer(fail))
    assert bench.leases.get(0) is None
    assert bench.run(FakeAnswerer()) is Outcome.COMMITTED
    assert bench.answers()[0] == ("0", 1)


class BrokenLedger(Ledger):
    """Fails to write while `broken`."""

    broken = False

    def write_part(self, *arguments: object) -> PartRef:
        if self.broken:
            raise StoreUnavailable("503")
        return super().write_part(*arguments)  # type: ignore[arg-type]

    def release(self, *arguments: object) -> None:
        if self.broken:
            raise StoreUnavailable("503")
        super().release(*arguments)  # type: ignore[arg-type]


def test_an_outage_of_the_store_is_never_counted_against_the_rows(
    bench: Bench, store: Store
) -> None:
    ledger = BrokenLedger(store)

    def outage(row: ShardRow) -> None:
        ledger.broken = row.row_id == "3"

    worker = bench.worker(FakeAnswerer(outage), ledger)
    for _ in range(5):  # more often than a row may kill
        with pytest.raises(StoreUnavailable):
            worker.run(bench.plan, None)
        assert bench.leases.get(0) is None
        ledger.broken = False  # it is back when the next message comes
    assert bench.run(FakeAnswerer()) is Outcome.COMMITTED
    past = bench.ledger.past_attempts(0, bench.ledger.shard_state(0))
    assert [attempt.counts for attempt in past] == [False, False, False, False, True, True]
    assert all(isinstance(attempt, int) for _, attempt in bench.answers()), "no row was given up"


def test_a_store_that_is_back_in_seconds_takes_the_release(bench: Bench, store: Store) -> None:
    ledger = BrokenLedger(store)

    def outage(row: ShardRow) -> None:
        ledger.broken = row.row_id == "3"

    def repair(seconds: float) -> None:
        ledger.broken = ledger.broken and seconds < 1

    worker = dataclasses.replace(bench.worker(FakeAnswerer(outage), ledger), sleep=repair)
    with pytest.raises(StoreUnavailable):
        worker.run(bench.plan, None)
    (past,) = bench.ledger.past_attempts(0, bench.ledger.shard_state(0))
    assert not past.counts
    assert past.finished == frozenset("0123"), "what was finished is kept"


def test_the_heartbeat_survives_a_store_that_fails_and_asks_again(
    bench: Bench, redis_client: redis.Redis
) -> None:
    answers: list[bool | Exception] = [StoreUnavailable("503"), StoreUnavailable("503"), True]

    def superseded() -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    heartbeat = Heartbeat(bench.leases, redis_client, 0, 1, None, superseded, 0.01, 60)
    with heartbeat:
        redis_client.flushall()
        deadline_s = time.monotonic() + 10
        while not heartbeat.lost:
            assert time.monotonic() < deadline_s, "it stopped asking"
            time.sleep(0.01)
    assert answers == []


class HalfAClient:
    """A broker that answers beats, and nothing about messages."""

    def zadd(self, *_: object, **__: object) -> None:
        raise redis.ConnectionError("gone")


@pytest.mark.parametrize("is_taken_over", [True, False])
def test_a_lost_lease_is_heeded_though_its_message_can_not_be_prolonged(
    bench: Bench, is_taken_over: bool
) -> None:
    heartbeat = Heartbeat(
        bench.leases,
        HalfAClient(),
        0,
        1,
        "tag",
        lambda: not is_taken_over,
        0.01,
        60,  # type: ignore[arg-type]
    )
    if is_taken_over:
        bench.leases.beat(0, Lease(2, 0, 0))
    with heartbeat:
        assert heartbeat.lost


def test_a_child_that_is_stuck_kills_itself(tmp_path: Path, broker_url: str) -> None:
    """In a process of its own, which must end although its main thread never returns."""
    code = f"""
import threading, redis
from neva.lease import Leases
from worker.heartbeat import Heartbeat
client = redis.Redis.from_url({broker_url!r})
leases = Leases(client, "stuck", ttl_s=30)
with Heartbeat(leases, client, 0, 1, None, lambda: False, 0.02, stall_s=0.3):
    threading.Event().wait()
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL


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
    assert ("2", Reason.WORKER_CRASHED) in bench.answers()


def test_a_committed_shard_is_not_committed_again(bench: Bench) -> None:
    def commit_elsewhere(row: ShardRow) -> None:
        if row.row_id == "5":
            done = [FinishedRow(r.seq, r.row_id, {"attempt": 9}, None) for r in ROWS]
            part = bench.ledger.write_part(0, 9, 1, done)
            bench.ledger.commit(0, 9, [part], done)

    assert bench.run(FakeAnswerer(commit_elsewhere)) is Outcome.COMMITTED
    assert bench.answers() == [(str(n), 9) for n in range(6)]


def test_a_message_with_an_unreadable_input_names_the_file(bench: Bench, store: Store) -> None:
    store.put(layout.inputs(bench.plan.pack), b"junk\n")
    with pytest.raises(NevaError, match=r"inputs/00000-.*\.jsonl"):
        bench.run(FakeAnswerer())


def test_a_worker_stopped_beyond_its_lease_writes_nothing_more_when_it_goes_on(
    bench: Bench,
) -> None:
    """Its shard's thread may be first to go on, before any heartbeat could learn of the loss."""
    bench.leases = Leases(bench.client, "run", ttl_s=0.05)
    bench.settings = Settings(flush_rows=1, heartbeat_s=60)  # no beat in between
    late = FakeAnswerer()

    def stop(row: ShardRow) -> None:
        if row.row_id == "2":
            time.sleep(0.1)  # the lease runs out, and another worker finishes the shard
            late.before = lambda row: None
            assert bench.run(FakeAnswerer()) is Outcome.COMMITTED

    late.before = stop
    assert bench.run(late) is Outcome.LOST
    assert late.asked == ["0", "1", "2"]
    state = bench.ledger.shard_state(0)
    assert [len(state.parts[attempt]) for attempt in (1, 2)] == [2, 4]
    assert bench.answers() == [("0", 1), ("1", 1)] + [(str(n), 2) for n in range(2, 6)]


def test_a_broker_that_is_away_beyond_the_lease_stops_nobody(bench: Bench) -> None:
    bench.leases = Leases(bench.client, "run", ttl_s=0.05)
    bench.settings = Settings(flush_rows=1, heartbeat_s=60)
    assert bench.run(FakeAnswerer(lambda row: time.sleep(0.06))) is Outcome.COMMITTED
    assert bench.answers() == [(str(n), 1) for n in range(6)]
