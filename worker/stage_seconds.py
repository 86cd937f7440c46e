"""Seconds that one process spends in each stage of answering rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from neva.metrics import of_workers
from neva.metrics.counting import count


class StageSeconds:
    """Sums by stage (`neva.stages`), which are exported, too. Safe between threads.

    Stages that run in several threads at once (download, decoding) may add up to more than the
    time that passed.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, stage: str, seconds: float) -> None:
        with self._lock:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds
        count(of_workers.STAGE_SECONDS, stage, by=seconds)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes, also when it fails."""
        started_s = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - started_s)

    def total(self) -> dict[str, float]:
        with self._lock:
            return dict(self._seconds)
