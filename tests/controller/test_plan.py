from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from controller.plan import Observed, shards_left, shards_to_enqueue

GRACE_S = 5.0


def seen(
    open_shards: set[int],
    leased: set[int] | None = None,
    enqueued_at_s: dict[int, float] | None = None,
    waiting_at_s: float = 0.0,
    expires_at_s: dict[int, float] | None = None,
    idle_since_s: dict[int, float] | None = None,
) -> Observed:
    return Observed(
        100.0,
        open_shards,
        leased or set(),
        enqueued_at_s or {},
        waiting_at_s,
        expires_at_s or {},
        idle_since_s or {},
    )


def behind(looked: Observed) -> list[int]:
    return shards_to_enqueue(looked, GRACE_S, shards_left(looked, GRACE_S))


def test_every_shard_is_enqueued_once_at_the_start() -> None:
    assert behind(seen({2, 0, 1})) == [0, 1, 2]
    again = seen({0, 1, 2}, enqueued_at_s=dict.fromkeys(range(3), 100.0), waiting_at_s=100.0)
    assert behind(again) == []


def test_a_shard_without_message_lease_and_commit_is_enqueued_again() -> None:
    assert behind(seen({7}, enqueued_at_s={7: 90.0})) == [7]


def test_a_shard_somebody_works_on_is_left_alone() -> None:
    assert behind(seen({7}, {7}, {7: 0.0})) == []


def test_a_message_on_its_way_has_time_to_arrive() -> None:
    assert behind(seen({7}, enqueued_at_s={7: 96.0})) == []


def test_nothing_counts_as_lost_while_messages_wait_or_have_just_left() -> None:
    for waiting_at_s in (100.0, 96.0):
        just_left = seen({7}, enqueued_at_s={7: 0.0}, waiting_at_s=waiting_at_s)
        assert behind(just_left) == []


def test_a_shard_whose_lease_ran_out_goes_before_all_that_waits() -> None:
    killed = seen({7, 8}, set(), {7: 50.0, 8: 50.0}, waiting_at_s=100.0, expires_at_s={7: 99.9})
    assert shards_left(killed, GRACE_S) == [7]
    assert behind(killed) == [], "not a second time"


def test_a_lease_that_is_gone_before_its_time_is_waited_for() -> None:
    given_back = seen({7}, set(), {7: 50.0}, expires_at_s={7: 100.1})
    assert shards_left(given_back, GRACE_S) == []
    assert behind(given_back) == []


def test_nothing_is_left_that_is_at_work_done_or_has_not_been_begun() -> None:
    for looked in (
        seen({7}, {7}, {7: 50.0}, expires_at_s={7: 99.0}, idle_since_s={7: 50.0}),
        seen(set(), set(), {7: 50.0}, expires_at_s={7: 99.0}, idle_since_s={7: 50.0}),
        seen({7}, set(), {7: 50.0}),
    ):
        assert shards_left(looked, GRACE_S) == []


def test_a_taken_message_that_brought_no_lease_in_time_goes_before_all_that_waits() -> None:
    idle = seen({7, 8}, set(), {7: 50.0, 8: 50.0}, 100.0, idle_since_s={7: 95.0, 8: 96.0})
    assert shards_left(idle, GRACE_S) == [7]
    waiting_no_more = replace(idle, waiting_at_s=50.0)
    assert behind(waiting_no_more) == [], "it is waited for"


@given(
    open_shards=st.sets(st.integers(0, 9)),
    leased=st.sets(st.integers(0, 9)),
    enqueued_at_s=st.dictionaries(st.integers(0, 9), st.floats(0, 100)),
    waiting_at_s=st.floats(0, 100),
    expires_at_s=st.dictionaries(st.integers(0, 9), st.floats(95, 105)),
    idle_since_s=st.dictionaries(st.integers(0, 9), st.floats(90, 100)),
)
def test_committed_shards_are_never_enqueued_and_lost_ones_always_in_the_end_and_none_twice(
    open_shards: set[int],
    leased: set[int],
    enqueued_at_s: dict[int, float],
    waiting_at_s: float,
    expires_at_s: dict[int, float],
    idle_since_s: dict[int, float],
) -> None:
    observed = seen(open_shards, leased, enqueued_at_s, waiting_at_s, expires_at_s, idle_since_s)
    later = replace(observed, now_s=observed.now_s + GRACE_S)
    for look in (observed, later):
        first, last = shards_left(look, GRACE_S), behind(look)
        assert set(first) | set(last) <= open_shards - leased
        assert not set(first) & set(last)
    assert {
        *shards_left(later, GRACE_S),
        *behind(later),
    } == open_shards - leased
