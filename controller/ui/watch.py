"""One look at a time for all who watch a thing, at a bounded cost, and none when nobody does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

MAX_CPU_SHARE = 0.03
"""Of one core, that all looks of a server may take together in the long run."""

_ENDED_INTERVAL_S = 30.0


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found.

    Attributes:
        sections: HTML by the name of its place.
        ended: nothing will change any more, or nearly.
    """

    sections: Mapping[str, str]
    ended: bool = False


class Bells:
    """All things that are watched now; what they have to share."""

    def __init__(self) -> None:
        self.num_watched = 0

    def pause_s(self, interval_s: float, cpu_s: float) -> float:
        """How long to wait after a look that took `cpu_s`, so that all stay within their share."""
        return max(interval_s, cpu_s * max(1, self.num_watched) / MAX_CPU_SHARE)


class Watch:
    """Looks at one thing again and again while somebody follows it. For one event loop.

    Args:
        look: blocking, called in a thread, never twice at a time. It raises nothing that is
            expected: what can't be had is a look, too.
        interval_s: least time between the end of a look and the next.
    """

    def __init__(self, look: Callable[[], Look], interval_s: float, bells: Bells) -> None:
        self._look = look
        self._interval_s = interval_s
        self._shared = bells
        self._bells: set[asyncio.Event] = set()
        self._looking: asyncio.Task[None] | None = None
        self._loop: asyncio.Task[None] | None = None
        self._latest: Look | None = None
        self._looked_s = 0.0
        self._cpu_s = 0.0

    @property
    def latest(self) -> Look | None:
        """What the last look found. Raises what stopped the looks, which is a defect of ours."""
        if self._loop is not None and self._loop.done() and not self._loop.cancelled():
            self._loop.result()
        return self._latest

    @property
    def num_followers(self) -> int:
        return len(self._bells)

    async def soon(self, patience_s: float) -> Look | None:
        """A look that is not old; the last one, or None, when that takes longer."""
        age_s = time.monotonic() - self._looked_s
        if self._latest is None or (age_s > 2 * self._interval_s and self._loop is None):
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._start_look()), patience_s)
        return self._latest

    @contextmanager
    def following(self, bell: asyncio.Event) -> Iterator[None]:
        """Keeps looking inside; the bell rings after a look that found something else."""
        self._bells.add(bell)
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._keep_looking())
            self._shared.num_watched += 1
            self._loop.add_done_callback(self._stopped)
        try:
            yield
        finally:
            self._bells.discard(bell)
            if not self._bells and self._loop is not None:
                self._loop.cancel()
                self._loop = None

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.shield(self._start_look())
            least_s = self._interval_s
            if self._latest is not None and self._latest.ended:
                least_s = max(least_s, _ENDED_INTERVAL_S)
            await asyncio.sleep(self._shared.pause_s(least_s, self._cpu_s))

    def _stopped(self, loop: asyncio.Task[None]) -> None:
        self._shared.num_watched -= 1
        for bell in self._bells:
            bell.set()

    def _start_look(self) -> asyncio.Task[None]:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_once())
        return self._looking

    async def _look_once(self) -> None:
        # The process's time: a look reads in threads of its own. What others take meanwhile makes
        # the pause longer, never shorter.
        started_s = time.process_time()
        found = await run_in_threadpool(self._look)
        self._cpu_s = time.process_time() - started_s
        self._looked_s = time.monotonic()
        if self._latest is None or found.sections != self._latest.sections:
            for bell in self._bells:
                bell.set()
        self._latest = found
