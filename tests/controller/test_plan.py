from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.plan import Observed, shards_to_enqueue

GRACE_S = 5.0


def seen(
    open_shards: set[int],
    leased: set[int] | None = None,
    enqueued_at_s: dict[int, float] | None = None,
    waiting_at_s: float = 0.0,
) -> Observed:
    return Observed(100.0, open_shards, leased or set(), enqueued_at_s or {}, waiting_at_s)


def test_every_shard_is_enqueued_once_at_the_start() -> None:
    assert shards_to_enqueue(seen({2, 0, 1}), GRACE_S) == [0, 1, 2]
    again = seen({0, 1, 2}, enqueued_at_s=dict.fromkeys(range(3), 100.0), waiting_at_s=100.0)
    assert shards_to_enqueue(again, GRACE_S) == []


def test_a_shard_without_message_lease_and_commit_is_enqueued_again() -> None:
    assert shards_to_enqueue(seen({7}, enqueued_at_s={7: 90.0}), GRACE_S) == [7]


def test_a_shard_somebody_works_on_is_left_alone() -> None:
    assert shards_to_enqueue(seen({7}, {7}, {7: 0.0}), GRACE_S) == []


def test_a_message_on_its_way_has_time_to_arrive() -> None:
    assert shards_to_enqueue(seen({7}, enqueued_at_s={7: 96.0}), GRACE_S) == []


def test_nothing_counts_as_lost_while_messages_wait_or_have_just_left() -> None:
    for waiting_at_s in (100.0, 96.0):
        just_left = seen({7}, enqueued_at_s={7: 0.0}, waiting_at_s=waiting_at_s)
        assert shards_to_enqueue(just_left, GRACE_S) == []


@given(
    open_shards=st.sets(st.integers(0, 9)),
    leased=st.sets(st.integers(0, 9)),
    enqueued_at_s=st.dictionaries(st.integers(0, 9), st.floats(0, 100)),
    waiting_at_s=st.floats(0, 100),
)
def test_committed_shards_are_never_enqueued_and_lost_ones_always_in_the_end(
    open_shards: set[int], leased: set[int], enqueued_at_s: dict[int, float], waiting_at_s: float
) -> None:
    observed = seen(open_shards, leased, enqueued_at_s, waiting_at_s)
    chosen = shards_to_enqueue(observed, GRACE_S)
    assert set(chosen) <= open_shards
    later = Observed(observed.now_s + GRACE_S, open_shards, leased, enqueued_at_s, waiting_at_s)
    assert set(shards_to_enqueue(later, GRACE_S)) >= open_shards - leased
