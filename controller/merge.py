"""Merge: committed shards → outputs.jsonl and errors.jsonl in input order.

Asserts that what is written is, row for row, what the manifest fixed; anything else is an error,
never a short file. Runs in constant memory and can be repeated: it writes the same bytes.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import orjson

from controller.spool import Spool
from neva.ledger import Ledger, LedgerCorrupt, Manifest, layout
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


def merge(ledger: Ledger, manifest: Manifest) -> Merged:
    """Write both files.

    Raises:
        LedgerCorrupt: a shard is not committed whole, or the rows aren't the manifest's.
    """
    reasons: Counter[str] = Counter()
    with Spool() as spool:
        for line in _rejected(ledger.store, manifest):
            error = orjson.loads(line)
            reasons[error["reason"]] += 1
            # Rejected rows have no seq of their own any more; their line number orders them.
            spool.add_line(_FAILED, error["line"], error)
        for plan in manifest.shards:
            for row in ledger.committed_rows(plan):
                if row.error is not None:
                    reasons[row.error["reason"]] += 1
                    spool.add_line(_FAILED, row.error["line"], row.error)
                else:
                    spool.add_line(_ANSWERED, row.seq, row.output)
        num_answered = spool.num_lines(_ANSWERED)
        num_all = num_answered + spool.num_lines(_FAILED)
        if num_all != manifest.num_rows:
            raise LedgerCorrupt(f"{num_all} rows were merged, the manifest has {manifest.num_rows}")
        _write(ledger.store, layout.OUTPUTS, spool.lines(_ANSWERED))
        _write(ledger.store, layout.ERRORS, spool.lines(_FAILED))
    return Merged(num_answered, dict(sorted(reasons.items())))


def _rejected(store: Store, manifest: Manifest) -> list[bytes]:
    data = store.get(layout.REJECTED)
    if hashlib.sha256(data).hexdigest() != manifest.rejected_sha256:
        raise LedgerCorrupt(f"{layout.REJECTED} was overwritten after {layout.MANIFEST} fixed it")
    return data.splitlines()


def _write(store: Store, key: str, lines: Iterable[bytes]) -> None:
    with tempfile.TemporaryDirectory(prefix="neva-merge-") as folder:
        path = Path(folder) / "lines"
        with path.open("wb") as file:
            file.writelines(lines)
        store.put_file(key, path)
