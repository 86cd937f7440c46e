"""Notices an engine that neither dies nor gets on: a stopped rank, a collective that never ends.

The engine counts its finished pieces of work (`progress`), an idle one its turns, each confirmed
by all ranks. A count that stands still, or can't be asked for, is a hang.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from worker.engine.client import EngineClient, EngineLost
from worker.engine.protocol import EngineStatus

_ANSWER_LIMIT_S = 0.2
_CHECKS_PER_LIMIT = 10


class StatusSource(Protocol):
    """The part of `EngineClient` that the watchdog needs."""

    def status(self, timeout_s: float) -> EngineStatus: ...
    def close(self) -> None: ...


class EngineWatchdog:
    """Watches one start of an engine that has been ready. Not thread-safe."""

    def __init__(
        self,
        source: StatusSource,
        generation: str,
        limit_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """limit_s: longest time that one piece of work may take: a layer, a vision pass, what the
        other pipeline stages have to do of one pass (progress is counted in the first one).
        """
        self._source = source
        self._generation = generation
        self._limit_s = limit_s
        self._clock = clock
        self._progress: int | None = None
        self._moved_at_s = clock()
        self._checked_at_s = float("-inf")

    @classmethod
    def connect(cls, socket_path: Path, generation: str, limit_s: float) -> EngineWatchdog:
        return cls(EngineClient(socket_path), generation, limit_s)

    def check(self) -> str | None:
        """Why the engine counts as hung, or None. Asks it a few times per `limit_s` only."""
        now_s = self._clock()
        if now_s - self._checked_at_s < self._limit_s / _CHECKS_PER_LIMIT:
            return None
        self._checked_at_s = now_s
        progress = self._ask()
        if progress is not None and progress != self._progress:
            self._progress, self._moved_at_s = progress, now_s
        still_s = now_s - self._moved_at_s
        if still_s <= self._limit_s:
            return None
        how = "does not answer" if progress is None else "computes nothing"
        return f"the engine {how}: no progress for {still_s:.1f} s"

    def close(self) -> None:
        self._source.close()

    def _ask(self) -> int | None:
        try:
            status = self._source.status(_ANSWER_LIMIT_S)
        except EngineLost:
            return None
        return status.progress if status.generation == self._generation else None
