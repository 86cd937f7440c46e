"""One message's work: bring one shard to its commit, attempt by attempt.

Called in a Celery child. May be called for a shard that is done, or that somebody works on, or
twice at once: the ledger sorts it out.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

import redis
import structlog

from neva import tracing
from neva.errors import NevaError
from neva.lease import Lease, Leases
from neva.ledger import Claim, FinishedRow, Ledger, Release, ShardPlan, ShardRow, select_rows
from neva.ledger.attempts import AttemptPlan, plan_attempt
from neva.reasons import Reason
from neva.settings import Settings
from worker.answering import Answerer, Interrupted
from worker.config import WorkerConfig
from worker.heartbeat import Heartbeat
from worker.outputs import failed
from worker.part_writer import LeaseLost, PartWriter

log = structlog.get_logger()

# How long an orderly end is tried to be written down while the lease is still held.
_RELEASE_PAUSES_S = (0.0, 0.5, 1.0, 2.0, 4.0)
# Of who has no attempt yet: any attempt takes its lease over.
_LOOKS = 0
_MAX_LOOKS = 3  # a store that takes longer than a lease every time must not stop all work


class Outcome(Enum):
    """What became of a message."""

    COMMITTED = "committed"
    NOTHING_TO_DO = "nothing to do"  # done already, or somebody works on it
    LOST = "lost"  # a later attempt has it
    DRAINED = "drained"  # put the message back


@dataclass(frozen=True, slots=True)
class ShardWorker:
    """Everything a child needs to work on shards of one run."""

    config: WorkerConfig
    settings: Settings
    ledger: Ledger
    leases: Leases
    client: redis.Redis
    answerer: Answerer
    max_attempts: int
    # Orderly ends that could not be written down yet, by shard and attempt.
    unreleased: dict[tuple[int, int], Release] = field(default_factory=dict)
    # Claims that failed, but may have been made all the same, and their orderly ends.
    unsure: dict[tuple[int, int], tuple[Claim, Release]] = field(default_factory=dict)
    sleep: Callable[[float], None] = time.sleep

    def run(self, plan: ShardPlan, delivery_tag: str | None) -> Outcome:
        """Work on the shard until it is committed, or must be left.

        Raises:
            NevaError: a store or engine that can't be had; the shard's lease is released.
            RedisError: the broker can't be had.
        """
        if self.leases.get(plan.number) is not None:
            return Outcome.NOTHING_TO_DO
        self._catch_up_releases(self._alive_before_attempt(plan.number))
        rows = self.ledger.read_shard(plan)
        row_ids = [row.row_id for row in rows]
        # Nobody has begun most shards: the first attempt's number, if it can be had, says so.
        attempt = self._claim_next(plan.number, row_ids, may_be_first=True)
        while attempt is not None:
            structlog.contextvars.bind_contextvars(shard=plan.number, attempt=attempt.number)
            try:
                with tracing.span("shard", shard=plan.number, attempt=attempt.number):
                    committed = self._attempt(plan, rows, attempt, delivery_tag)
            except LeaseLost as lost:
                log.warning("lease lost", error=lost.message)
                return Outcome.LOST
            except Interrupted:
                return Outcome.DRAINED
            finally:
                structlog.contextvars.unbind_contextvars("shard", "attempt")
            if committed:
                return Outcome.COMMITTED
            attempt = self._claim_next(plan.number, row_ids)
        return Outcome.NOTHING_TO_DO

    def _claim_next(
        self, shard: int, row_ids: list[str], *, may_be_first: bool = False
    ) -> AttemptPlan | None:
        """Take lease and attempt number; None when the shard is done or somebody else has them.

        The lease first, and it is held while the ledger is looked at: an attempt at work would be
        taken for a death there, and so would copies of one message that never came to work.
        """
        look = Lease(_LOOKS, 0, 0, uuid.uuid4().hex)
        if not self.leases.take(shard, look):
            return None
        attempt = None
        try:
            if may_be_first:
                attempt = self._claim(shard, plan_attempt(row_ids, [], self.max_attempts), look)
            if attempt is None:
                attempt = self._look_and_claim(shard, row_ids, look)
        finally:
            if attempt is None:
                self.leases.release(shard, look.attempt, look.owner)
        return attempt

    def _look_and_claim(self, shard: int, row_ids: list[str], look: Lease) -> AttemptPlan | None:
        """Take the number after all attempts that the ledger tells of."""
        for _ in range(_MAX_LOOKS):
            state = self.ledger.shard_state(shard)
            if state.committed:
                return None
            past = self.ledger.past_attempts(shard, state)
            kept = self.leases.beat(shard, look)
            if kept is False:
                return None  # one of those attempts is at work, or somebody else looks
            if kept:
                break
            # The lease ran out meanwhile, and somebody may have begun: look again.
        return self._claim(shard, plan_attempt(row_ids, past, self.max_attempts), look)

    def _claim(self, shard: int, attempt: AttemptPlan, look: Lease) -> AttemptPlan | None:
        """Take the attempt's number; None when somebody else has it."""
        claim_id = uuid.uuid4().hex
        claim = Claim(attempt.number, self.config.worker_id, claim_id, list(attempt.window))
        try:
            claimed = self.ledger.claim(shard, claim)
        except NevaError as error:
            self.unsure[shard, attempt.number] = claim, _orderly_end(error)
            self._settle_for_a_while(shard)
            raise
        if not claimed or (not self._still(look, shard) and self._left(shard, attempt.number)):
            return None
        with contextlib.suppress(redis.RedisError):  # the heartbeat will do it, and ask the ledger
            self.leases.beat(shard, Lease(attempt.number, 0, 0))
        return attempt

    def _still(self, look: Lease, shard: int) -> bool:
        """Whether the lease lasted while a number was taken, which may have been slow.

        True also where the broker can't tell: the heartbeat will ask the ledger then.
        """
        try:
            return bool(self.leases.beat(shard, look))
        except redis.RedisError:
            return True

    def _left(self, shard: int, attempt: int) -> bool:
        """Leave an attempt that has not begun, if a later one has."""
        try:
            if not self.ledger.is_superseded(shard, attempt):
                return False
            words = "a later attempt began while this one's number was taken"
            self.unreleased[shard, attempt] = Release(str(Reason.LEASE_LOST), words, counts=False)
            self._catch_up_releases(self._alive_before_attempt(shard))
        except NevaError as error:
            self.unreleased.setdefault((shard, attempt), _orderly_end(error))
            self._settle_for_a_while(shard)
            raise
        return True

    def _attempt(
        self,
        plan: ShardPlan,
        rows: list[ShardRow],
        attempt: AttemptPlan,
        delivery_tag: str | None,
    ) -> bool:
        """One attempt. True when the shard is committed, False when rows are left for the next."""

        heartbeat = Heartbeat(
            self.leases,
            self.client,
            plan.number,
            attempt.number,
            delivery_tag,
            lambda: self.ledger.is_superseded(plan.number, attempt.number),
            self.settings.heartbeat_s,
            self.settings.stall_s,
            lambda: self.config.still_working_on(plan.number),
        )
        writer = PartWriter(
            self.ledger,
            plan.number,
            attempt.number,
            flush_rows=self.settings.flush_rows,
            flush_interval_s=self.settings.flush_interval_s,
            lost=heartbeat.lost_before_write,
        )
        with heartbeat:
            try:
                return self._answer_window(plan, rows, attempt, heartbeat, writer)
            except LeaseLost:
                raise
            except NevaError as error:
                end = _orderly_end(error)
                self._give_back(plan.number, attempt.number, writer, end, heartbeat.alive)
                raise

    def _answer_window(
        self,
        plan: ShardPlan,
        rows: list[ShardRow],
        attempt: AttemptPlan,
        heartbeat: Heartbeat,
        writer: PartWriter,
    ) -> bool:
        # Read after the claim, so that nothing an earlier attempt managed to write is missed.
        row_ids = [row.row_id for row in rows]
        refs = self.ledger.parts_before(plan.number, attempt.number)
        finished = select_rows(self.ledger.read_parts(refs), row_ids)
        heartbeat.num_done = len(finished)
        heartbeat.num_failed = sum(row.failed for row in finished.values())

        def finish(row: FinishedRow) -> None:
            writer.add(row)
            heartbeat.num_done += 1
            heartbeat.num_failed += row.failed

        def stop_if_lost() -> None:
            if heartbeat.lost:
                raise LeaseLost(f"a later attempt has shard {plan.number}")

        def tick() -> None:
            heartbeat.alive()
            writer.flush_if_due()
            stop_if_lost()
            if self.config.draining:
                raise Interrupted("the worker is draining")

        for row in rows:
            if row.row_id in attempt.give_up and row.row_id not in finished:
                finish(failed(row, Reason.WORKER_CRASHED, self._killer_words()))
        window = set(attempt.window) - finished.keys()
        missing = [row for row in rows if row.row_id in window]
        self.answerer.answer(missing, attempt.number, finish, tick)
        writer.flush()
        finished = select_rows([*finished.values(), *writer.rows], row_ids)
        if len(finished) < len(rows):
            return False
        if heartbeat.lost_before_write():
            raise LeaseLost(f"a later attempt has shard {plan.number}")
        # Lost or won, the shard is done: one commit exists.
        with tracing.span("commit", shard=plan.number, attempt=attempt.number):
            self.ledger.commit(
                plan.number, attempt.number, [*refs, *writer.refs], list(finished.values())
            )
        return True

    def _give_back(
        self,
        shard: int,
        attempt: int,
        writer: PartWriter,
        release: Release,
        alive: Callable[[], None],
    ) -> None:
        """Keep what is finished and write down that nobody was killed.

        The store may be the very thing that failed, so it is tried for a while; what still can't
        be written is caught up with later, lest an outage be counted against the rows.
        """
        self.unreleased[shard, attempt] = release

        def finish() -> None:
            writer.flush()
            alive()
            self._catch_up_releases(alive)

        self._try_for_a_while(finish, alive)

    def _settle_for_a_while(self, shard: int) -> None:
        alive = self._alive_before_attempt(shard)
        self._try_for_a_while(lambda: self._catch_up_releases(alive), alive)

    def _alive_before_attempt(self, shard: int) -> Callable[[], None]:
        """The child's sign of life while it has no heartbeat yet."""
        return lambda: self.config.still_working_on(shard)

    def _try_for_a_while(self, finish: Callable[[], None], alive: Callable[[], None]) -> None:
        """Call `finish` until it raises no store error, a few times.

        Args:
            alive: a sign of life between two requests: a store that hangs takes minutes for each,
                and a child that waits for it is not stuck.
        """
        for pause_s in _RELEASE_PAUSES_S:
            self.sleep(pause_s)
            alive()
            try:
                finish()
            except LeaseLost:
                return
            except NevaError as error:
                log.warning("can't give the shard back yet", error=error.message)
                continue
            return

    def _catch_up_releases(self, alive: Callable[[], None]) -> None:
        for (shard, attempt), (claim, release) in list(self.unsure.items()):
            alive()
            # Once more: it is ours then, or somebody else's, but won't appear any more by itself.
            if self.ledger.claim(shard, claim):
                self.unreleased[shard, attempt] = release
            del self.unsure[shard, attempt]
        for (shard, attempt), release in list(self.unreleased.items()):
            alive()
            self.ledger.release(shard, attempt, release)
            del self.unreleased[shard, attempt]

    def _killer_words(self) -> str:
        return f"whatever handled this row alone was killed, {self.max_attempts} times"


def _orderly_end(error: NevaError) -> Release:
    """The end of an attempt for a reason outside its rows, which are not to blame."""
    return Release(str(error.reason), error.message, counts=False)
