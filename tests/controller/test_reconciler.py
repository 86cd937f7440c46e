"""The control loop against a real broker and a ledger on disk; the workers are played by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
import redis

from controller.reconciler import Reconciler
from neva import queue
from neva.errors import NevaError
from neva.lease import Lease, Leases
from neva.ledger import Commit, FinishedRow, Ledger, Manifest, ShardRow, layout
from neva.ledger.snapshot import SETTLED_AFTER_S, Snapshot
from neva.reasons import Reason
from neva.store import StoreUnavailable, open_store
from neva.trouble import report_trouble

GRACE_S = 5.0
RUN = "run9"


class Bench:
    """A run of three shards with two rows each, and one rejected row."""

    def __init__(self, folder: Path, url: str, client: redis.Redis) -> None:
        self.client = client
        self.now_s = 1000.0
        self.ledger = Ledger(open_store(str(folder)))
        plans = [
            self.ledger.write_shard(
                number,
                [ShardRow(n, n + 1, str(n), "?", "v", {}) for n in (2 * number, 2 * number + 1)],
            )
            for number in range(3)
        ]
        self.manifest = Manifest(RUN, {}, "a", "m", "p", 7, 1, "r", plans)
        self.leases = Leases(client, RUN, ttl_s=30)
        self.app = queue.make_app(url, RUN)
        self.reconciler = self.new_reconciler()

    def new_reconciler(self) -> Reconciler:
        return Reconciler(
            self.manifest,
            self.ledger,
            self.client,
            self.app,
            self.leases,
            grace_s=GRACE_S,
            clock=lambda: self.now_s,
        )

    def num_messages(self) -> int:
        return queue.depth(self.client, RUN).ready

    def take_all(self) -> None:
        """Workers take every message, and die before they do anything."""
        queue.purge(self.client, RUN)

    def pop(self) -> int:
        """A worker takes the next message; its shard."""
        with self.app.connection_for_read() as connection:
            name = queue.queue_name(RUN)
            message = connection.SimpleQueue(self.app.amqp.queues[name]).get(timeout=5)
            shard = int(message.payload[1]["shard"])
            message.ack()
        return shard

    def pop_and_die(self) -> int:
        """A worker takes the next message and is killed at once; its shard."""
        with self.app.connection_for_read() as connection:
            channel = connection.default_channel
            channel.do_restore = False  # whoever is killed puts nothing back
            name = queue.queue_name(RUN)
            message = connection.SimpleQueue(self.app.amqp.queues[name]).get(timeout=5)
            return int(message.payload[1]["shard"])

    def put_back(self) -> None:
        """kombu returns what was taken too long ago: all that is held now."""
        held = self.client.zrange("unacked_index", 0, -1)
        self.client.zadd("unacked_index", dict.fromkeys(held, 0.0))
        with self.app.connection_for_read() as connection:
            connection.default_channel.qos.restore_visible()

    def commit(self, shard: int, failed: int = 0) -> None:
        rows = [
            FinishedRow(
                n, row_id, None if n < failed else {}, {"reason": "x"} if n < failed else None
            )
            for n, row_id in enumerate((str(2 * shard), str(2 * shard + 1)))
        ]
        part = self.ledger.write_part(shard, 1, 1, rows)
        self.ledger.commit(shard, 1, [part], rows)


@pytest.fixture
def bench(tmp_path: Path, broker_url: str, redis_client: redis.Redis) -> Iterator[Bench]:
    bench = Bench(tmp_path, broker_url, redis_client)
    yield bench
    bench.app.close()


def test_each_shard_gets_one_message(bench: Bench) -> None:
    for _ in range(3):
        bench.reconciler.step()
        bench.now_s += GRACE_S
    assert bench.num_messages() == 3


def test_lost_messages_are_sent_again_after_the_grace(bench: Bench) -> None:
    bench.reconciler.step()
    bench.now_s += 100
    bench.reconciler.step()  # they still wait
    bench.take_all()
    bench.now_s += GRACE_S - 1
    bench.reconciler.step()
    assert bench.num_messages() == 0
    bench.now_s += 1
    bench.reconciler.step()
    assert bench.num_messages() == 3


def test_shards_that_are_leased_or_committed_are_left_alone(bench: Bench) -> None:
    bench.reconciler.step()
    bench.take_all()
    bench.leases.beat(0, Lease(1, 1, 0))
    bench.commit(1)
    bench.now_s += 2 * GRACE_S
    bench.reconciler.step()
    assert bench.num_messages() == 1


def test_progress_counts_committed_leased_and_rejected_rows(bench: Bench) -> None:
    bench.commit(0, failed=1)
    bench.leases.beat(2, Lease(1, 1, 1))
    progress = bench.reconciler.step()
    assert (progress.num_rows, progress.num_done, progress.num_failed) == (7, 4, 3)
    assert (progress.num_shards, progress.num_shards_done) == (3, 1)
    assert not progress.finished


def test_the_run_is_finished_when_every_shard_is_committed(bench: Bench) -> None:
    for shard in range(3):
        bench.commit(shard)
    assert bench.reconciler.step().finished


def test_a_new_controller_goes_on_from_the_ledger(bench: Bench) -> None:
    bench.reconciler.step()
    bench.commit(0)
    bench.take_all()
    assert bench.new_reconciler().step().num_shards_done == 1
    assert bench.num_messages() == 2


def test_what_keeps_workers_from_working_is_seen(bench: Bench) -> None:
    assert bench.reconciler.step().trouble is None
    report_trouble(bench.client, RUN, NevaError("403", reason=Reason.STORE_DENIED))
    trouble = bench.reconciler.step().trouble
    assert trouble is not None
    assert (trouble.reason, trouble.message, trouble.retryable) == ("StoreDenied", "403", False)


def test_one_listing_that_hung_does_not_keep_the_controller_from_looking_for_long(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed_shards = bench.ledger.committed_shards

    def hang(among: Collection[int]) -> set[int]:
        bench.now_s += 120
        return committed_shards(among)

    monkeypatch.setattr(bench.ledger, "committed_shards", hang)
    bench.reconciler.step()
    monkeypatch.undo()
    bench.commit(0)
    bench.now_s += 31
    assert bench.reconciler.step().num_shards_done == 1


def test_a_commit_that_can_not_be_read_yet_is_counted_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(number: int) -> None:
        raise StoreUnavailable("503")

    bench.commit(0, failed=1)
    with monkeypatch.context() as patched, pytest.raises(StoreUnavailable):
        patched.setattr(bench.ledger, "read_commit", fail)
        bench.reconciler.step()
    progress = bench.reconciler.step()
    assert (progress.num_shards_done, progress.num_failed) == (1, 2)


def test_a_killed_workers_shard_goes_before_the_hundreds_that_wait(bench: Bench) -> None:
    bench.leases = Leases(bench.client, RUN, ttl_s=0.05)
    bench.reconciler.step()
    taken = bench.pop()
    bench.leases.beat(taken, Lease(1, 1, 0))
    bench.reconciler.step()
    assert bench.num_messages() == 2
    time.sleep(0.06)
    bench.now_s += 0.06
    bench.reconciler.step()
    bench.reconciler.step()
    assert bench.num_messages() == 3, "one more, not one a look"
    assert bench.pop() == taken


def test_who_is_killed_before_its_lease_is_seen_costs_the_shard_no_visibility_timeout(
    bench: Bench,
) -> None:
    bench.reconciler.step()
    taken = bench.pop_and_die()
    bench.reconciler.step()
    bench.now_s += GRACE_S - 1
    bench.reconciler.step()
    assert bench.num_messages() == 2, "its worker may be about to take the lease"
    bench.now_s += 1
    bench.reconciler.step()
    assert bench.num_messages() == 3
    for _ in range(3):
        bench.now_s += GRACE_S
        bench.reconciler.step()
    assert bench.num_messages() == 3, "one more, not one a look"
    assert bench.pop_and_die() == taken, "before all others"
    for _ in range(2):
        bench.reconciler.step()
        bench.now_s += GRACE_S
    bench.reconciler.step()
    assert bench.num_messages() == 3, "that one's death is noticed, too"


def test_messages_do_not_pile_up_while_a_store_hangs(bench: Bench) -> None:
    """Whoever takes one holds it for minutes, without a lease, and kombu puts it back before."""
    bench.reconciler.step()
    num_messages = []
    for _ in range(8):
        taken = bench.pop_and_die()
        bench.reconciler.step()
        bench.now_s += GRACE_S
        bench.reconciler.step()
        assert taken in queue.waiting_shards(bench.client, RUN, first=True)
        bench.put_back()
        bench.reconciler.step()
        num_messages.append(bench.num_messages())
    assert num_messages[:2] == [4, 5]
    assert num_messages[2:] == [5] * 6, "the copy that waits is enough"


def test_commits_are_read_at_the_same_time_and_counted_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that can't be read does not cost the count of those before it, or its own later."""
    together = threading.Barrier(2, timeout=30)
    read_commit = bench.ledger.read_commit

    def wait_for_another(number: int) -> Commit:
        if number == 2:
            raise StoreUnavailable("503")
        together.wait()
        return read_commit(number)

    for shard in range(3):
        bench.commit(shard, failed=1)
    monkeypatch.setattr(bench.ledger, "read_commit", wait_for_another)
    with pytest.raises(StoreUnavailable):
        bench.reconciler.step()
    monkeypatch.setattr(bench.ledger, "read_commit", read_commit)
    progress = bench.reconciler.step(listing=True)
    assert (progress.num_shards_done, progress.num_failed, progress.num_done) == (3, 4, 7)


