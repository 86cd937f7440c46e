"""Leases on a real server."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import redis

from neva.lease import Lease, Leases


@pytest.fixture
def leases(redis_client: redis.Redis) -> Leases:
    return Leases(redis_client, "run", ttl_s=30)


def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it never came true"
        time.sleep(0.01)


def test_a_lease_tells_attempt_and_rows(leases: Leases) -> None:
    assert leases.get(5) is None
    assert leases.beat(5, Lease(1, 0, 0)) is None, "nobody held it"
    assert leases.beat(5, Lease(1, 4, 1)) is True
    assert leases.get_many([4, 5, 6]) == {5: Lease(1, 4, 1)}


def test_a_lease_is_taken_only_while_nobody_has_it(leases: Leases) -> None:
    assert leases.take(5, Lease(1, 0, 0))
    assert not leases.take(5, Lease(1, 0, 0)), "not even with the same number"
    assert not leases.take(5, Lease(2, 0, 0))
    assert leases.beat(5, Lease(1, 3, 0)) is True
    leases.release(5, 1)
    assert leases.take(5, Lease(2, 0, 0))


def test_a_higher_attempt_takes_over_and_the_lower_one_learns_it(leases: Leases) -> None:
    leases.beat(5, Lease(1, 0, 0))
    assert leases.beat(5, Lease(2, 0, 0)) is not False
    assert leases.beat(5, Lease(1, 9, 9)) is False
    assert leases.get(5) == Lease(2, 0, 0)


def test_a_lease_runs_out_without_beats(redis_client: redis.Redis) -> None:
    leases = Leases(redis_client, "run", ttl_s=0.05)
    leases.beat(5, Lease(1, 0, 0))
    until(lambda: leases.get(5) is None)
    assert leases.beat(5, Lease(1, 0, 0)) is None, "the owner must look into the ledger"


def test_only_the_owner_releases(leases: Leases) -> None:
    leases.beat(5, Lease(2, 0, 0))
    leases.release(5, 1)
    assert leases.get(5) == Lease(2, 0, 0)
    leases.release(5, 2)
    assert leases.get(5) is None


def test_leases_of_two_runs_do_not_meet(redis_client: redis.Redis, leases: Leases) -> None:
    leases.beat(5, Lease(1, 0, 0))
    assert Leases(redis_client, "other", ttl_s=30).get(5) is None


def test_many_leases_are_read_in_chunks(leases: Leases) -> None:
    leases.beat(0, Lease(1, 0, 0))
    leases.beat(2499, Lease(1, 0, 0))
    assert set(leases.get_many(range(2500))) == {0, 2499}
