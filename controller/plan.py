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
        num_ready: messages that wait in the run's queue.
    """

    now_s: float
    open_shards: Collection[int]
    leased: Collection[int]
    enqueued_at_s: Mapping[int, float]
    num_ready: int


def shards_to_enqueue(seen: Observed, grace_s: float) -> list[int]:
    """Shards for which a message must be sent, ascending.

    A shard this controller never enqueued gets its message. One that has neither commit nor lease
    lost its message or its worker when no message waits either; `grace_s` covers the time between
    a message's leaving the queue and its worker's first beat. A message too many costs a worker
    one look into the ledger, so being early is cheap; being late leaves a GPU idle.
    """
    fresh = [shard for shard in seen.open_shards if shard not in seen.enqueued_at_s]
    lost = [
        shard
        for shard in seen.open_shards
        if seen.num_ready == 0
        and shard not in seen.leased
        and shard in seen.enqueued_at_s
        and seen.now_s - seen.enqueued_at_s[shard] >= grace_s
    ]
    return sorted(fresh + lost)