def test_what_other_controllers_sent_and_a_worker_holds_is_not_taken_for_left(
    bench: Bench,
) -> None:
    bench.new_reconciler().step()
    taken = bench.pop_and_die()
    bench.leases.beat(taken, Lease(1, 1, 0))
    for _ in range(3):
        bench.reconciler.step()
        bench.now_s += GRACE_S
    assert bench.num_messages() == 2


def test_a_shard_given_back_is_sent_again_when_its_lease_would_have_run_out(bench: Bench) -> None:
    bench.reconciler.step()
    taken = bench.pop()
    bench.leases.beat(taken, Lease(1, 1, 0))
    bench.reconciler.step()
    bench.leases.release(taken, 1)
    bench.now_s += 29
    bench.reconciler.step()
    assert bench.num_messages() == 2
    bench.now_s += 2
    bench.reconciler.step()
    assert bench.num_messages() == 3


def test_a_commit_that_no_listing_has_shown_yet_is_not_done_again(bench: Bench) -> None:
    bench.reconciler.step()
    taken = bench.pop()
    bench.leases.beat(taken, Lease(1, 1, 0))
    bench.reconciler.step()
    bench.commit(taken)
    bench.leases.release(taken, 1)
    bench.reconciler._next_listing_s = float("inf")
    bench.now_s += 31
    assert bench.reconciler.step().num_shards_done == 1
    assert bench.num_messages() == 2


