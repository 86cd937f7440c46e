"""Merge: committed shards → outputs.jsonl and errors.jsonl in input order.

Asserts that what is written is, row for row, what the manifest fixed; anything else is an error,
never a short file. Runs in constant memory (but for 17 bytes a row) and can be repeated: it writes
the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from controller.ahead import ahead
from controller.answer_files import AnswerFiles
from neva.ledger import FinishedRow, Ledger, LedgerCorrupt, Manifest, layout
from neva.ledger.finished_lines import FinishedLine, finished_line

# A shard takes a handful of requests, one after the other.
_SHARDS_READ_AT_ONCE = 16
_REJECTED_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Merged:
    """The counts of a merged run."""

    num_answered: int
    failed_by_reason: dict[str, int]

    @property
    def num_failed(self) -> int:
        return sum(self.failed_by_reason.values())


def merge(
    ledger: Ledger,
    manifest: Manifest,
    outputs: str = layout.OUTPUTS,
    readers: int = _SHARDS_READ_AT_ONCE,
) -> Merged:
    """Write both files.

    Args:
        outputs: key of the answers; a retry's own are only a part of its outputs.
        readers: shards read at the same time.

    Raises:
        LedgerCorrupt: a shard is not committed whole, or the rows aren't the manifest's.
    """
    with AnswerFiles.open() as files:
        for rows in _finished_rows(ledger, manifest, readers):
            files.add(rows)
        merged = Merged(files.num_answered, dict(sorted(files.failed_by_reason.items())))
        num_rows = merged.num_answered + merged.num_failed
        if num_rows != manifest.num_rows:
            raise LedgerCorrupt(
                f"{num_rows} rows were merged, the manifest has {manifest.num_rows}"
            )
        files.write(ledger.store, outputs)
    return merged


def _finished_rows(
    ledger: Ledger, manifest: Manifest, readers: int
) -> Iterator[list[FinishedLine]]:
    """Every row of the run, refused ones first, each shard's at once."""
    yield from _rejected_rows(ledger, manifest)
    yield from ahead(ledger.committed_lines, manifest.shards, readers)


def _rejected_rows(ledger: Ledger, manifest: Manifest) -> Iterator[list[FinishedLine]]:
    key, lines = layout.rejected(manifest.rejected_sha256), rejected_lines(ledger, manifest)
    while some := list(islice(lines, _REJECTED_AT_ONCE)):
        yield [finished_line(line, key) for line in some]


def rejected_rows(ledger: Ledger, manifest: Manifest) -> Iterator[FinishedRow]:
    """Rows that were refused before any worker started; raises as `rejected_lines`."""
    for line in rejected_lines(ledger, manifest):
        yield FinishedRow.from_json(line, layout.rejected(manifest.rejected_sha256))


def rejected_lines(ledger: Ledger, manifest: Manifest) -> Iterator[bytes]:
    """The same as they were written.

    Raises:
        LedgerCorrupt: at the end, when they are not those that the manifest fixed.
    """
    key, digest = layout.rejected(manifest.rejected_sha256), hashlib.sha256()
    with ledger.store.open_read(key) as stream:
        for line in stream:
            digest.update(line)
            yield line.removesuffix(b"\n")
    if digest.hexdigest() != manifest.rejected_sha256:
        raise LedgerCorrupt(f"{key} was overwritten after {layout.MANIFEST} fixed it")
