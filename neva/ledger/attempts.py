"""Which rows the next attempt of a shard may touch. Pure; the ledger does the reading.

A row that kills whatever handles it must cost its own answer, not its neighbours'. Nobody sees the
murder weapon: all that is known of a killed attempt is the rows it had claimed and the rows it had
finished. So, after `max_attempts` attempts over everything, the window is halved until the row
that kills stands alone, and when it has killed `max_attempts` attempts alone it is given up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """What the ledger tells of an earlier attempt.

    Attributes:
        number: the fencing epoch.
        row_ids: rows it had claimed.
        finished: rows, of this shard, that its parts hold.
        counts: False when it ended in order and for a reason outside the rows (a drain, say).
    """

    number: int
    row_ids: tuple[str, ...]
    finished: frozenset[str]
    counts: bool


@dataclass(frozen=True, slots=True)
class AttemptPlan:
    """What to do next with a shard.

    Attributes:
        number: the attempt to claim.
        window: rows to answer, in shard order; empty when nothing is missing any more.
        give_up: rows that killed every attempt made on them alone.
    """

    number: int
    window: tuple[str, ...]
    give_up: tuple[str, ...]


def plan_attempt(
    row_ids: Sequence[str], past: Sequence[PastAttempt], max_attempts: int
) -> AttemptPlan:
    """Plan the attempt after `past` on a shard of `row_ids`, both in order."""
    finished = frozenset().union(*(attempt.finished for attempt in past))
    number = max((attempt.number for attempt in past), default=0) + 1
    # An attempt that finished all it had claimed killed nothing and says nothing.
    deaths = [
        frozenset(attempt.row_ids) - attempt.finished
        for attempt in past
        if attempt.counts and not attempt.finished.issuperset(attempt.row_ids)
    ]
    alone = [next(iter(left)) for left in deaths if len(left) == 1]
    missing = [row for row in row_ids if row not in finished]
    give_up = tuple(row for row in missing if alone.count(row) >= max_attempts)
    window = [row for row in missing if row not in give_up]
    unexplained = [left for left in deaths if left.isdisjoint(give_up)]
    if len(unexplained) >= max_attempts:
        suspects = min(
            (still for left in unexplained if (still := left.intersection(window))),
            key=len,
            default=frozenset[str](),
        )
        if suspects:
            window = [row for row in window if row in suspects]
            window = window[: max(1, len(window) // 2)]
    return AttemptPlan(number, tuple(window), give_up)
