"""The run as a discrete-event simulation: workers, queue, leases, ledger and one controller.

What it follows is in neva.queue, worker.shard, controller.reconciler, controller.operator.rounds.
Each slot of a worker (one of its shards in flight) has an equal share of the engine, all the time.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.simulation.limits import Limit
from benchmarks.simulation.world import Costs, Job, Place, Trouble
from neva.ledger.layout import NUM_SHARDS_IN_ORDER

# The reconciler's: messages that wait and commits that it reads at a time, and how much of its time
# it lists.
MAX_WAITING = 1000
COMMIT_READERS = 8
_LISTING_SHARE = 0.1
_LONGEST_PAUSE_S = 30.0
_KEYS_PER_PAGE = 1000
# A worker's watch lists no more than this share of its time.
_WATCH_SHARE = 0.05
_KEYS_OF_A_SHARD = 4.0  # claim and commit, and parts beside those that are counted
_MERGE_READERS = 16


@dataclass(slots=True)
class Outcome:
    """How a simulated run went.

    Attributes:
        answered_s: until the last shard was committed, from the first pod's creation.
        seen_s: until the controller knew.
        merge_s: of the merge's reads.
        idle_share: of the workers' time between their start and `answered_s`, without a shard.
        computed_twice: rows.
        reads_share, writes_share: of what the prefix bears, over the whole run.
        redis_share: of one core of the broker.
        redis_connections: at once.
    """

    answered_s: float
    seen_s: float
    merge_s: float
    idle_share: float
    num_deaths: int
    num_rounds: int
    computed_twice: int
    reads_share: float
    writes_share: float
    redis_share: float
    redis_connections: int
    efficiency: float


@dataclass(slots=True)
class _Slot:
    worker: int
    epoch: int = 0  # counts up whenever what the slot did is void
    shard: int | None = None
    rows_from_s: float = 0.0
    row_s: float = 0.0
    idle_since_s: float | None = None


@dataclass(slots=True)
class _Shards:
    """State of the shards: what waits, what is open, what is finished of them."""

    num_unsent: int = 0
    queue: deque[int] = field(default_factory=deque)
    left: list[tuple[float, int]] = field(default_factory=list)  # (lease's end, shard)
    num_done_rows: dict[int, int] = field(default_factory=dict)
    unseen_commits: int = 0
    num_committed: int = 0
    num_seen: int = 0


class Simulation:
    """One run. `run` once."""

    def __init__(self, job: Job, place: Place, trouble: Trouble, costs: Costs, seed: int) -> None:
        self._job, self._place, self._trouble, self._costs = job, place, trouble, costs
        self._rng = random.Random(seed)
        self._now_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._num_events = 0
        self._shards = _Shards(num_unsent=job.num_shards)
        self._slots = [[_Slot(w) for _ in range(job.shards_in_flight)] for w in range(job.workers)]
        self._idle: deque[tuple[_Slot, int]] = deque()
        watching = job.workers * (costs.watch_reads_per_s + _WATCH_SHARE / place.read_s)
        self._reads = Limit(place.reads_per_s * place.prefixes, watching)
        self._always_reads_per_s = watching
        self._writes = Limit(place.writes_per_s * place.prefixes)
        self._next_listing_s = 0.0
        self._idle_s = 0.0
        self._counted = self._num_deaths = self._computed_twice = 0
        self._num_rounds = 1
        self._answered_s = 0.0

    def run(self) -> Outcome:
        for worker in range(self._job.workers):
            self._start(worker)
        self._at(0.0, self._look)
        while self._shards.num_seen < self._job.num_shards:
            self._now_s, _, happen = heapq.heappop(self._events)
            happen()
        return self._outcome()

    def _at(self, when_s: float, happen: Callable[[], None]) -> None:
        self._num_events += 1
        heapq.heappush(self._events, (when_s, self._num_events, happen))

    # Workers

    def _start(self, worker: int) -> None:
        """A pod is created; its slots ask for shards when the engine is up."""
        ready_s = self._now_s + self._job.start_s
        for slot in self._slots[worker]:
            slot.epoch += 1
            epoch = slot.epoch
            self._at(ready_s, lambda slot=slot, epoch=epoch: self._ask(slot, epoch))  # type: ignore[misc]
        if self._trouble.deaths_per_hour:
            lives_s = self._rng.expovariate(self._trouble.deaths_per_hour / 3600)
            epoch = self._slots[worker][0].epoch
            self._at(ready_s + lives_s, lambda: self._die(worker, epoch))

    def _ask(self, slot: _Slot, epoch: int) -> None:
        if slot.epoch != epoch:
            return
        slot.idle_since_s = self._now_s
        if self._shards.queue:
            self._take(slot, self._shards.queue.popleft())
        else:
            self._idle.append((slot, epoch))

    def _take(self, slot: _Slot, shard: int) -> None:
        if slot.idle_since_s is not None:
            self._idle_s += self._now_s - slot.idle_since_s
            slot.idle_since_s = None
        costs, job = self._costs, self._job
        slot.shard = shard
        mean_s = job.shards_in_flight / job.rows_per_s
        spread = self._trouble.spread
        slot.row_s = mean_s * self._rng.lognormvariate(-spread * spread / 2, spread)
        begin_s = self._requests_s(costs.begin_reads, costs.begin_writes) + costs.shard_cpu_s / 2
        slot.rows_from_s = self._now_s + begin_s
        left = self._rows_of(shard) - self._shards.num_done_rows.get(shard, 0)
        rows_s = left * slot.row_s
        # The last part is written when the last row is there; the others while rows go on.
        self._writes.take(self._now_s, max(0.0, left / job.rows_per_part - 1))
        epoch = slot.epoch
        self._at(slot.rows_from_s + rows_s, lambda: self._finish(slot, epoch))

    def _finish(self, slot: _Slot, epoch: int) -> None:
        """All rows are there: the last part and the commit."""
        if slot.epoch != epoch:
            return
        costs = self._costs
        end_s = self._requests_s(costs.end_reads, costs.end_writes + 1) + costs.shard_cpu_s / 2
        self._at(self._now_s + end_s, lambda: self._commit(slot, epoch))

    def _commit(self, slot: _Slot, epoch: int) -> None:
        if slot.epoch != epoch:
            return
        self._shards.num_committed += 1
        self._shards.unseen_commits += 1
        self._answered_s = self._now_s
        slot.shard = None
        self._ask(slot, epoch)

    def _die(self, worker: int, epoch: int) -> None:
        if self._slots[worker][0].epoch != epoch:
            return
        self._num_deaths += 1
        self._drop(worker)
        self._counted += self._rng.random() < self._trouble.counted_share
        if self._counted > self._trouble.backoff_limit:
            # The Job fails, with all its pods; the next round's are created.
            self._counted = 0
            self._num_rounds += 1
            for other in range(self._job.workers):
                self._drop(other)
                self._start(other)
        else:
            self._start(worker)

    def _drop(self, worker: int) -> None:
        """What a worker that is gone leaves: parts, and leases that run out."""
        job = self._job
        for slot in self._slots[worker]:
            slot.epoch += 1
            if slot.idle_since_s is not None:
                self._idle_s += self._now_s - slot.idle_since_s
                slot.idle_since_s = None
            if slot.shard is None:
                continue
            shard, slot.shard = slot.shard, None
            before = self._shards.num_done_rows.get(shard, 0)
            computed = max(0, int((self._now_s - slot.rows_from_s) / slot.row_s))
            computed = min(computed, self._rows_of(shard) - before)
            unwritten = min(job.flush_rows, int(job.flush_interval_s / slot.row_s), computed)
            self._shards.num_done_rows[shard] = before + computed - unwritten
            self._computed_twice += unwritten
            lapses_s = self._now_s + job.lease_ttl_s - self._rng.random()
            heapq.heappush(self._shards.left, (lapses_s, shard))

    def _rows_of(self, shard: int) -> int:
        job = self._job
        return min(job.max_rows, job.num_rows - shard * job.max_rows)

    def _requests_s(self, reads: float, writes: float) -> float:
        """Seconds that so many requests take, one after the other."""
        place = self._place
        wait_s = self._reads.take(self._now_s, reads) + self._writes.take(self._now_s, writes)
        return reads * place.read_s + writes * place.write_s + wait_s

    # The controller

    def _look(self) -> None:
        """Commits, then messages: those of shards that were left go first."""
        shards, costs, place = self._shards, self._costs, self._place
        took_s = 0.0
        if self._now_s >= self._next_listing_s:
            pages = self._keys_to_list() / _KEYS_PER_PAGE + 1
            of_commits = shards.unseen_commits * costs.controller_reads
            one_after_the_other = pages + of_commits / COMMIT_READERS
            took_s = one_after_the_other * place.read_s
            took_s += self._reads.take(self._now_s, pages + of_commits)
            shards.num_seen += shards.unseen_commits
            shards.unseen_commits = 0
            pause_s = min(took_s / _LISTING_SHARE, _LONGEST_PAUSE_S)
            self._next_listing_s = self._now_s + took_s + pause_s
        while shards.left and shards.left[0][0] <= self._now_s:
            shards.queue.appendleft(heapq.heappop(shards.left)[1])
            took_s += costs.send_s + place.read_s
        room = max(0, MAX_WAITING - len(shards.queue))
        num_sent = min(room, shards.num_unsent)
        first = self._job.num_shards - shards.num_unsent
        shards.num_unsent -= num_sent
        took_s += num_sent * costs.send_s
        self._at(self._now_s + took_s, lambda: self._sent(range(first, first + num_sent)))

    def _sent(self, numbers: range) -> None:
        self._shards.queue.extend(numbers)
        while self._idle and self._shards.queue:
            slot, epoch = self._idle.popleft()
            if slot.epoch == epoch:
                self._take(slot, self._shards.queue.popleft())
        self._at(self._now_s + self._place.look_s, self._look)

    def _keys_to_list(self) -> float:
        """Files in the ranges that a listing reads."""
        job, shards = self._job, self._shards
        keys = _KEYS_OF_A_SHARD + job.parts_per_shard
        in_work = sum(slot.shard is not None for slots in self._slots for slot in slots)
        if job.num_shards > NUM_SHARDS_IN_ORDER:
            # Keys are not in the order of their numbers any more: everything is listed.
            return (shards.num_committed + in_work) * keys
        return (shards.unseen_commits + in_work) * keys

    def _outcome(self) -> Outcome:
        job, costs, place = self._job, self._costs, self._place
        busy_s = max(self._answered_s, 1e-9)
        redis_ops = job.workers * costs.redis_ops_per_s + job.num_shards * costs.redis_ops / busy_s
        for slots in self._slots:  # those that had nothing left to do
            for slot in slots:
                if slot.idle_since_s is not None:
                    self._idle_s += max(0.0, self._answered_s - slot.idle_since_s)
        slots_s = job.workers * job.shards_in_flight * max(self._answered_s - job.start_s, 1e-9)
        return Outcome(
            answered_s=self._answered_s,
            seen_s=self._now_s,
            merge_s=job.num_shards * (1 + job.parts_per_shard) * place.read_s / _MERGE_READERS,
            idle_share=min(1.0, self._idle_s / slots_s),
            num_deaths=self._num_deaths,
            num_rounds=self._num_rounds,
            computed_twice=self._computed_twice,
            reads_share=(self._reads.num_requests / busy_s + self._always_reads_per_s)
            / self._reads.per_s,
            writes_share=self._writes.num_requests / busy_s / self._writes.per_s,
            redis_share=redis_ops * costs.redis_op_s,
            redis_connections=round(job.workers * costs.redis_connections),
            efficiency=job.ideal_s / self._answered_s,
        )
