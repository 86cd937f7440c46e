"""Looks at ledger and queue beside the supervisor's loop, which must not wait for either: a SIGTERM
has to be heeded within seconds, whatever a store or broker that is down makes a look take.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog

from neva.errors import NevaError
from neva.ledger.control import Control
from worker.until_done import RunWatch, Verdict

log = structlog.get_logger()

_LOOK_INTERVAL_S = 1.0


class Lookout:
    """A thread that looks about once a second while its block runs.

    Args:
        watch: of a worker that ends by itself; None: only an order ends it.
        busy: whether this worker works on a shard now.
    """

    def __init__(self, control: Control, watch: RunWatch | None, busy: Callable[[], bool]) -> None:
        self._control = control
        self._watch = watch
        self._busy = busy
        self._verdict = Verdict.STAY
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)

    @property
    def verdict(self) -> Verdict:
        """As of the last look; once it is not STAY it stays so."""
        return self._verdict

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Not waited for: it may be in a request that takes long, and does nothing but look.
        self._stop.set()

    def _run(self) -> None:
        while self._verdict is Verdict.STAY and not self._stop.wait(_LOOK_INTERVAL_S):
            try:
                if self._control.look().order is not None:
                    self._verdict = Verdict.STOPPED
                    return
            except NevaError as error:
                log.warning("can't look for orders", error=error.message)
            if self._watch is not None:
                self._verdict = self._watch.look(self._busy())
