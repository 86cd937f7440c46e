"""Tells a worker of a cluster when to go, so that its GPUs are free for somebody else.

Done is what the ledger says: every shard is committed. Idle is a hint: for a while no message has
waited, nothing has been worked on here, and every open shard has been somebody else's. A worker
that goes too early costs a new one later, never an answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

import redis
import structlog

from neva import queue
from neva.errors import NevaError
from neva.lease import Leases
from neva.ledger import Ledger, Manifest
from neva.settings import Settings
from neva.store import open_store

log = structlog.get_logger()

_LOOK_INTERVAL_S = 1.0
# Listing a large run's ledger takes a while: never spend more than this share of the time on it.
_LISTING_SHARE = 0.05
_LEASES_AT_ONCE = 200


class Verdict(Enum):
    """Whether to go."""

    STAY = "stay"
    DONE = "done"
    IDLE = "idle"
    STOPPED = "stopped"  # by an order; see neva.ledger.control


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the run.

    Attributes:
        num_open: shards without a commit.
        num_leased: open shards somebody works on; None when that was not asked for, or the broker
            can't be had. When some are nobody's, it may be too low.
        num_waiting: messages in the queue; None when the broker can't be had.
        busy: this worker works on a shard.
    """

    now_s: float
    num_open: int
    num_leased: int | None
    num_waiting: int | None
    busy: bool


class IdleRule:
    """Decides over looks. Pure but for what it remembers of them."""

    def __init__(self, idle_exit_s: float) -> None:
        self._idle_exit_s = idle_exit_s
        self._idle_since_s: float | None = None

    def judge(self, look: Look) -> Verdict:
        if look.num_open == 0:
            return Verdict.DONE
        if look.busy or look.num_waiting != 0 or look.num_leased != look.num_open:
            self._idle_since_s = None
            return Verdict.STAY
        if self._idle_since_s is None:
            self._idle_since_s = look.now_s
        waited_s = look.now_s - self._idle_since_s
        return Verdict.IDLE if waited_s >= self._idle_exit_s else Verdict.STAY


class RunWatch:
    """Looks at ledger, leases and queue of one run, at a bounded rate."""

    def __init__(
        self,
        manifest: Manifest,
        ledger: Ledger,
        client: redis.Redis,
        leases: Leases,
        idle_exit_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run_id = manifest.run_id
        self._open = {plan.number for plan in manifest.shards}
        self._ledger = ledger
        self._client = client
        self._leases = leases
        self._rule = IdleRule(idle_exit_s)
        self._clock = clock
        self._next_look_s = self._next_listing_s = float("-inf")

    @classmethod
    def connect(
        cls, output_uri: str, redis_url: str, manifest: Manifest, settings: Settings
    ) -> RunWatch:
        client = queue.connect(redis_url)
        leases = Leases(client, manifest.run_id, settings.lease_ttl_s)
        ledger = Ledger(open_store(output_uri))
        return cls(manifest, ledger, client, leases, settings.idle_exit_s)

    def look(self, busy: bool) -> Verdict:
        """Look, if it is time to. Store errors are somebody else's to tell: the worker stays."""
        now_s = self._clock()
        if now_s < self._next_look_s:
            return Verdict.STAY
        self._next_look_s = now_s + _LOOK_INTERVAL_S
        try:
            self._take_commits()
        except NevaError as error:
            log.warning("can't look at the ledger", error=error.message)
            return Verdict.STAY
        waiting: int | None = None
        leased: int | None = None
        try:
            waiting = queue.depth(self._client, self._run_id).ready
            if not waiting:
                leased = self._num_leased()
        except redis.RedisError as error:
            log.warning("can't look at the queue", error=str(error))
        return self._rule.judge(Look(now_s, len(self._open), leased, waiting, busy))

    def _num_leased(self) -> int:
        """Open shards that somebody works on; counted no further than to one that nobody does."""
        num_leased = 0
        for some in _chunks(sorted(self._open), _LEASES_AT_ONCE):
            leases = self._leases.get_many(some)
            num_leased += len(leases)
            if len(leases) < len(some):
                break
        return num_leased

    def _take_commits(self) -> None:
        started_s = self._clock()
        if started_s < self._next_listing_s:
            return
        self._open -= self._ledger.committed_shards(self._open)
        took_s = self._clock() - started_s
        self._next_listing_s = started_s + took_s / _LISTING_SHARE


def _chunks(numbers: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]
