"""What a cancelled run has finished, made readable: `partial.jsonl`, `errors.jsonl`, summary.

Never `outputs.jsonl` and never `_SUCCESS`: those are of a whole run. Can be repeated, and whoever
comes last has seen everything: rows that a draining worker wrote meanwhile are looked for again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from controller.answer_files import AnswerFiles
from controller.summary import CANCELLED, write_summary
from neva.ledger import FinishedRow, Ledger, Manifest, layout
from neva.ledger.finished_lines import finished_line

_ROWS_AT_ONCE = 1024
_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Partial:
    """The counts of a cancelled run's finished rows."""

    num_rows: int
    num_answered: int
    failed_by_reason: dict[str, int]

    @property
    def num_failed(self) -> int:
        return sum(self.failed_by_reason.values())


def export_partial(
    ledger: Ledger,
    manifest: Manifest,
    *,
    patience_s: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Partial:
    """Write what is finished.

    Args:
        patience_s: longest wait for attempts that have not said their goodbye; a worker that
            drains says it within seconds, one that was killed never does.
    """
    deadline_s = clock() + patience_s
    while True:
        seen = _keys(ledger)
        partial = _write(ledger, manifest)
        if _keys(ledger) != seen:
            continue
        if clock() >= deadline_s or not _at_work(ledger, manifest):
            return partial
        while clock() < deadline_s and _keys(ledger) == seen:
            sleep(_PAUSE_S)


def _keys(ledger: Ledger) -> frozenset[str]:
    return frozenset(item.key for item in ledger.store.list(layout.SHARDS))


def _at_work(ledger: Ledger, manifest: Manifest) -> bool:
    for plan in manifest.shards:
        state = ledger.shard_state(plan.number)
        if not state.committed and state.attempts and state.attempts[-1] not in state.released:
            return True
    return False


def _write(ledger: Ledger, manifest: Manifest) -> Partial:
    with AnswerFiles.open() as files:
        rows = _finished_rows(ledger, manifest)
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            files.add([finished_line(row.to_json(), layout.SHARDS) for row in some])
        files.write(ledger.store, layout.PARTIAL)
        reasons = dict(sorted(files.failed_by_reason.items()))
        partial = Partial(manifest.num_rows, files.num_answered, reasons)
    summary = {
        "job": manifest.job["metadata"]["name"],
        "state": CANCELLED,
        "rows": partial.num_rows,
        "answered": partial.num_answered,
        "failed": partial.num_failed,
        "failed_by_reason": partial.failed_by_reason,
        "fail_on_error": manifest.job["spec"].get("failure", {}).get("failOnError"),
        "judge": None,
    }
    write_summary(ledger.store, summary)
    return partial


def _finished_rows(ledger: Ledger, manifest: Manifest) -> Iterator[FinishedRow]:
    """Rows that are settled: refused ones, those of commits, and those of parts without one."""
    yield from ledger.refused_rows(manifest)
    for plan in manifest.shards:
        state = ledger.shard_state(plan.number)
        if state.committed:
            yield from ledger.committed_rows(plan)
            continue
        # As the next attempt would have taken them: the first answer to a row holds.
        found: dict[str, FinishedRow] = {}
        for attempt in state.attempts:
            for row in ledger.read_parts(state.parts.get(attempt, ())):
                found.setdefault(row.row_id, row)
        yield from found.values()
