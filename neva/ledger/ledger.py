"""The ledger's reads and writes. S3 (or a folder) is the truth about a run; nothing else is.

Write order of a shard, each step a single PUT that exactly one writer can win:

    claim.json (if absent)  →  part-*.jsonl (if absent)  →  commit.json (if absent)

A worker killed between any two of them leaves whole files only: the next attempt claims the next
number, reads the finished rows out of the earlier parts and goes on. Deciding what an attempt may
touch is `neva.ledger.attempts`; deciding what to enqueue is the controller's.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import count, takewhile

from neva.ledger import layout
from neva.ledger.attempts import PastAttempt
from neva.ledger.finished_lines import FinishedLine, committed_lines, finished_line
from neva.ledger.records import (
    Claim,
    Commit,
    FinishedRow,
    LedgerCorrupt,
    Manifest,
    PartRef,
    Release,
    ShardPlan,
    ShardRow,
    ids_sha256,
)
from neva.ledger.shard_input import decode_rows, encode_rows
from neva.store.base import AlreadyExists, NotFound, ObjectInfo, Store, put_if_absent_or_same

# Shards in a row: a page of a listing has 1,000 keys, a shard six or more.
_WORTH_A_LISTING = 150
_MOST_LINE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class ShardState:
    """A shard as it was found.

    Attributes:
        committed: nothing is left to do.
        attempts: numbers of all attempts so far, ascending.
        released: those that ended in order.
        parts: parts per attempt, in the order they were written.
    """

    committed: bool
    attempts: tuple[int, ...]
    released: frozenset[int]
    parts: dict[int, tuple[PartRef, ...]]


class Ledger:
    """The ledger of the run under one output prefix."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # The run as a whole

    def read_manifest(self) -> Manifest | None:
        data = self.store.get_or_none(layout.MANIFEST)
        return Manifest.from_json(data, layout.MANIFEST) if data is not None else None

    def write_manifest(self, manifest: Manifest) -> Manifest:
        """Fix the run. Returns the manifest that holds: somebody else's if theirs was first."""
        try:
            put_if_absent_or_same(self.store, layout.MANIFEST, manifest.to_json())
        except AlreadyExists:
            winner = self.read_manifest()
            if winner is None:
                raise LedgerCorrupt(f"{layout.MANIFEST} was there and is gone") from None
            return winner
        return manifest

    def read_calibration(self) -> bytes | None:
        """What the run's quantization goes by; None before a worker has found it."""
        return self.store.get_or_none(layout.CALIBRATION)

    def fix_calibration(self, found: bytes) -> bytes:
        """Fix the calibration. Returns the one that holds: another worker's if it was first.

        All workers and retries quantize by the same bytes, so that all have the same model.
        """
        try:
            put_if_absent_or_same(self.store, layout.CALIBRATION, found)
        except AlreadyExists:
            return self.store.get(layout.CALIBRATION)
        return found

    def committed_shards(self, among: Collection[int] | None = None) -> set[int]:
        """Which of these shards, or of all, are done, by listing what there is of them."""
        numbers = (layout.committed_shard(item.key) for item in self.list_shards(among))
        committed = {number for number in numbers if number is not None}
        return committed if among is None else committed & set(among)

    def list_shards(self, among: Collection[int] | None = None) -> Iterator[ObjectInfo]:
        """The files of these shards, and perhaps of others, in paged listings.

        What is known to be done is left out where it is more than a page, and what nobody has
        begun has no files: so a listing of the open shards costs what is being worked on.
        """
        wanted = sorted(among or ())
        if among is None or (wanted and wanted[-1] >= layout.NUM_SHARDS_IN_ORDER):
            yield from self.store.list(layout.SHARDS)
            return
        for first, last in _ranges(wanted):
            end = layout.shard(last + 1)
            for item in self.store.list(layout.SHARDS, start_after=layout.shard(first)):
                if item.key >= end:
                    break
                yield item

    def refused_rows(self, manifest: Manifest) -> Iterator[FinishedRow]:
        """Rows that were refused before any worker started, as the file has them: unchecked."""
        key = layout.rejected(manifest.rejected_sha256)
        with self.store.open_read(key) as stream:
            while line := stream.readline(_MOST_LINE_BYTES):
                if len(line) == _MOST_LINE_BYTES:
                    raise LedgerCorrupt(f"{key}: a line is longer than any of ours")
                yield FinishedRow.from_json(line, key)

    # One shard

    def write_shard(self, number: int, rows: Sequence[ShardRow]) -> ShardPlan:
        """Write one shard's rows, alone in a file. They count once a manifest names their digest.

        (The split writes many shards to one file, and copies the users' lines.)

        Args:
            rows: in any order, which is the order in which they will be worked on.
        """
        data = encode_rows(rows)
        digest = hashlib.sha256(data).hexdigest()
        pack = layout.pack(number, digest)
        self.store.put(layout.inputs(pack), data)
        ordered = sorted(rows, key=lambda row: row.seq)
        return ShardPlan(number, len(rows), pack, 0, len(data), digest, ids_sha256(ordered))

    def read_shard(self, plan: ShardPlan) -> list[ShardRow]:
        """A shard's rows. Raises LedgerCorrupt when they are not the ones the manifest fixed."""
        key = layout.inputs(plan.pack)
        with self.store.open_read(key, offset=plan.offset, num_bytes=plan.num_bytes) as stream:
            data = stream.read()
        if hashlib.sha256(data).hexdigest() != plan.input_sha256:
            raise LedgerCorrupt(f"{key} was overwritten after {layout.MANIFEST} fixed it")
        return decode_rows(data, key)

    def shard_state(self, number: int) -> ShardState:
        """A shard as it is, asked name by name: attempts and parts are numbered without gaps.

        No listing: on some stores it lacks what was written last, and a release or a part that it
        lacks would make a death of an orderly end, which costs innocent rows their answers.
        """
        attempts = tuple(self._attempts(number))
        return ShardState(
            committed=self.is_committed(number),
            attempts=attempts,
            released=frozenset(n for n in attempts if self._exists(layout.release(number, n))),
            parts={n: refs for n in attempts if (refs := self._parts(number, n))},
        )

    def is_committed(self, number: int) -> bool:
        return self._exists(layout.commit(number))

    def parts_before(self, number: int, attempt: int) -> list[PartRef]:
        """The parts of all earlier attempts, in the order they were written."""
        return [ref for earlier in range(1, attempt) for ref in self._parts(number, earlier)]

    def is_superseded(self, number: int, attempt: int) -> bool:
        """Whether a later attempt exists, or the shard is done."""
        later = layout.claim(number, attempt + 1)
        return self.is_committed(number) or self._exists(later)

    def _attempts(self, number: int) -> Iterator[int]:
        return takewhile(lambda n: self._exists(layout.claim(number, n)), count(1))

    def _parts(self, number: int, attempt: int) -> tuple[PartRef, ...]:
        found = (self.store.head(layout.part(number, attempt, part)) for part in count(1))
        return tuple(PartRef(info.key, info.etag) for info in iter(found.__next__, None))

    def _exists(self, key: str) -> bool:
        return self.store.head(key) is not None

    def past_attempts(self, number: int, state: ShardState) -> list[PastAttempt]:
        """The earlier attempts with what they claimed and finished."""
        past = []
        for attempt in state.attempts:
            finished = frozenset(
                row.row_id for row in self.read_parts(state.parts.get(attempt, ()))
            )
            counts = True
            if attempt in state.released:
                key = layout.release(number, attempt)
                counts = Release.from_json(self.store.get(key), key).counts
            past.append(PastAttempt(attempt, self._claimed(number, attempt), finished, counts))
        return past

    def _claimed(self, number: int, attempt: int) -> tuple[str, ...]:
        key = layout.claim(number, attempt)
        try:
            return tuple(Claim.from_json(self.store.get(key), key).row_ids)
        except NotFound as error:
            raise LedgerCorrupt(f"{key} is missing, but the attempt has files") from error

    def read_parts(self, refs: Iterable[PartRef]) -> Iterator[FinishedRow]:
        """Finished rows in the order they were written."""
        for ref in refs:
            for line in self.store.get(ref.key).splitlines():
                yield FinishedRow.from_json(line, ref.key)

    def claim(self, number: int, claim: Claim) -> bool:
        """Take the attempt's number; False when another worker has it."""
        key = layout.claim(number, claim.attempt)
        try:
            put_if_absent_or_same(self.store, key, claim.to_json())
        except AlreadyExists:
            return False
        return True

    def write_part(
        self, number: int, attempt: int, part: int, rows: Sequence[FinishedRow]
    ) -> PartRef:
        key = layout.part(number, attempt, part)
        data = b"".join(row.to_json() + b"\n" for row in rows)
        return PartRef(key, put_if_absent_or_same(self.store, key, data))

    def release(self, number: int, attempt: int, release: Release) -> None:
        put_if_absent_or_same(self.store, layout.release(number, attempt), release.to_json())

    def commit(
        self, number: int, attempt: int, refs: Sequence[PartRef], rows: Sequence[FinishedRow]
    ) -> bool:
        """End the shard with `rows`, which `refs` hold. False when somebody else ended it."""
        ordered = sorted(rows, key=lambda row: row.seq)
        reasons = Counter(row.error["reason"] for row in ordered if row.error is not None)
        record = Commit(
            attempt,
            list(refs),
            len(ordered),
            sum(row.failed for row in ordered),
            rows_sha256(ordered),
            dict(sorted(reasons.items())),
        )
        try:
            put_if_absent_or_same(self.store, layout.commit(number), record.to_json())
        except AlreadyExists:
            return False
        return True

    def read_commit(self, number: int) -> Commit:
        key = layout.commit(number)
        return Commit.from_json(self.store.get(key), key)

    def committed_rows(self, plan: ShardPlan) -> list[FinishedRow]:
        """The rows of a committed shard in input order.

        Raises:
            LedgerCorrupt: they are not the manifest's rows, or not what was committed.
        """
        commit = self.read_commit(plan.number)
        rows: dict[str, FinishedRow] = {}
        for row in self.read_parts(commit.parts):
            rows.setdefault(row.row_id, row)  # the first written wins
        ordered = sorted(rows.values(), key=lambda row: row.seq)
        if ids_sha256(ordered) != plan.ids_sha256:
            raise self._other_rows(plan, rows.keys())
        if rows_sha256(ordered) != commit.sha256:
            where = layout.commit(plan.number)
            raise LedgerCorrupt(f"{where}: its parts hold other rows than were committed")
        return ordered

    def committed_lines(self, plan: ShardPlan) -> list[FinishedLine]:
        """The same as `committed_rows`, and as strict, for those who need no parsed rows."""
        commit = self.read_commit(plan.number)
        data = b"".join(self.store.get(part.key) for part in commit.parts)
        where = layout.commit(plan.number)
        lines = committed_lines(plan, commit, data.removesuffix(b"\n").split(b"\n"), where)
        if lines is None:
            # Tells what is wrong; if nothing is, then lines were written otherwise than we do.
            rows = self.committed_rows(plan)
            lines = [finished_line(row.to_json(), where) for row in rows]
        return lines

    def _other_rows(self, plan: ShardPlan, found: Set[str]) -> LedgerCorrupt:
        where = layout.commit(plan.number)
        missing = {row.row_id for row in self.read_shard(plan)} - found
        if missing:
            return LedgerCorrupt(
                f"{where}: no answer for {len(missing)} rows: {sorted(missing)[:5]}"
            )
        return LedgerCorrupt(f"{where}: its rows are not those that {layout.MANIFEST} fixed")


def _ranges(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ascending numbers as (first, last); between two ranges is more than a page of others."""
    first = last = numbers[0] if numbers else 0
    for number in numbers:
        if number - last > _WORTH_A_LISTING:
            yield first, last
            first = number
        last = number
    if numbers:
        yield first, last


def select_rows(rows: Iterable[FinishedRow], row_ids: Iterable[str]) -> dict[str, FinishedRow]:
    """One finished row per id, the first written wins; ids that aren't the shard's are dropped."""
    wanted = set(row_ids)
    selected: dict[str, FinishedRow] = {}
    for row in rows:
        if row.row_id in wanted:
            selected.setdefault(row.row_id, row)
    return selected


def rows_sha256(rows: Iterable[FinishedRow]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(row.to_json() + b"\n")
    return digest.hexdigest()
