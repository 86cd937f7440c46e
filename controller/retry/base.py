"""The finished run that a retry starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from controller.manifest import read_manifest
from controller.merge import rejected_rows
from controller.summary import FAILED, SUCCEEDED, read_summary
from neva.errors import ConfigError
from neva.ledger import FinishedRow, Ledger, Manifest, layout
from neva.reasons import Reason
from neva.store import open_store

_READ_BYTES = 1 << 20
# The other refusals are of a line itself: the same line is refused again.
_MAY_BE_GONE = (Reason.MEDIA_NOT_FOUND, Reason.STORE_DENIED)


@dataclass(frozen=True, slots=True)
class BaseRun:
    """A finished run.

    Attributes:
        num_rows: of the whole job; a retry's own rows are fewer.
        num_answered: lines of its outputs.jsonl.
    """

    ledger: Ledger
    manifest: Manifest
    num_rows: int
    num_answered: int

    @classmethod
    def open(cls, uri: str) -> BaseRun:
        """Raises ConfigError when there is no finished run, LedgerCorrupt when it is damaged."""
        ledger = Ledger(open_store(uri))
        manifest = read_manifest(ledger)
        if manifest is None:
            raise ConfigError(
                f"{ledger.store.uri_of(layout.MANIFEST)} does not exist: no run there"
            )
        summary = read_summary(ledger.store)
        state = None if summary is None else summary["state"]
        if summary is None or state not in (SUCCEEDED, FAILED):
            words = "was cancelled" if state is not None else "is not finished; finish it first"
            raise ConfigError(f"{ledger.store.base_uri} {words}: only finished runs are retried")
        num_rows = manifest.num_rows + manifest.num_kept
        return cls(ledger, manifest, num_rows, summary["answered"])

    @property
    def num_failed(self) -> int:
        return self.num_rows - self.num_answered

    def outputs_sha256(self) -> str:
        digest = hashlib.sha256()
        with self.ledger.store.open_read(layout.OUTPUTS) as stream:
            while piece := stream.read(_READ_BYTES):
                digest.update(piece)
        return digest.hexdigest()

    def refused(self) -> Iterator[FinishedRow]:
        """Rows that were refused for what they say, which has not changed."""
        return (row for row in rejected_rows(self.ledger, self.manifest) if not _may_pass(row))

    def failed(self) -> Iterator[FinishedRow]:
        """Rows that may be answered now: one shard after the other, those about one media
        together as they were there."""
        yield from (row for row in rejected_rows(self.ledger, self.manifest) if _may_pass(row))
        for plan in self.manifest.shards:
            if self.ledger.read_commit(plan.number).num_failed:
                yield from (row for row in self.ledger.committed_rows(plan) if row.failed)


def _may_pass(row: FinishedRow) -> bool:
    return row.error is not None and row.error["reason"] in _MAY_BE_GONE
