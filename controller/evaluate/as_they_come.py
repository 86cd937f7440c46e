"""Prints the answers of a run while it goes on.

In the order of the prompts: an answer waits for those before it, but not for long, as a row may
take its time in another shard, or fail in the end. Each is named by its place among the prompts.
What was not printed on the way is printed at the end, out of the run's outputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from controller.evaluate.answers import shown
from controller.merge import rejected_rows
from controller.status.facts import list_files
from neva.ledger import FinishedRow, Ledger, Manifest, PartRef, layout

_PATIENCE_S = 5.0


class AnswersAsTheyCome:
    """The printer of one run.

    Args:
        write: takes the text of an answer.
        patience_s: longest wait of an answer for those of earlier prompts.
    """

    def __init__(
        self,
        output_format: str,
        write: Callable[[str], None],
        *,
        patience_s: float = _PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._output_format = output_format
        self._write = write
        self._patience_s = patience_s
        self._clock = clock
        self._knows_rejected = False
        self._read: set[str] = set()  # parts
        self._closed: set[int] = set()  # shards whose parts are all read
        self._settled: set[int] = set()  # rows that are printed, or have no answer
        self._next = 0  # every row before it is settled
        self._waiting: dict[int, tuple[float, dict[str, Any]]] = {}

    def look(self, ledger: Ledger, manifest: Manifest) -> None:
        """Print what is new. Raises StoreError."""
        now_s = self._clock()
        if not self._knows_rejected:
            self._settled |= {row.seq for row in rejected_rows(ledger, manifest)}
            self._knows_rejected = True
        for row in self._new_rows(ledger, manifest):
            self._take(row, now_s)
        self._print_what_may(manifest.num_rows, now_s)

    def finish(self, ledger: Ledger) -> None:
        """Print all answers of a merged run that were not printed yet."""
        manifest = ledger.read_manifest()
        if manifest is None:
            return
        answered = sorted(
            line.seq
            for plan in manifest.shards
            for line in ledger.committed_lines(plan)
            if line.reason is None
        )
        with ledger.store.open_read(layout.OUTPUTS) as stream:
            for seq, line in zip(answered, stream, strict=True):
                if seq not in self._settled:
                    self._print(seq, orjson.loads(line), manifest.num_rows)

    def _new_rows(self, ledger: Ledger, manifest: Manifest) -> Iterator[FinishedRow]:
        """Rows of parts that were not there before; the first that has a row is the one that
        counts, as for the next attempt and for the merge."""
        numbers = {plan.number for plan in manifest.shards} - self._closed
        if not numbers:
            return
        files = list_files(ledger, numbers)
        for number, parts in sorted(files.parts.items()):
            for part in sorted(parts, key=lambda part: layout.attempt_file(part.key) or ()):
                if part.key not in self._read:
                    yield from ledger.read_parts([PartRef(part.key, "")])
                    self._read.add(part.key)
            if number in files.committed:
                self._closed.add(number)

    def _take(self, row: FinishedRow, now_s: float) -> None:
        if row.seq in self._settled or row.seq in self._waiting:
            return
        if row.output is None:
            self._settled.add(row.seq)
        else:
            self._waiting[row.seq] = (now_s, row.output)

    def _print_what_may(self, num_rows: int, now_s: float) -> None:
        for seq in sorted(self._waiting):
            while self._next in self._settled:
                self._next += 1
            since_s, record = self._waiting[seq]
            if seq > self._next and now_s - since_s < self._patience_s:
                continue
            del self._waiting[seq]
            self._print(seq, record, num_rows)

    def _print(self, seq: int, record: dict[str, Any], num_rows: int) -> None:
        self._write(shown(record, self._output_format, seq + 1, num_rows))
        self._settled.add(seq)
