"""Writes down where a process's time went, beside its work: no shard waits for that."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from neva.store import Store, StoreError
from neva.timings import write_timings

log = structlog.get_logger()

_INTERVAL_S = 0.5
_CLOSE_LIMIT_S = 5.0


class TimingsWriter:
    """A thread that writes after a shard, at once, but not after each of many quick ones.

    Args:
        process: unique among all that ever worked on the run.
        seconds: by stage, since the process's start.
        interval_s: shortest pause between two writes; what is due meanwhile is written after it.
    """

    def __init__(
        self,
        store: Store,
        process: str,
        seconds: Callable[[], dict[str, float]],
        interval_s: float = _INTERVAL_S,
    ) -> None:
        self._store = store
        self._process = process
        self._seconds = seconds
        self._interval_s = interval_s
        self._due = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="timings", daemon=True)

    def shard_ended(self) -> None:
        """There is something new to write. Not to be called by two threads."""
        if self._thread.ident is None:
            self._thread.start()
        self._due.set()

    def close(self) -> None:
        """Write what is due, and end; a store that hangs is not waited for longer than seconds."""
        self._closed.set()
        if self._thread.ident is not None:
            self._due.set()
            self._thread.join(_CLOSE_LIMIT_S)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            self._due.wait()
            self._due.clear()  # before the look: else `close` might be forgotten
            is_last = self._closed.is_set()
            try:
                write_timings(self._store, self._process, self._seconds())
            except StoreError as error:  # nothing depends on it
                log.warning("timings not written", error=error.message)
            self._closed.wait(self._interval_s)