def test_a_second_controller_sends_no_second_message_for_what_waits_or_is_at_work(
    bench: Bench,
) -> None:
    bench.reconciler.step()
    bench.leases.beat(bench.pop(), Lease(1, 1, 0))
    second = bench.new_reconciler()
    for _ in range(3):
        second.step()
        bench.now_s += GRACE_S
    assert bench.num_messages() == 2


def test_a_large_job_is_sent_bit_by_bit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, redis_client: redis.Redis
) -> None:
    monkeypatch.setattr("controller.reconciler._MAX_WAITING", 2)
    for _ in range(2):
        bench.reconciler.step()
        assert bench.num_messages() == 2
    redis_client.lpop(queue.queue_name(RUN))
    bench.reconciler.step()
    assert bench.num_messages() == 2


def test_a_new_controller_goes_on_from_what_the_last_one_had_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shard in (0, 1):
        bench.commit(shard, failed=1)
        bench.reconciler.step(listing=True)
    bench.now_s += SETTLED_AFTER_S
    bench.reconciler.step(listing=True)
    read = []
    read_commit = bench.ledger.read_commit

    def count(number: int) -> Commit:
        read.append(number)
        return read_commit(number)

    monkeypatch.setattr(bench.ledger, "read_commit", count)
    progress = bench.new_reconciler().step()
    assert (progress.num_done, progress.num_failed, progress.num_shards_done) == (5, 3, 2)
    assert read == [1], "the latest commit alone"


def test_a_snapshot_that_says_too_much_is_not_believed(bench: Bench) -> None:
    bench.ledger.store.put(layout.PROGRESS, Snapshot([(0, 2)], 4, {}).to_json())
    progress = bench.new_reconciler().step()
    assert (progress.num_done, progress.num_shards_done) == (1, 0)
