"""Drives one run to its end: looks at ledger, leases and queue, enqueues what is missing.

Holds no truth: everything in it can be thrown away and read again from the ledger.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import redis
from celery import Celery

from controller.ahead import ahead
from controller.plan import Observed, shards_left, shards_to_enqueue
from controller.taken import TakenShards
from neva import queue
from neva.lease import Leases
from neva.ledger import Commit, Ledger, Manifest
from neva.ledger.snapshot import SnapshotWriter, read_snapshot
from neva.trouble import Trouble, read_trouble

# Listing a large run's ledger takes a while: never spend more than this share of the time on it.
_LISTING_SHARE = 0.1
# But one that took long because the store, or this process, stood still says nothing of the next.
_LONGEST_LISTING_PAUSE_S = 30.0
# Messages that wait at a time: enough for many workers until the next look, and few enough that
# the first look at a large job does not take long.
_MAX_WAITING = 1000
_FULL_LOOK_INTERVAL_S = 30.0
# Commits that are read at a time: one after the other, a store of 30 ms shows 33 shards a second.
COMMIT_READERS = 8


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, in rows; `num_done` counts failed rows, too, and so does `num_failed`.

    `trouble` is what made a worker leave a shard within the last minute; `num_leased` shards are
    being worked on, `num_waiting` messages wait. Of a retry these are the rows that it asks;
    `num_kept` beside them were answered by the run that it retries.
    """

    num_rows: int
    num_done: int
    num_failed: int
    num_shards: int
    num_shards_done: int
    trouble: Trouble | None = None
    num_leased: int = 0
    num_kept: int = 0
    num_waiting: int = 0

    @property
    def finished(self) -> bool:
        return self.num_shards_done == self.num_shards


