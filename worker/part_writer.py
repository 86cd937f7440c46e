"""Collects a shard's finished rows and writes them as parts, every few rows or seconds."""

from __future__ import annotations

import time
from collections.abc import Callable

from neva.errors import NevaError
from neva.ledger import FinishedRow, Ledger, PartRef
from neva.reasons import Reason


class LeaseLost(NevaError):
    """A later attempt has the shard: this one stops writing."""

    reason = Reason.LEASE_LOST


class PartWriter:
    """The parts of one attempt. `rows` and `refs` are what is safely written."""

    def __init__(
        self,
        ledger: Ledger,
        shard: int,
        attempt: int,
        *,
        flush_rows: int,
        flush_interval_s: float,
        lost: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._shard = shard
        self._attempt = attempt
        self._flush_rows = flush_rows
        self._flush_interval_s = flush_interval_s
        self._lost = lost
        self._clock = clock
        self._waiting: list[FinishedRow] = []
        self._oldest_s = 0.0
        self.rows: list[FinishedRow] = []
        self.refs: list[PartRef] = []

    def add(self, row: FinishedRow) -> None:
        if not self._waiting:
            self._oldest_s = self._clock()
        self._waiting.append(row)
        self.flush_if_due()

    def flush_if_due(self) -> None:
        full = len(self._waiting) >= self._flush_rows
        if full or self._clock() - self._oldest_s >= self._flush_interval_s:
            self.flush()

    def flush(self) -> None:
        """Write what waits. Raises LeaseLost, and store errors, with nothing forgotten."""
        if not self._waiting:
            return
        if self._lost():
            raise LeaseLost(f"shard {self._shard}, attempt {self._attempt}: a later attempt has it")
        number = len(self.refs) + 1
        ref = self._ledger.write_part(self._shard, self._attempt, number, self._waiting)
        self.refs.append(ref)
        self.rows += self._waiting
        self._waiting = []
