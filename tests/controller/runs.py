"""Runs in any state, made of the ledger's own writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from controller.lines import put_rejected
from neva.ledger import (
    Claim,
    FinishedRow,
    Ledger,
    Manifest,
    PartRef,
    Release,
    ShardRow,
    error_line,
)
from neva.store import Store

# summary.json of a `MadeRun` whose rows are all answered but the refused one.
SUMMARY = {
    "state": "Succeeded",
    "rows": 10,
    "answered": 9,
    "failed": 1,
    "failed_by_reason": {},
    "fail_on_error": 0.5,
}


class MadeRun:
    """A run of `num_shards` shards of three rows, and one row that was refused."""

    def __init__(self, store: Store, num_shards: int = 3, **spec: Any) -> None:
        self.ledger = Ledger(store)
        self.rows = [
            [self._row(1 + 3 * shard + n) for n in range(3)] for shard in range(num_shards)
        ]
        self.plans = [self.ledger.write_shard(n, rows) for n, rows in enumerate(self.rows)]
        refused = FinishedRow(0, "", None, error_line(1, None, "InvalidJson", "no JSON"))
        sha256 = put_rejected(store, lambda: [refused.to_json()])
        job = {"metadata": {"name": "made"}, "spec": {"failure": {"failOnError": 0.5}, **spec}}
        self.manifest = Manifest(
            "run", job, "answers", "model", "prompts", 3 * num_shards + 1, 1, sha256, self.plans
        )
        self.ledger.write_manifest(self.manifest)

    @staticmethod
    def _row(seq: int) -> ShardRow:
        return ShardRow(seq, seq + 1, f"q{seq}", "?", "a.mp4", {"question_id": f"q{seq}"})

    def claim(self, shard: int, attempt: int = 1) -> None:
        ids = [row.row_id for row in self.rows[shard]]
        assert self.ledger.claim(shard, Claim(attempt, "w", f"{shard}-{attempt}", ids))

    def part(
        self, shard: int, positions: Sequence[int], attempt: int = 1, failed: str | None = None
    ) -> tuple[PartRef, list[FinishedRow]]:
        rows = []
        for position in positions:
            row = self.rows[shard][position]
            if failed is None:
                output = {**row.record, "response": "yes", "attempt": attempt}
                rows.append(FinishedRow(row.seq, row.row_id, output, None))
            else:
                error = error_line(row.line, row.record, failed, "it failed")
                rows.append(FinishedRow(row.seq, row.row_id, None, error))
        number = len(self.ledger.shard_state(shard).parts.get(attempt, ())) + 1
        return self.ledger.write_part(shard, attempt, number, rows), rows

    def commit(self, shard: int, failed: str | None = None) -> None:
        """Answer the whole shard; its last row fails with `failed`, if given."""
        self.claim(shard)
        last = 2 if failed else 3
        refs, rows = [], []
        for positions, reason in ((range(last), None), (range(last, 3), failed)):
            if positions:
                ref, part_rows = self.part(shard, list(positions), failed=reason)
                refs.append(ref)
                rows += part_rows
        self.ledger.commit(shard, 1, refs, rows)

    def release(self, shard: int, attempt: int = 1) -> None:
        self.ledger.release(shard, attempt, Release("Drained", "", counts=False))
