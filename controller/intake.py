"""Validation: every row that can't be answered is found here, before any worker starts.

Streams the prompts file once into a spool, then looks every distinct media up. Bad rows keep their
line number and reason and go to `rejected.jsonl`; the good ones wait in the spool for the split.
"""

from __future__ import annotations

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

from controller.spool import Spool
from neva.errors import ConfigError, RowError
from neva.ledger import ShardRow, error_line
from neva.media_store import MediaStore, media_names, open_media
from neva.prompts import (
    RESERVED_KEYS_OF_FORMAT,
    BadRow,
    PromptRow,
    layout_of,
    read_prompts,
)
from neva.reasons import Reason
from neva.row_prompt import RowPrompts
from neva.spec import JobSpec
from neva.store import (
    BucketNotFound,
    NotFound,
    StoreError,
    open_object,
)

REJECTED = "rejected"  # kind of a spool's lines
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Intake:
    """What validation found. The rows themselves are in the spool."""

    num_rows: int
    num_rejected: int
    prompts_sha256: str


def read_into(spool: Spool, spec: JobSpec, prompts: RowPrompts, lookups: int) -> Intake:
    """Validate all prompts of a job.

    Args:
        lookups: media looked up at the same time.
    """
    num_rows = 0
    store, key = open_object(spec.input.prompts)
    with store.open_read(key) as stream:
        hashing = _HashingReader(stream)
        for row in read_prompts(
            io.BufferedReader(hashing, _READ_BYTES),
            spec.media_type,
            spec.inference.insert_media_token,
            layout=layout_of(key),
            reserved_keys=RESERVED_KEYS_OF_FORMAT[spec.model.compat.output_format],
            media_name=media_names(spec),
        ):
            num_rows += 1
            if isinstance(row, BadRow):
                _reject(spool, row, row.reason, row.message)
                continue
            try:
                prompts.build(row.question)
            except RowError as error:
                _reject(spool, row, error.reason, error.message)
                continue
            spool.add_row(
                ShardRow(row.seq, row.line, row.row_id, row.question, row.media_name, row.record)
            )
    _reject_missing_media(spool, open_media(spec), lookups)
    return Intake(num_rows, spool.num_lines(REJECTED), hashing.digest.hexdigest())


def prompts_sha256(spec: JobSpec) -> str | None:
    """Digest of the prompts file as it is now; None when it is gone."""
    store, key = open_object(spec.input.prompts)
    try:
        with store.open_read(key) as stream:
            hashing = _HashingReader(stream)
            while hashing.read(_READ_BYTES):
                pass
    except NotFound:
        return None
    return hashing.digest.hexdigest()


def _reject_missing_media(spool: Spool, media: MediaStore, lookups: int) -> None:
    names = spool.media_names()
    bad: list[tuple[str, RowError]] = []
    with ThreadPoolExecutor(lookups, thread_name_prefix="media-lookup") as pool:
        while batch := list(islice(names, lookups * 32)):
            found = pool.map(lambda name: media_problem(media, name), batch)
            bad += [(name, error) for name, error in zip(batch, found, strict=True) if error]
    for name, error in bad:
        for row in spool.take_rows_of(name):
            _reject(spool, row, error.reason, error.message)


def media_problem(media: MediaStore, name: str) -> RowError | None:
    """Why one media can't be used; store errors that may pass go through."""
    try:
        if media.head(name) is not None:
            return None
    except BucketNotFound as error:
        raise ConfigError(error.message, reason=error.reason) from error
    except StoreError as error:
        if error.retryable:
            raise
        return RowError(error.message, reason=error.reason)
    return RowError(f"{media.uri_of(name)} does not exist", reason=Reason.MEDIA_NOT_FOUND)


def _reject(spool: Spool, row: PromptRow | ShardRow | BadRow, reason: str, message: str) -> None:
    spool.add_line(REJECTED, row.seq, error_line(row.line, row.record, reason, message))


class _HashingReader(io.RawIOBase):
    """Reads through, and digests what was read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self.digest.update(data)
        return len(data)
