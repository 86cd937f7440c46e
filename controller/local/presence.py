"""One `neva run` at a time per run, on however many machines, without a clock in common.

Who runs a job writes itself down by a number that one process alone can have, and gives signs of
life: a number that grows. A second `neva run` of the job sees it grow and watches; when it has
ended, or stood still by the watcher's own stopwatch, the watcher takes the next number and goes on.
A runner that sees a higher number than its own leaves. That two never run at once is no promise
(a process can be stopped and wake up again), and need not be one: the ledger decides what counts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog

from neva.errors import NevaError
from neva.ledger.control import Beat, Control, Order, RunnerRecord, Stopped, this_runner
from neva.reasons import Reason
from neva.store import Store

log = structlog.get_logger()

BEAT_INTERVAL_S = 2.0
SILENCE_S = 12.0  # several beats, and a store's slow answers


class TakenOver(NevaError):
    """Another process runs the job now."""

    reason = Reason.LEASE_LOST


class Rival:
    """Another runner, as its beats show it. `is_alive` must be asked again and again."""

    def __init__(
        self, control: Control, number: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.number = number
        self.record: RunnerRecord = control.runner(number)
        self._control = control
        self._clock = clock
        self._seen = control.last_beat(number)
        self._seen_s = clock()
        self.has_beaten = False  # since we look

    def is_alive(self) -> bool:
        """False once it has ended, or was silent while we looked. Store errors pass through."""
        if self.record.identity.is_gone:
            return False
        beat = self._control.last_beat(self.number)
        if beat is not None and beat.ended:
            return False
        if beat != self._seen:
            self._seen, self._seen_s, self.has_beaten = beat, self._clock(), True
        return self._clock() - self._seen_s < SILENCE_S


class Presence:
    """This process's turn at the run: a context manager that beats until the block ends.

    Raises on entering whatever the store raises. `check` belongs into the runner's loops.
    """

    def __init__(self, store: Store, number: int, interval_s: float = BEAT_INTERVAL_S) -> None:
        self._control = Control(store)
        self._where = store.base_uri
        self._number = number
        self._interval_s = interval_s
        self._num_beats = 0
        self._order: Order | None = None
        self._taken_over = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def check(self) -> None:
        """Raises Stopped by an order, TakenOver by another runner."""
        if self._order is not None:
            raise Stopped(self._order, self._where)
        if self._taken_over:
            raise TakenOver(f"another `neva run` has taken {self._where} over")

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        try:
            self._beat(ended=True)
        except NevaError as error:
            log.debug("no last beat: others will wait for it", error=error.message)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self._look()
            except NevaError as error:
                # A hint is late. Whoever does the work meets the store's trouble, and says so.
                log.debug("no beat", error=error.message)

    def _look(self) -> None:
        self._beat(ended=False)
        standing = self._control.look()
        self._order = standing.order
        self._taken_over = standing.num_runners > self._number

    def _beat(self, *, ended: bool) -> None:
        self._num_beats += 1
        self._control.beat(self._number, Beat(self._num_beats, ended))


def take_turn(store: Store, wait: Callable[[Rival], bool]) -> Presence | None:
    """Wait for this process's turn to run the job under `store`.

    Args:
        wait: called about twice a second while another runner is, or may be, at work; True gives
            up waiting.

    Returns:
        None: given up.

    Raises:
        Stopped: the run is suspended or cancelled.
    """
    control = Control(store)
    me = this_runner()
    rival: Rival | None = None
    while True:
        standing = control.look()
        if standing.order is not None:
            raise Stopped(standing.order, store.base_uri)
        if standing.num_runners and (rival is None or rival.number != standing.num_runners):
            rival = Rival(control, standing.num_runners)
        if rival is not None and rival.is_alive():
            if wait(rival):
                return None
            continue
        number = standing.num_runners + 1
        if control.take(number, me):
            return Presence(store, number)
