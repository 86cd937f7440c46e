"""Finished rows, put in the order of the prompts and written as the two files of a run."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from controller.line_files import LineReader, LineWriter, Places
from controller.lines import put_lines
from neva.ledger import LedgerCorrupt, layout
from neva.ledger.finished_lines import FinishedLine
from neva.store import Store


class AnswerFiles:
    """Takes finished rows in any order; what stays in memory of each is 17 bytes.

    Attributes:
        failed_by_reason: rows without an answer.
    """

    def __init__(self, answered: LineWriter, failed: LineWriter) -> None:
        self._answered, self._failed = answered, failed
        self.num_answered = 0
        self.failed_by_reason: Counter[str] = Counter()

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[AnswerFiles]:
        """What was taken goes when the block ends."""
        with (
            tempfile.TemporaryDirectory(prefix="neva-merge-") as folder,
            LineWriter(Path(folder) / "answered", 0) as answered,
            LineWriter(Path(folder) / "failed", 1) as failed,
        ):
            yield cls(answered, failed)

    def add(self, rows: Sequence[FinishedLine]) -> None:
        answered = [row for row in rows if row.reason is None]
        failed = [row for row in rows if row.reason is not None]
        for writer, some in ((self._answered, answered), (self._failed, failed)):
            if some:
                writer.add([row.seq for row in some], [row.content for row in some])
        self.num_answered += len(answered)
        self.failed_by_reason.update(row.reason for row in failed if row.reason is not None)

    def write(self, store: Store, outputs: str) -> None:
        """Write the answers to the key `outputs`, the rest to errors.jsonl.

        Raises:
            LedgerCorrupt: a row was taken twice; nothing was written.
        """
        places = [self._answered.close(), self._failed.close()]
        seqs = np.sort(np.concatenate([some["seq"] for some in places]))
        if bool((seqs[1:] == seqs[:-1]).any()):
            raise LedgerCorrupt("rows were merged twice, and others not at all")
        with LineReader([self._answered.path, self._failed.path]) as reader:
            for key, some in zip((outputs, layout.ERRORS), places, strict=True):
                put_lines(store, key, (line for _, line in reader.each(_by_seq(some))))


def _by_seq(places: Places) -> Places:
    return places[np.argsort(places["seq"])]
