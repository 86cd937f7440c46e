"""Merge: committed shards → outputs.jsonl and errors.jsonl in input order.

Asserts that what is written is, row for row, what the manifest fixed; anything else is an error,
never a short file. Runs in constant memory and can be repeated: it writes the same bytes.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from controller.spool import Spool
from neva.ledger import FinishedRow, Ledger, LedgerCorrupt, Manifest, layout
from neva.store.base import Store

_ANSWERED, _FAILED = "answered", "failed"


@dataclass(frozen=True, slots=True)
class Merged:
    """The counts of a merged run."""

    num_answered: int
    failed_by_reason: dict[str, int]

    @property
    def num_failed(self) -> int:
        return sum(self.failed_by_reason.values())


def merge(ledger: Ledger, manifest: Manifest, outputs: str = layout.OUTPUTS) -> Merged:
    """Write both files.

    Args:
        outputs: key of the answers; a retry's own are only a part of its outputs.

    Raises:
        LedgerCorrupt: a shard is not committed whole, or the rows aren't the manifest's.
    """
    reasons: Counter[str] = Counter()
    with Spool() as spool:
        for row in _finished_rows(ledger, manifest):
            if row.error is not None:
                reasons[row.error["reason"]] += 1
                spool.add_line(_FAILED, row.seq, row.error)
            else:
                spool.add_line(_ANSWERED, row.seq, row.output)
        num_answered = spool.num_lines(_ANSWERED)
        num_all = num_answered + spool.num_lines(_FAILED)
        if num_all != manifest.num_rows:
            raise LedgerCorrupt(f"{num_all} rows were merged, the manifest has {manifest.num_rows}")
        put_lines(ledger.store, outputs, (line for _, line in spool.lines(_ANSWERED)))
        put_lines(ledger.store, layout.ERRORS, (line for _, line in spool.lines(_FAILED)))
    return Merged(num_answered, dict(sorted(reasons.items())))


def _finished_rows(ledger: Ledger, manifest: Manifest) -> Iterator[FinishedRow]:
    """Every row of the run, refused ones first."""
    yield from rejected_rows(ledger, manifest)
    for plan in manifest.shards:
        yield from ledger.committed_rows(plan)


def rejected_rows(ledger: Ledger, manifest: Manifest) -> Iterator[FinishedRow]:
    """Rows that were refused before any worker started.

    Raises:
        LedgerCorrupt: at the end, when they are not those that the manifest fixed.
    """
    digest = hashlib.sha256()
    with ledger.store.open_read(layout.REJECTED) as stream:
        for line in stream:
            digest.update(line)
            yield FinishedRow.from_json(line, layout.REJECTED)
    if digest.hexdigest() != manifest.rejected_sha256:
        raise LedgerCorrupt(f"{layout.REJECTED} was overwritten after {layout.MANIFEST} fixed it")


def put_lines(store: Store, key: str, lines: Iterable[bytes]) -> str:
    """Write a file of lines in constant memory; returns its SHA-256."""
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory(prefix="neva-lines-") as folder:
        path = Path(folder) / "lines"
        with path.open("wb") as file:
            for line in lines:
                digest.update(line + b"\n")
                file.write(line + b"\n")
        store.put_file(key, path)
    return digest.hexdigest()
