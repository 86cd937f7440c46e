"""Signs of life of processes that the supervisor started: files that they touch.

A Celery child that is stopped, or stuck where it lets no thread run, can't end itself and keeps its
locks: whoever wants the engine alone (`EngineTurn`) would wait for it without end. A Celery parent
that is takes no message any more.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import structlog

log = structlog.get_logger()


class UnchangedFiles:
    """How long files have stayed as they are, by our clock, not by the file system's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[Path, tuple[int, float]] = {}  # last change, and when it was first seen

    def look(self, files: Iterable[Path]) -> dict[Path, float]:
        """Seconds that each file, if it is there, has been the same at every look."""
        now_s = self._clock()
        seen: dict[Path, tuple[int, float]] = {}
        for path in files:
            try:
                changed = path.stat().st_mtime_ns
            except FileNotFoundError:
                continue
            last = self._seen.get(path)
            seen[path] = last if last is not None and last[0] == changed else (changed, now_s)
        self._seen = seen
        return {path: now_s - since_s for path, (_, since_s) in seen.items()}


class StalledChildren:
    """Kills processes that have given signs of life and give none any more."""

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._unchanged = UnchangedFiles(clock)

    def kill(self, files: Iterable[Path]) -> None:
        """Kill the owners of files that have not been touched for too long.

        files: of processes that were alive a moment ago (`WorkerConfig.signs_of_life`).
        """
        for path, still_s in self._unchanged.look(files).items():
            if still_s > self._limit_s:
                pid = int(path.name.partition("-")[0])
                log.error("child gives no sign of life, killing it", pid=pid, seconds=still_s)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
