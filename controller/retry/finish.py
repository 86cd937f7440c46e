"""The end of a retry: what was kept and what was answered now, joined in input order."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from controller.lines import put_lines
from controller.merge import Merged, merge, rejected_rows
from controller.retry.base import BaseRun
from neva.ledger import Ledger, LedgerCorrupt, Manifest, layout
from neva.store import Store

# Copied from the base where the retry has none of its own: replies that were paid for, pictures.
_CARRIED = ("judge/parts/", "frames/")
_NUM_COPIERS = 16


def merge_retry(ledger: Ledger, manifest: Manifest, retry_of: str) -> Merged:
    """Write outputs.jsonl and errors.jsonl of the whole job; returns its counts. Can be repeated.

    A row of the whole job is either kept, and then a line of the base's outputs, or the retry's
    own. So the rows that the retry has say which lines of the two files come when.

    Raises:
        LedgerCorrupt: a shard is not committed whole, or the base's outputs were changed.
    """
    own = merge(ledger, manifest, outputs=layout.RETRIED)
    base = BaseRun.open(retry_of)
    if base.outputs_sha256() != manifest.kept_sha256:
        raise LedgerCorrupt(
            f"{base.ledger.store.uri_of(layout.OUTPUTS)} was changed since the retry began"
        )
    put_lines(ledger.store, layout.OUTPUTS, _joined(ledger, manifest, base))
    for prefix in _CARRIED:
        _carry_over(base.ledger.store, ledger.store, prefix)
    return Merged(manifest.num_kept + own.num_answered, own.failed_by_reason)


def _joined(ledger: Ledger, manifest: Manifest, base: BaseRun) -> Iterator[bytes]:
    answered, failed = _own_rows(ledger, manifest)
    with (
        base.ledger.store.open_read(layout.OUTPUTS) as kept,
        ledger.store.open_read(layout.RETRIED) as retried,
    ):
        own = iter(zip(answered, retried, strict=True))
        next_own, next_line = next(own, (None, b""))
        lost = iter(failed)
        next_lost = next(lost, None)
        for seq in range(manifest.num_rows + manifest.num_kept):
            if seq == next_own:
                yield next_line.rstrip(b"\n")
                next_own, next_line = next(own, (None, b""))
            elif seq == next_lost:
                next_lost = next(lost, None)
            else:
                yield kept.readline().rstrip(b"\n")
        if kept.readline() or next_own is not None or next_lost is not None:
            raise LedgerCorrupt("the rows kept and the rows retried are not the whole job's rows")


def _own_rows(ledger: Ledger, manifest: Manifest) -> tuple[array[int], array[int]]:
    """Places in the prompts of the rows answered now, and of those that failed again; ascending."""
    answered, failed = array("Q"), array("Q")
    committed = chain.from_iterable(map(ledger.committed_rows, manifest.shards))
    for row in chain(rejected_rows(ledger, manifest), committed):
        (failed if row.failed else answered).append(row.seq)
    return array("Q", sorted(answered)), array("Q", sorted(failed))


def _carry_over(base: Store, own: Store, prefix: str) -> None:
    there = {item.key for item in own.list(prefix)}
    missing = [item.key for item in base.list(prefix) if item.key not in there]
    with ThreadPoolExecutor(_NUM_COPIERS, thread_name_prefix="carry") as pool:
        list(pool.map(lambda key: own.put(key, base.get(key)), missing))
