"""A few failing rows of each reason: found in the shards that have some, a bounded look at a time.

How many rows failed and why is known from counts alone; what they said stands in parts, of which
there may be ten thousand. So a few shards are gone through at each look, the newest first, until
every reason has its examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from controller.status.facts import Facts
from controller.ui.bounded import TooLarge
from neva.ledger import FinishedRow, Ledger, Manifest

NUM_EXAMPLES = 5
_SHARDS_A_LOOK = 32
_REFUSED_LINES_READ = 2_000
_NUM_READERS = 8


class Failures:
    """Examples of failed rows of one run. A line of errors.jsonl each.

    Attributes:
        num_unread: shards whose files are too large to be read.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._examples: dict[str, dict[int, Mapping[str, Any]]] = {}  # reason → seq → line
        self._searched: set[int] = set()
        self._refused_read = False
        self.num_unread = 0

    def add(
        self,
        facts: Facts,
        manifest: Manifest,
        committed: Iterable[int],
        just_read: Iterable[FinishedRow],
    ) -> None:
        """Look for what is missing.

        Args:
            committed: shards that are done, the newest last.
            just_read: rows of open shards, read for another purpose.
        """
        self._take(just_read)
        if manifest.num_rejected and not self._refused_read:
            self._take(islice(self._ledger.refused_rows(manifest), _REFUSED_LINES_READ))
            self._refused_read = True
        if not self.short_of(facts.failed_by_reason):
            return
        unsearched = [number for number in committed if number not in self._searched]
        some = unsearched[-_SHARDS_A_LOOK:]
        with ThreadPoolExecutor(_NUM_READERS, thread_name_prefix="failures") as pool:
            for rows in pool.map(self._failed_rows, some):
                if rows is None:
                    self.num_unread += 1
                else:
                    self._take(rows)
        self._searched.update(some)

    def short_of(self, counts: Mapping[str, int]) -> list[str]:
        """Reasons that have fewer examples than they could have."""
        return [
            reason
            for reason, count in counts.items()
            if len(self._examples.get(reason, ())) < min(count, NUM_EXAMPLES)
        ]

    def examples(self) -> dict[str, tuple[Mapping[str, Any], ...]]:
        return {reason: tuple(lines.values()) for reason, lines in self._examples.items()}

    def _failed_rows(self, shard: int) -> list[FinishedRow] | None:
        """None: they are too large."""
        commit = self._ledger.read_commit(shard)
        if not commit.num_failed:
            return []
        try:
            return [row for row in self._ledger.read_parts(commit.parts) if row.failed]
        except TooLarge:
            return None

    def _take(self, rows: Iterable[FinishedRow]) -> None:
        for row in rows:
            if row.error is None:
                continue
            known = self._examples.setdefault(str(row.error["reason"]), {})
            if len(known) < NUM_EXAMPLES:
                known.setdefault(row.seq, row.error)
