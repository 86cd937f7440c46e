"""What the controller does next, as a pure function of what it saw. Level-triggered: it looks at
the state, never at what happened, so that a lost or repeated observation changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Observed:
    """One look at a run.

    Attributes:
        now_s: the controller's own monotonic clock.
        open_shards: shards without a commit.
        leased: shards somebody works on.
        enqueued_at_s: when this controller last enqueued a shard; no entry: never.
        waiting_at_s: when messages were last seen to wait in the run's queue; now, if some do.
    """

    now_s: float
    open_shards: Collection[int]
    leased: Collection[int]
    enqueued_at_s: Mapping[int, float]
    waiting_at_s: float


def shards_to_enqueue(seen: Observed, grace_s: float) -> list[int]:
    """Shards for which a message must be sent, ascending.

    A shard this controller never enqueued gets its message. One that has neither commit nor lease
    lost its message or its worker when no message has waited for `grace_s` either, which covers
    the time between a message's leaving the queue and its worker's first beat. A message too many
    costs a worker one look into the ledger, so being early is cheap; being late leaves a GPU idle.
    """
    fresh = [shard for shard in seen.open_shards if shard not in seen.enqueued_at_s]
    lost = [
        shard
        for shard in seen.open_shards
        if shard not in seen.leased
        and shard in seen.enqueued_at_s
        and seen.now_s - max(seen.enqueued_at_s[shard], seen.waiting_at_s) >= grace_s
    ]
    return sorted(fresh + lost)
