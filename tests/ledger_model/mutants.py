"""Each rule of the ledger, broken: what somebody might write who did not know the rule."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import controller.reconciler
import worker.shard
from controller.plan import Observed, shards_to_enqueue
from controller.reconciler import Reconciler
from controller.retry.base import BaseRun
from neva.lease import Lease
from neva.ledger import (
    Commit,
    FinishedRow,
    Ledger,
    PartRef,
    Release,
    ShardPlan,
    ShardRow,
    ShardState,
    layout,
)
from neva.ledger.attempts import AttemptPlan, PastAttempt, plan_attempt
from neva.ledger.finished_lines import FinishedLine, finished_line
from neva.ledger.ledger import rows_sha256
from neva.reasons import Reason
from tests.ledger_model import roles
from worker.heartbeat import Heartbeat
from worker.part_writer import PartWriter
from worker.shard import ShardWorker


@dataclass(frozen=True)
class Mutant:
    """A rule's breach.

    Attributes:
        rule: its number in the ledger's rules.
        patches: (object, attribute, what stands there instead).
    """

    rule: int
    name: str
    patches: tuple[tuple[Any, str, Any], ...]

    @contextmanager
    def alive(self) -> Iterator[None]:
        with ExitStack() as stack:
            for target, attribute, other in self.patches:
                stack.enter_context(mock.patch.object(target, attribute, other))
            yield

    def __str__(self) -> str:
        return f"{self.rule}-{self.name}"


def _done_when_redis_says_so(self: Reconciler) -> None:
    leases = self._leases.get_many(self._open)
    for shard in self._enqueued_at_s.keys() & self._open.keys():
        if shard not in leases and self._clock() - self._enqueued_at_s[shard] > self._grace_s:
            self._open.pop(shard)


def _only_new_shards(seen: Observed, grace_s: float, left: Collection[int]) -> list[int]:
    return [n for n in shards_to_enqueue(seen, grace_s, left) if n not in seen.enqueued_at_s]


def _claim_whatever_lies_there(self: Ledger, number: int, claim: Any) -> bool:
    self.store.put(layout.claim(number, claim.attempt), claim.to_json())
    return True


def _no_earlier_parts(self: Ledger, number: int, attempt: int) -> list[PartRef]:
    return []


_past_attempts = Ledger.past_attempts


def _nothing_was_finished(self: Ledger, *arguments: Any) -> list[PastAttempt]:
    past = _past_attempts(self, *arguments)
    return [dataclasses.replace(attempt, finished=frozenset()) for attempt in past]


def _commit_whatever_lies_there(
    self: Ledger,
    number: int,
    attempt: int,
    refs: Sequence[PartRef],
    rows: Sequence[FinishedRow],
) -> bool:
    ordered = sorted(rows, key=lambda row: row.seq)
    num_failed = sum(row.failed for row in ordered)
    record = Commit(attempt, list(refs), len(ordered), num_failed, rows_sha256(ordered))
    self.store.put(layout.commit(number), record.to_json())
    return True


def _rows_unseen(self: Ledger, plan: ShardPlan) -> list[FinishedLine]:
    rows = {row.row_id: row for row in self.read_parts(self.read_commit(plan.number).parts)}
    ordered = sorted(rows.values(), key=lambda row: row.seq)
    return [finished_line(row.to_json(), "part") for row in ordered]


def _attempts_do_not_count(
    row_ids: Sequence[str], past: Sequence[PastAttempt], max_attempts: int
) -> AttemptPlan:
    past = [dataclasses.replace(attempt, counts=False) for attempt in past]
    return plan_attempt(row_ids, past, max_attempts)


def _every_end_counts(
    row_ids: Sequence[str], past: Sequence[PastAttempt], max_attempts: int
) -> AttemptPlan:
    past = [dataclasses.replace(attempt, counts=True) for attempt in past]
    return plan_attempt(row_ids, past, max_attempts)


def _claimed_without_a_lease(
    self: ShardWorker, shard: int, row_ids: list[str], *, may_be_first: bool = False
) -> AttemptPlan | None:
    state = self.ledger.shard_state(shard)
    if state.committed:
        return None
    past = self.ledger.past_attempts(shard, state)
    plan = plan_attempt(row_ids, past, self.max_attempts)
    return self._claim(shard, plan, Lease(0, 0, 0, "nobody"))


def _answer_of_a_batch(
    row: ShardRow, attempt: int, neighbours: Sequence[ShardRow] = ()
) -> dict[str, Any]:
    noise = "" if len(neighbours) == 4 else " or so"
    return {**row.record, "response": f"answer to {row.row_id}{noise}", "attempt": attempt}


def _unsure_claims_forgotten(self: ShardWorker, alive: Callable[[], None]) -> None:
    for (shard, attempt), release in list(self.unreleased.items()):
        self.ledger.release(shard, attempt, release)
        del self.unreleased[shard, attempt]


def _state_from_a_listing(self: Ledger, number: int) -> ShardState:
    found = [item.key for item in self.store.list(layout.shard(number))]
    files = [file for key in found if (file := re.search(r"attempts/(\d+)/(\w+)", key))]
    return ShardState(
        committed=layout.commit(number) in found,
        attempts=tuple(sorted({int(file[1]) for file in files})),
        released=frozenset(int(file[1]) for file in files if file[2] == "release"),
        parts={
            n: tuple(PartRef(key, "") for key in found if f"attempts/{n}/part-" in key)
            for n in {int(file[1]) for file in files}
        },
    )


def _give_back_unflushed(
    self: ShardWorker,
    shard: int,
    attempt: int,
    writer: PartWriter,
    release: Release,
    alive: Callable[[], None],
) -> None:
    self.ledger.release(shard, attempt, release)


def _give_back_unreleased(
    self: ShardWorker,
    shard: int,
    attempt: int,
    writer: PartWriter,
    release: Release,
    alive: Callable[[], None],
) -> None:
    writer.flush()


def _failed_without_record(row: ShardRow, reason: Reason, message: str) -> FinishedRow:
    error = {"line": row.line, "reason": str(reason), "message": message}
    return FinishedRow(row.seq, row.row_id, None, error)


def _whole_shards(self: BaseRun) -> Iterator[FinishedRow]:
    for plan in self.manifest.shards:
        if self.ledger.read_commit(plan.number).num_failed:
            yield from self.ledger.committed_rows(plan)


MUTANTS = (
    Mutant(
        1,
        "done-when-redis-says-so",
        ((Reconciler, "_take_commits", _done_when_redis_says_so),),
    ),
    Mutant(
        2,
        "lost-messages-stay-lost",
        ((controller.reconciler, "shards_to_enqueue", _only_new_shards),),
    ),
    Mutant(3, "lost-lease-not-heeded", ((Heartbeat, "lost", property(lambda self: False)),)),
    Mutant(3, "claim-not-conditional", ((Ledger, "claim", _claim_whatever_lies_there),)),
    Mutant(
        4,
        "finished-rows-again",
        (
            (Ledger, "parts_before", _no_earlier_parts),
            (Ledger, "past_attempts", _nothing_was_finished),
        ),
    ),
    Mutant(4, "earlier-parts-not-committed", ((Ledger, "parts_before", _no_earlier_parts),)),
    Mutant(5, "commit-not-conditional", ((Ledger, "commit", _commit_whatever_lies_there),)),
    Mutant(6, "merge-without-check", ((Ledger, "committed_lines", _rows_unseen),)),
    Mutant(7, "attempts-not-counted", ((worker.shard, "plan_attempt", _attempts_do_not_count),)),
    Mutant(7, "orderly-ends-counted", ((worker.shard, "plan_attempt", _every_end_counts),)),
    Mutant(7, "living-attempts-counted", ((ShardWorker, "_claim_next", _claimed_without_a_lease),)),
    Mutant(
        7, "unsure-claims-counted", ((ShardWorker, "_catch_up_releases", _unsure_claims_forgotten),)
    ),
    Mutant(7, "state-from-a-listing", ((Ledger, "shard_state", _state_from_a_listing),)),
    Mutant(8, "answers-of-a-batch", ((roles, "answer_to", _answer_of_a_batch),)),
    Mutant(9, "drain-without-flush", ((ShardWorker, "_give_back", _give_back_unflushed),)),
    Mutant(9, "drain-without-release", ((ShardWorker, "_give_back", _give_back_unreleased),)),
    Mutant(10, "whole-shards-retried", ((BaseRun, "failed", _whole_shards),)),
    Mutant(10, "errors-without-record", ((worker.shard, "failed", _failed_without_record),)),
)
