"""Media are prepared ahead of the rows that need them, while the engine works on others.

A few threads fetch and decode (each decoding process has one), at most `max_ahead` videos before
their turn: that bounds the pixels that wait in shared memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from itertools import islice
from pathlib import Path
from typing import Protocol

from worker.media.shared import PreparedMedia


class Preparer(Protocol):
    """Makes a video or image ready; see `MediaPreparer`."""

    def prepare(self, name: str) -> PreparedMedia: ...


class MediaAhead:
    """The threads of one Celery child; they live as long as it does.

    Args:
        num_threads: media in work at the same time.
        max_ahead: media in work or ready that nobody has taken yet.
    """

    def __init__(self, preparer: Preparer, num_threads: int, max_ahead: int) -> None:
        self._prepare = preparer.prepare
        self._max_ahead = max_ahead
        # Decoding processes die with the thread that started them: these stay.
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="media")

    def begin(self, names: Sequence[str]) -> MediaQueue:
        """Start on media that will be taken in this order."""
        return MediaQueue(
            # With the caller's context: what is logged and traced is of its shard.
            lambda name: self._threads.submit(copy_context().run, self._prepare, name),
            names,
            self._max_ahead,
        )

    def close(self) -> None:
        """End the threads; waits for what they are at."""
        self._threads.shutdown(cancel_futures=True)


class MediaQueue:
    """Media of one window of rows, in order. Close it: what nobody took is deleted."""

    def __init__(
        self,
        submit: Callable[[str], Future[PreparedMedia]],
        names: Sequence[str],
        max_ahead: int,
    ) -> None:
        self._submit = submit
        self._names = iter(names)
        self._max_ahead = max_ahead
        self._ahead: deque[Future[PreparedMedia]] = deque()
        self._fill()

    def ready(self, timeout_s: float) -> bool:
        """Whether the next one can be taken without waiting; waits for it up to `timeout_s`."""
        with suppress(TimeoutError):
            self._ahead[0].exception(timeout_s)
        return self._ahead[0].done()

    def take(self) -> PreparedMedia:
        """The next one, which the caller owns. Waits for it.

        Raises:
            RowError, StoreError: as `MediaPreparer.prepare`.
        """
        media = self._ahead.popleft()
        self._fill()
        return media.result()

    def close(self) -> None:
        """Drop the rest. What is in work is deleted when it is ready; nobody waits for it."""
        self._names = iter(())
        while self._ahead:
            media = self._ahead.popleft()
            if not media.cancel():
                media.add_done_callback(_delete)

    def _fill(self) -> None:
        for name in islice(self._names, self._max_ahead - len(self._ahead)):
            self._ahead.append(self._submit(name))


def _delete(media: Future[PreparedMedia]) -> None:
    if not media.cancelled() and media.exception() is None:
        Path(media.result().ref.path).unlink(missing_ok=True)