class Reconciler:
    """One run's control loop. Call `step` until it says finished."""

    def __init__(
        self,
        manifest: Manifest,
        ledger: Ledger,
        client: redis.Redis,
        app: Celery,
        leases: Leases,
        *,
        grace_s: float,
        clock: Callable[[], float] = time.monotonic,
        readers: int = COMMIT_READERS,
    ) -> None:
        # Not the manifest itself: its digests would fill a controller of many runs.
        self._run_id = manifest.run_id
        self._num_rows, self._num_rejected = manifest.num_rows, manifest.num_rejected
        self._num_kept = manifest.num_kept
        self._num_shards = len(manifest.shards)
        self._ledger = ledger
        self._client = client
        self._app = app
        self._leases = leases
        self._grace_s = grace_s
        self._clock = clock
        self._readers = readers
        self._open = {plan.number: plan.num_rows for plan in manifest.shards}
        self._enqueued_at_s: dict[int, float] = {}
        self._expires_at_s: dict[int, float] = {}  # see Observed
        self._taken = TakenShards(queue.TakenMessages(client, manifest.run_id))
        self._knows_queue = self._knows_commits = False
        self._snapshot = SnapshotWriter(ledger.store)
        self._waiting_at_s = float("-inf")
        self._num_committed = self._num_failed = 0
        self._next_listing_s = self._next_full_look_s = float("-inf")

    def step(self, *, listing: bool = False) -> Progress:
        """Look once and act on it. Broker and store errors pass through; call again later.

        Args:
            listing: look at the ledger itself, however lately that was done.
        """
        if listing:
            self._next_listing_s = float("-inf")
        self._take_commits()
        taken = self._taken.look()
        leases = self._leases.get_many(self._may_be_leased(self._clock(), taken))
        now_s = self._clock()
        num_waiting = self._look_at_queue(now_s)
        seen = Observed(
            now_s,
            self._open,
            leases,
            self._enqueued_at_s,
            self._waiting_at_s,
            self._expires_at_s,
            self._taken.idle_since_s(now_s, self._open, leases),
        )
        left = shards_left(seen, self._grace_s)
        self._send_left(left, now_s)
        room = max(0, _MAX_WAITING - num_waiting)
        for shard in shards_to_enqueue(seen, self._grace_s, left)[:room]:
            self._send(shard, now_s)
        left_s = self._leases.remaining_s(leases)
        self._expires_at_s.update({shard: now_s + left_s.get(shard, 0.0) for shard in leases})
        rejected = self._num_rejected
        return Progress(
            num_rows=self._num_rows,
            num_done=rejected + self._num_committed + sum(x.num_done for x in leases.values()),
            num_failed=rejected + self._num_failed + sum(x.num_failed for x in leases.values()),
            num_shards=self._num_shards,
            num_shards_done=self._num_shards - len(self._open),
            trouble=read_trouble(self._client, self._run_id),
            num_leased=len(leases),
            num_kept=self._num_kept,
            num_waiting=num_waiting,
        )

    def _may_be_leased(self, now_s: float, taken: Iterable[int]) -> Collection[int]:
        """Open shards whose leases are worth asking for: of a large job, a small part."""
        if now_s >= self._next_full_look_s:
            # Another controller's, too.
            self._next_full_look_s = now_s + _FULL_LOOK_INTERVAL_S
            return self._open
        known = self._enqueued_at_s.keys() | self._expires_at_s.keys()
        return self._open.keys() & known.union(taken)

    def _look_at_queue(self, now_s: float) -> int:
        """Messages that wait."""
        if not self._knows_queue:
            # Another controller's messages, or an earlier start's: a second one each is not needed.
            waiting = queue.waiting_shards(self._client, self._run_id)
            self._enqueued_at_s = dict.fromkeys(waiting & self._open.keys(), now_s)
            self._knows_queue = True
        num_waiting = queue.depth(self._client, self._run_id).ready
        if num_waiting:
            self._waiting_at_s = now_s
        return num_waiting

    def _send_left(self, shards: Collection[int], now_s: float) -> None:
        """Have a message of each go before all others."""
        # While a store hangs, workers hold messages without a lease, and kombu puts those back
        # after a while: what waits there already must not get more with every one that is taken.
        waiting = queue.waiting_shards(self._client, self._run_id, first=True) if shards else ()
        for shard in shards:
            # The listing may be older than the end of the lease.
            if self._ledger.is_committed(shard):
                self._take_commit(shard, self._ledger.read_commit(shard))
                continue
            if shard in waiting:
                self._has_message(shard, now_s)
            else:
                self._send(shard, now_s, first=True)
            self._taken.sent_again(shard)

    def _send(self, shard: int, now_s: float, *, first: bool = False) -> None:
        queue.send(self._app, queue.ShardMessage(self._run_id, shard), first=first)
        self._has_message(shard, now_s)

    def _has_message(self, shard: int, now_s: float) -> None:
        self._enqueued_at_s[shard] = now_s
        self._expires_at_s.pop(shard, None)

    def _take_commit(self, shard: int, commit: Commit) -> None:
        self._num_failed += commit.num_failed
        self._num_committed += self._open.pop(shard)
        self._snapshot.add(self._clock(), shard, commit)
        self._enqueued_at_s.pop(shard, None)
        self._expires_at_s.pop(shard, None)

    def _take_old_commits(self) -> None:
        """At the start: those that an earlier controller had counted need not be read again."""
        old = read_snapshot(self._ledger.store)
        numbers = old.numbers()
        if not numbers <= self._open.keys() & self._ledger.committed_shards(numbers):
            return  # not of this run
        self._snapshot.start_from(old)
        self._num_failed += old.num_failed
        self._num_committed += sum(self._open.pop(shard) for shard in numbers)

    def _take_commits(self) -> None:
        started_s = self._clock()
        if started_s < self._next_listing_s:
            return
        if not self._knows_commits:
            self._take_old_commits()
            self._knows_commits = True
        shards = sorted(self._ledger.committed_shards(self._open))
        # Read first: a store that fails here must not cost the count.
        commits = ahead(self._ledger.read_commit, shards, min(self._readers, max(1, len(shards))))
        for shard, commit in zip(shards, commits, strict=True):
            self._take_commit(shard, commit)
        self._snapshot.write_if_due(self._clock())
        took_s = self._clock() - started_s
        pause_s = min(took_s / _LISTING_SHARE, _LONGEST_LISTING_PAUSE_S)
        self._next_listing_s = self._clock() + pause_s
