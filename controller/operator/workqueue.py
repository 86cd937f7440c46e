"""A queue of keys to look at: each at most once at a time, with delays and backoff. Thread-safe.

A key that is added again while it is worked on is handed out once more afterwards, so that nothing
seen in between is missed.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_FIRST_BACKOFF_S = 0.5
_MAX_BACKOFF_S = 120.0


class WorkQueue(Generic[K]):
    """Keys by the time they are due."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._due_s: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0
        self._working: set[K] = set()
        self._failures: dict[K, int] = {}
        self._closed = False

    def add(self, key: K, after_s: float = 0.0) -> None:
        """Have `key` looked at in `after_s` seconds, or earlier if it is due earlier."""
        due_s = self._clock() + after_s
        with self._changed:
            if due_s >= self._due_s.get(key, float("inf")):
                return
            self._due_s[key] = due_s
            if key not in self._working:
                self._push(key, due_s)

    def add_failed(self, key: K) -> float:
        """Have `key` looked at again later, the later the more often it failed; says when."""
        with self._changed:
            times = self._failures.get(key, 0)
            self._failures[key] = times + 1
        after_s: float = min(_FIRST_BACKOFF_S * 2.0**times, _MAX_BACKOFF_S)
        self.add(key, after_s)
        return after_s

    def forget_failures(self, key: K) -> None:
        with self._changed:
            self._failures.pop(key, None)

    def take(self, wait_s: float | None = None) -> K | None:
        """The next key that is due; None when closed, or when none was due within `wait_s`."""
        deadline_s = None if wait_s is None else self._clock() + wait_s
        with self._changed:
            while not self._closed:
                now_s = self._clock()
                key = self._pop_due(now_s)
                if key is not None:
                    return key
                next_s = self._heap[0][0] if self._heap else None
                if deadline_s is not None:
                    if now_s >= deadline_s:
                        return None
                    next_s = deadline_s if next_s is None else min(next_s, deadline_s)
                self._changed.wait(None if next_s is None else next_s - now_s)
            return None

    def done(self, key: K) -> None:
        """The key that was taken is no longer worked on."""
        with self._changed:
            self._working.discard(key)
            if key in self._due_s:
                self._push(key, self._due_s[key])

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        with self._changed:
            return len(self._due_s)

    def _push(self, key: K, due_s: float) -> None:
        self._count += 1
        heapq.heappush(self._heap, (due_s, self._count, key))
        self._changed.notify()

    def _pop_due(self, now_s: float) -> K | None:
        while self._heap and self._heap[0][0] <= now_s:
            due_s, _, key = heapq.heappop(self._heap)
            if self._due_s.get(key) == due_s and key not in self._working:
                del self._due_s[key]
                self._working.add(key)
                return key
        return None
