"""What the ledger's files hold. JSON at rest, frozen dataclasses in memory.

A reader ignores keys it doesn't know, so that a later version may add some.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Self
from zlib import crc32

import orjson
from pydantic import TypeAdapter, ValidationError

from neva.errors import NevaError
from neva.reasons import Reason


class LedgerCorrupt(NevaError):
    """A file of the ledger is not what its writer wrote."""

    reason = Reason.LEDGER_CORRUPT


def problem_of(error: ValidationError) -> str:
    """The first thing that is wrong, in one line without the content, which may be of any size."""
    first = error.errors(include_url=False, include_input=False)[0]
    return ": ".join([*map(str, first["loc"]), first["msg"]])


MARK = struct.Struct("<QI")
"""What the merge knows a row by: (seq, CRC-32 of its id)."""


@dataclass(frozen=True, slots=True)
class Record:
    def to_json(self) -> bytes:
        """Equal records give equal bytes; a user's object keeps the order of its keys."""
        return orjson.dumps(self)

    @classmethod
    def from_json(cls, data: bytes, key: str) -> Self:
        """Raises LedgerCorrupt naming `key`, in one line: anybody may have written the file."""
        try:
            record: Self = cls._adapter().validate_python(orjson.loads(data))
            record._check()
        except ValidationError as error:
            raise LedgerCorrupt(f"{key}: no {cls.__name__}: {problem_of(error)}") from error
        except ValueError as error:
            raise LedgerCorrupt(f"{key}: no {cls.__name__}: {error}") from error
        return record

    @classmethod
    @cache
    def _adapter(cls) -> TypeAdapter[Self]:
        """Makes a record of JSON: each field of its type; keys that it doesn't know are left."""
        return TypeAdapter(cls)

    def _check(self) -> None:
        """Raise ValueError for what the fields' types can't say."""


@dataclass(frozen=True, slots=True)
class ShardRow:
    """One row of a shard's input (see `neva.ledger.shard_input`)."""

    seq: int  # position among all rows of the prompts file, good and bad: the order of the output
    line: int  # 1-based line of the prompts file
    row_id: str
    question: str
    media_name: str
    record: dict[str, Any]  # the user's own object, keys unchanged


@dataclass(frozen=True, slots=True)
class ShardPlan(Record):
    """One shard as the manifest fixes it: in digests, so that a manifest stays small.

    The row ids themselves stand in the shard's input, which only who works on the shard reads.
    """

    number: int
    num_rows: int
    pack: str  # names the file of inputs that holds this shard's
    offset: int  # bytes
    num_bytes: int
    input_sha256: str
    ids_sha256: str  # see ids_sha256() below


@dataclass(frozen=True, slots=True)
class Manifest(Record):
    """What the run is. Everything a worker needs to know, so that messages hold ids only."""

    run_id: str  # names the run's queue and leases
    job: dict[str, Any]  # the whole job, as its file says it
    answer_digest: str  # of the part of the spec that answers depend on
    model_digest: str
    prompts_sha256: str
    num_rows: int  # good and rejected; of a retry, the rows that it asks again
    num_rejected: int
    rejected_sha256: str
    shards: list[ShardPlan]
    num_kept: int = 0  # rows of the whole job that a retry leaves as they are: answered before
    kept_sha256: str = ""  # of the outputs.jsonl that holds them


@dataclass(frozen=True, slots=True)
class Claim(Record):
    """An attempt's right to a shard, and the rows it will answer.

    `claim_id` is unique per claim: two children of one worker must not take each other's for
    their own.
    """

    attempt: int
    worker: str
    claim_id: str
    row_ids: list[str]


@dataclass(frozen=True, slots=True)
class Release(Record):
    """An attempt's orderly end without a commit."""

    reason: str
    message: str
    counts: bool  # against the shard's attempts


@dataclass(frozen=True, slots=True)
class PartRef(Record):
    """A part as the commit names it."""

    key: str
    etag: str


@dataclass(frozen=True, slots=True)
class Commit(Record):
    """The end of a shard."""

    attempt: int
    parts: list[PartRef]
    num_rows: int
    num_failed: int
    sha256: str  # of the finished rows' lines in seq order
    failed_by_reason: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FinishedRow(Record):
    """One line of a part: an answer, or the reason why there is none."""

    seq: int
    row_id: str
    output: dict[str, Any] | None
    error: dict[str, Any] | None  # a line of errors.jsonl

    @property
    def failed(self) -> bool:
        return self.error is not None

    def _check(self) -> None:
        if self.error is not None and not isinstance(self.error.get("reason"), str):
            raise ValueError("an error without a reason")


def ids_sha256(rows: Iterable[ShardRow | FinishedRow]) -> str:
    """Digest of which rows these are and where they stand in the output; not of their content.

    The merge compares it with the manifest's, so that it need not read shard inputs again.

    Args:
        rows: in ascending `seq`.
    """
    return marks_sha256(b"".join(MARK.pack(row.seq, crc32(row.row_id.encode())) for row in rows))


def marks_sha256(marks: bytes | memoryview) -> str:
    """The same of rows' marks: `seq` and a checksum of the id, 12 bytes each.

    A checksum, because a split makes a million of them: that another row's answer takes a row's
    place passes by once in four thousand million such mistakes.
    """
    return hashlib.sha256(marks).hexdigest()


def error_line(
    line: int, record: dict[str, Any] | None, reason: str, message: str
) -> dict[str, Any]:
    """A line of errors.jsonl.

    Args:
        line: 1-based line of the prompts file.
        record: the user's object, if the line held one.
    """
    error = {"line": line, "reason": str(reason), "message": message}
    if record is None:
        return {**error, "question_id": None}
    return {**error, "question_id": record.get("question_id"), "record": record}
