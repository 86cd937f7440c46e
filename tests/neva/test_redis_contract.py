"""What leases and queue ask of the broker, on a real server and on the fake of the model tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from neva.lease import Lease, Leases
from tests.fakes.redis_server import FakeRedis


class Clock:
    """Time that passes when told to; on a real server it really does."""

    def __init__(self, is_real: bool) -> None:
        self._is_real = is_real
        self._now_s = 0.0

    def __call__(self) -> float:
        return self._now_s

    def wait(self, seconds: float) -> None:
        self._now_s += seconds
        if self._is_real:
            time.sleep(seconds)


@pytest.fixture(params=["real", "fake"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def clock(kind: str) -> Clock:
    return Clock(kind == "real")


@pytest.fixture
def client(kind: str, clock: Clock, request: pytest.FixtureRequest) -> Any:
    if kind == "fake":
        return FakeRedis(clock)
    real: redis.Redis = request.getfixturevalue("redis_client")
    return real


def test_strings_expire_and_are_set_once(client: Any, clock: Clock) -> None:
    assert client.get("a") is None
    assert client.set("a", "1", px=50, nx=True) is True
    assert client.set("a", "2", px=50, nx=True) is None
    assert client.get("a") == b"1"
    assert client.pttl("a") in range(1, 51)
    assert client.set("b", b"x", ex=60) is True
    assert client.set("c", "for ever") is True
    assert (client.pttl("c"), client.pttl("d")) == (-1, -2)
    clock.wait(0.06)
    assert client.mget(["a", "b", "missing"]) == [None, b"x", None]
    assert client.set("a", "3", px=50, nx=True) is True


def test_keys_are_found_by_pattern_and_deleted(client: Any) -> None:
    for key in ("run:lease:1", "run:lease:22", "run:trouble"):
        client.set(key, "x")
    assert sorted(client.scan_iter("run:lease:*", count=10)) == [b"run:lease:1", b"run:lease:22"]
    assert client.delete("run:lease:1", "run:lease:22", "missing") == 2
    assert list(client.scan_iter("run:lease:*")) == []


def test_only_known_members_are_prolonged(client: Any) -> None:
    assert client.zadd("index", {"tag": 2.0}, xx=True) == 0
    assert client.zscore("index", "tag") is None
    assert client.zadd("index", {"tag": 1.0}) == 1
    assert client.zadd("index", {"tag": 5.0}, xx=True) == 0
    assert client.zscore("index", "tag") == 5.0


def test_sorted_sets_and_hashes_are_read_and_emptied(client: Any) -> None:
    assert client.zrange("index", 0, -1) == []
    client.zadd("index", {"late": 2.0, "early": 1.0})
    assert client.zrange("index", 0, -1) == [b"early", b"late"]
    assert client.zrem("index", "early") == 1
    assert client.zrem("index", "early") == 0
    assert client.zrange("index", 0, -1) == [b"late"]
    assert client.hset("hash", "a", b"1") == 1
    assert client.hset("hash", "a", b"2") == 0
    assert client.hmget("hash", [b"a", b"b"]) == [b"2", None]
    assert client.hdel("hash", "a") == 1
    assert client.hdel("hash", "a") == 0


def test_lists_and_lengths(client: Any) -> None:
    for value in (b"1", b"2", b"3"):
        client.rpush("list", value)
    assert client.lrange("list", 0, 1) == [b"1", b"2"]
    assert client.lrange("list", 2, 3) == [b"3"]
    assert client.lrange("list", 0, -1) == [b"1", b"2", b"3"]
    client.set("a", "x", px=5000)
    pipe = client.pipeline(transaction=False)
    pipe.llen("list")
    pipe.hlen("missing")
    pipe.pttl("missing")
    assert pipe.execute() == [3, 0, -2]


def test_a_flush_forgets_everything(client: Any) -> None:
    client.set("a", "x")
    client.rpush("list", b"1")
    client.flushall()
    assert client.get("a") is None
    assert client.llen("list") == 0


@pytest.mark.parametrize(
    ("held", "beats", "answer", "holds"),
    [
        (None, 3, None, 3),
        (3, 3, True, 3),
        (2, 3, None, 3),
        (4, 3, False, 4),
        (10, 9, False, 10),  # numbers, not words
    ],
)
def test_a_beat_takes_and_renews_but_never_from_a_later_attempt(
    client: Any, held: int | None, beats: int, answer: bool | None, holds: int
) -> None:
    leases = Leases(client, "run", ttl_s=30)
    if held is not None:
        assert leases.take(7, Lease(held, 0, 0))
    assert leases.beat(7, Lease(beats, 1, 0)) is answer
    found = leases.get(7)
    assert found is not None
    assert found.attempt == holds
    for number, gone in ((holds + 1, False), (holds, True)):
        leases.release(7, number)
        assert (leases.get(7) is None) is gone


def test_of_two_owners_of_one_number_only_who_took_the_lease_beats_and_ends_it(client: Any) -> None:
    leases = Leases(client, "run", ttl_s=30)
    mine, yours = Lease(0, 0, 0, "me"), Lease(0, 0, 0, "you")
    assert leases.take(7, mine)
    for other in (yours, Lease(0, 0, 0)):
        assert leases.beat(7, other) is False
        leases.release(7, 0, other.owner)
    assert leases.beat(7, mine) is True
    assert leases.get(7) == mine
    assert leases.beat(7, Lease(1, 0, 0)) is None, "an attempt takes it over"
    assert leases.beat(7, mine) is False
    leases.release(7, 0, "me")
    assert leases.get(7) == Lease(1, 0, 0)


def test_a_lease_expires_and_is_taken_again(client: Any, clock: Clock) -> None:
    leases = Leases(client, "run", ttl_s=0.05)
    assert leases.take(7, Lease(1, 0, 0))
    clock.wait(0.06)
    assert leases.get(7) is None
    assert leases.beat(7, Lease(1, 0, 0)) is None
    leases.purge()
    assert leases.get(7) is None


def test_the_fake_refuses_scripts_it_does_not_know(clock: Clock) -> None:
    register: Callable[[str], object] = FakeRedis(clock).register_script
    with pytest.raises(KeyError):
        register("return 1")
