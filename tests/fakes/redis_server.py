"""The few commands of Redis that leases and the queue use, in memory, with Redis' semantics.

tests/neva/test_redis_contract.py runs the same assertions here and on a real server. Scripts are
known by their text: one that changed is refused until its meaning is written down here again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from neva import lease

# Runs a command when its time has come: (verb, key, what it does to the server) → its answer.
Gate = Callable[[str, str, Callable[[], Any]], Any]


class FakeRedis:
    """A server and its client in one.

    Args:
        clock: the server's; keys expire by it.

    Attributes:
        gate: every command goes through it.
        lists: by key, what waits in each.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.gate: Gate = lambda verb, key, effect: effect()
        self._strings: dict[str, tuple[bytes, float]] = {}
        self._sets: dict[str, dict[str, float]] = {}
        self._hashes: dict[str, dict[str, bytes]] = {}
        self.lists: dict[str, list[bytes]] = {}

    # Strings

    def get(self, key: str) -> bytes | None:
        return self.gate("get", key, lambda: self.peek(key))  # type: ignore[no-any-return]

    def mget(self, keys: Iterable[str]) -> list[bytes | None]:
        names = list(keys)
        return self.gate("mget", "", lambda: [self.peek(key) for key in names])  # type: ignore[no-any-return]

    def set(
        self,
        key: str,
        value: str | bytes,
        *,
        ex: float | None = None,
        px: float | None = None,
        nx: bool = False,
    ) -> bool | None:
        def effect() -> bool | None:
            if nx and self.peek(key) is not None:
                return None
            life_s = ex if ex is not None else px / 1000 if px is not None else float("inf")
            self._set(key, value, life_s)
            return True

        return self.gate("take" if nx else "set", key, effect)  # type: ignore[no-any-return]

    def delete(self, *keys: str | bytes) -> int:
        names = [key.decode() if isinstance(key, bytes) else key for key in keys]

        def effect() -> int:
            gone = [self._strings.pop(name, None) or self.lists.pop(name, None) for name in names]
            return sum(value is not None for value in gone)

        return self.gate("delete", " ".join(names), effect)  # type: ignore[no-any-return]

    def scan_iter(self, pattern: str, count: int = 10) -> Iterator[bytes]:
        names = [key for key in self._strings if self.peek(key) is not None]
        yield from (key.encode() for key in names if fnmatchcase(key, pattern))

    def flushall(self) -> None:
        for everything in (self._strings, self._sets, self._hashes, self.lists):
            everything.clear()

    # Sorted sets, hashes and lists, as far as the queue looks at them

    def zadd(self, key: str, scores: dict[str, float], xx: bool = False) -> int:
        def effect() -> int:
            members = self._sets.setdefault(key, {})
            wanted = {name: score for name, score in scores.items() if not xx or name in members}
            num_new = len(wanted.keys() - members.keys())
            members.update(wanted)
            return num_new

        return self.gate("zadd", key, effect)  # type: ignore[no-any-return]

    def zscore(self, key: str, name: str) -> float | None:
        return self._sets.get(key, {}).get(name)

    def zrange(self, key: str, start: int, end: int) -> list[bytes]:
        """All members by score; no other range is asked for."""
        assert (start, end) == (0, -1)

        def effect() -> list[bytes]:
            members = self._sets.get(key, {})
            return [name.encode() for name in sorted(members, key=lambda n: (members[n], n))]

        return self.gate("zrange", key, effect)  # type: ignore[no-any-return]

    def zrem(self, key: str, name: str) -> int:
        return int(self._sets.get(key, {}).pop(name, None) is not None)

    def llen(self, key: str) -> int:
        return len(self.lists.get(key, ()))

    def lrange(self, key: str, start: int, end: int) -> list[bytes]:
        items = self.lists.get(key, [])
        stop = None if end == -1 else end + 1
        return self.gate("lrange", key, lambda: items[start:stop])  # type: ignore[no-any-return]

    def pttl(self, key: str) -> int:
        """Milliseconds; -2 without such a key, -1 without an end."""
        if self.peek(key) is None:
            return -2
        left_s = self._strings[key][1] - self._clock()
        return -1 if left_s == float("inf") else round(left_s * 1000)

    def hlen(self, key: str) -> int:
        return len(self._hashes.get(key, ()))

    def hset(self, key: str, name: str, value: bytes) -> int:
        fields = self._hashes.setdefault(key, {})
        is_new = name not in fields
        fields[name] = value
        return int(is_new)

    def hmget(self, key: str, names: Iterable[bytes]) -> list[bytes | None]:
        def effect() -> list[bytes | None]:
            fields = self._hashes.get(key, {})
            return [fields.get(name.decode()) for name in names]

        return self.gate("hmget", key, effect)  # type: ignore[no-any-return]

    def hdel(self, key: str, name: str) -> int:
        return int(self._hashes.get(key, {}).pop(name, None) is not None)

    def rpush(self, key: str, value: bytes) -> int:
        self.lists.setdefault(key, []).append(value)
        return self.llen(key)

    def pipeline(self, transaction: bool = True) -> _Pipeline:
        return _Pipeline(self)

    # Scripts

    def register_script(self, text: str) -> Callable[..., int]:
        verb, meaning = {
            lease._BEAT: ("beat", self._beat),
            lease._RELEASE: ("release", self._release),
        }[text]

        def run(keys: list[str], args: list[Any]) -> int:
            return self.gate(verb, keys[0], lambda: meaning(keys[0], args))  # type: ignore[no-any-return]

        return run

    def _beat(self, key: str, args: list[Any]) -> int:
        attempt, owner, value, ttl_ms = args
        held = self._holder(key)
        if held is not None and (
            held[0] > int(attempt) or (held[0] == int(attempt) and held[1] != owner)
        ):
            return 0
        self._set(key, value, ttl_ms / 1000)
        return 1 if held is None or held[0] != int(attempt) else 2

    def _release(self, key: str, args: list[Any]) -> int:
        attempt, owner = args
        if self._holder(key) != (int(attempt), owner):
            return 0
        del self._strings[key]
        return 1

    def _holder(self, key: str) -> tuple[int, str] | None:
        """(attempt, owner) of a lease."""
        held = self.peek(key)
        if held is None:
            return None
        attempt, _, _, *owner = held.decode().split()
        return int(attempt), "".join(owner)

    def peek(self, key: str) -> bytes | None:
        """What `get` would answer, without asking for it."""
        value, expires_s = self._strings.get(key, (None, 0.0))
        return value if self._clock() < expires_s else None

    def _set(self, key: str, value: str | bytes, life_s: float) -> None:
        data = value.encode() if isinstance(value, str) else value
        self._strings[key] = (data, self._clock() + life_s)


class _Pipeline:
    """Commands that are answered together."""

    def __init__(self, server: FakeRedis) -> None:
        self._server = server
        self._commands: list[Callable[[], int]] = []

    def llen(self, key: str) -> None:
        self._commands.append(lambda: self._server.llen(key))

    def hlen(self, key: str) -> None:
        self._commands.append(lambda: self._server.hlen(key))

    def pttl(self, key: str) -> None:
        self._commands.append(lambda: self._server.pttl(key))

    def execute(self) -> list[int]:
        return self._server.gate("pipeline", "", lambda: [run() for run in self._commands])  # type: ignore[no-any-return]
