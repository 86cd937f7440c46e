"""What the controller does next, as a pure function of what it saw. Level-triggered: it looks at
the state, never at what happened, so that a lost or repeated observation changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Observed:
    """One look at a run.

    Attributes:
        now_s: the controller's own monotonic clock.
        open_shards: shards without a commit.
        leased: shards somebody works on.
        enqueued_at_s: when this controller last enqueued a shard; no entry: never.
        waiting_at_s: when messages were last seen to wait in the run's queue; now, if some do.
        expires_at_s: of shards that were seen leased since they were last enqueued: when the lease,
            as it was seen last, runs out unless it is renewed.
        idle_since_s: of shards whose message a worker has taken since they were last enqueued:
            since when no lease of theirs was seen.
    """

    now_s: float
    open_shards: Collection[int]
    leased: Collection[int]
    enqueued_at_s: Mapping[int, float]
    waiting_at_s: float
    expires_at_s: Mapping[int, float] = field(default_factory=dict)
    idle_since_s: Mapping[int, float] = field(default_factory=dict)


def shards_to_enqueue(seen: Observed, grace_s: float, left: Collection[int]) -> list[int]:
    """Shards, other than those `left`, for which a message must be sent behind all others.

    Ascending.

    A shard this controller never enqueued gets its message. One that was never seen at work either
    lost its message when no message has waited for `grace_s`, which covers the time between a
    message's leaving the queue and its worker's first beat. A message too many costs a worker one
    look into the ledger, so being early is cheap; being late leaves a GPU idle.
    """
    left = set(left)
    unseen = [
        shard
        for shard in seen.open_shards
        if shard not in seen.leased and shard not in seen.expires_at_s and shard not in left
    ]
    fresh = [shard for shard in unseen if shard not in seen.enqueued_at_s]
    lost = [
        shard
        for shard in unseen
        if shard in seen.enqueued_at_s
        and shard not in seen.idle_since_s  # taken: `shards_left` knows when
        and seen.now_s - max(seen.enqueued_at_s[shard], seen.waiting_at_s) >= grace_s
    ]
    return sorted(fresh + lost)


def shards_left(seen: Observed, grace_s: float) -> list[int]:
    """Shards whose worker has left them, ascending: their message must go before all others.

    Their message was taken, so it does not matter what else waits. A lease that runs out without
    being renewed had an owner that was killed. One that is gone before its time was given back in
    order (with its message, or with a commit), or went with the broker's data and is back with the
    next beat: so that time is waited for, and what fails at once is not tried again at once. Whose
    message was taken and brought no lease within `grace_s` was killed before it had one, or while
    nobody looked.
    """
    ran_out = {shard for shard, end_s in seen.expires_at_s.items() if seen.now_s >= end_s}
    idle = {s for s, since_s in seen.idle_since_s.items() if seen.now_s - since_s >= grace_s}
    return sorted(
        shard for shard in ran_out | idle if shard in seen.open_shards and shard not in seen.leased
    )
