"""Leases: who works on which shard right now, with how many rows done. A hint, never the truth.

A lease is one Redis string, `<attempt> <rows done> <rows failed>`, perhaps with ` <owner>`, that
expires unless its owner beats. The attempt number fences: a beat of a higher attempt takes the
lease over, and the next beat of the lower one learns that it has lost. When Redis is flushed,
leases come back with the next beat; until then the worst that can happen is that a shard is
enqueued once too often.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import redis

# Takes or renews the lease unless a later attempt holds it, or the same number's other owner.
_BEAT = """
local held = redis.call('GET', KEYS[1])
local attempt, owner
if held then attempt, owner = string.match(held, '^(%d+) %d+ %d+ ?(.*)$') end
attempt = tonumber(attempt)
if attempt and attempt > tonumber(ARGV[1]) then return 0 end
if attempt == tonumber(ARGV[1]) and owner ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
if attempt == tonumber(ARGV[1]) then return 2 end
return 1
"""

# Gives the lease up if this attempt, and this owner, still holds it.
_RELEASE = """
local held = redis.call('GET', KEYS[1])
local attempt, owner
if held then attempt, owner = string.match(held, '^(%d+) %d+ %d+ ?(.*)$') end
if tonumber(attempt) == tonumber(ARGV[1]) and owner == ARGV[2] then
  return redis.call('DEL', KEYS[1])
end
return 0
"""

_MGET_CHUNK = 1000
_NO_KEY = -2  # PTTL's answer


@dataclass(frozen=True, slots=True)
class Lease:
    """A shard somebody works on.

    Attributes:
        owner: tells those apart who have no attempt yet, and the number 0 in common; no spaces. An
            attempt's number has one owner, and needs none here.
    """

    attempt: int
    num_done: int
    num_failed: int
    owner: str = ""

    def encode(self) -> str:
        return f"{self.attempt} {self.num_done} {self.num_failed} {self.owner}".rstrip()

    @classmethod
    def decode(cls, value: str) -> Lease:
        attempt, done, failed, *owner = value.split()
        return cls(int(attempt), int(done), int(failed), *owner)


class Leases:
    """The leases of one run."""

    def __init__(self, client: redis.Redis, run_id: str, ttl_s: float) -> None:
        self._client = client
        self._prefix = f"neva:{run_id}:lease:"
        self.ttl_s = ttl_s
        self._ttl_ms = int(ttl_s * 1000)
        self._beat = client.register_script(_BEAT)
        self._release = client.register_script(_RELEASE)

    def get(self, shard: int) -> Lease | None:
        return self.get_many([shard]).get(shard)

    def get_many(self, shards: Iterable[int]) -> dict[int, Lease]:
        """Live leases by shard."""
        numbers = list(shards)
        leases = {}
        for start in range(0, len(numbers), _MGET_CHUNK):
            chunk = numbers[start : start + _MGET_CHUNK]
            values: list[Any] = self._client.mget([self._key(number) for number in chunk])
            for number, value in zip(chunk, values, strict=True):
                if value is not None:
                    leases[number] = Lease.decode(value.decode())
        return leases

    def remaining_s(self, shards: Iterable[int]) -> dict[int, float]:
        """Seconds until each lease expires unless it is renewed; none for those that are gone."""
        numbers = list(shards)
        left: dict[int, float] = {}
        for start in range(0, len(numbers), _MGET_CHUNK):
            chunk = numbers[start : start + _MGET_CHUNK]
            pipe = self._client.pipeline(transaction=False)
            for number in chunk:
                pipe.pttl(self._key(number))
            answers = zip(chunk, pipe.execute(), strict=True)
            left.update({number: ms / 1000 for number, ms in answers if ms != _NO_KEY})
        return left

    def take(self, shard: int, lease: Lease) -> bool:
        """Take the lease if nobody has it, whatever their attempt. False: somebody has."""
        value = lease.encode()
        return bool(self._client.set(self._key(shard), value, px=self._ttl_ms, nx=True))

    def beat(self, shard: int, lease: Lease) -> bool | None:
        """Take or renew. True: renewed; None: it had expired and is taken again; False: lost.

        After None the owner must look into the ledger whether a later attempt has come and gone.
        """
        answer = self._beat(
            keys=[self._key(shard)],
            args=[lease.attempt, lease.owner, lease.encode(), self._ttl_ms],
        )
        return {0: False, 1: None, 2: True}[int(answer)]

    def release(self, shard: int, attempt: int, owner: str = "") -> None:
        self._release(keys=[self._key(shard)], args=[attempt, owner])

    def purge(self) -> None:
        """Forget all leases of the run."""
        keys = list(self._client.scan_iter(f"{self._prefix}*", count=1000))
        for start in range(0, len(keys), _MGET_CHUNK):
            self._client.delete(*keys[start : start + _MGET_CHUNK])

    def _key(self, shard: int) -> str:
        return f"{self._prefix}{shard}"
