"""What a shard's input looks like at rest: one line that says which rows these are, then the
users' own lines, byte for byte.

    {"media":"video","seqs":[0,3],"lines":[1,4]}
    {"question_id": 7, "video": "a.mp4", "text": "What?"}
    {"question_id": 9, "video": "a.mp4", "text": "Where?"}

Splicing lines, instead of parsing and writing a million records again, is what makes a split cost
little more than reading its prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson

from neva.ledger.records import LedgerCorrupt, ShardRow
from neva.prompts import MediaType, asked


def input_header(media_type: MediaType, seqs: Sequence[int], lines: Sequence[int]) -> bytes:
    """The first line of a shard's input, before its records' lines; no line end."""
    return orjson.dumps({"media": media_type, "seqs": seqs, "lines": lines})


def encode_rows(rows: Sequence[ShardRow]) -> bytes:
    """A whole input of rows whose question, media and id need not be their records' own."""
    header = {
        "seqs": [row.seq for row in rows],
        "lines": [row.line for row in rows],
        "row_ids": [row.row_id for row in rows],
        "questions": [row.question for row in rows],
        "media_names": [row.media_name for row in rows],
    }
    return b"".join(orjson.dumps(part) + b"\n" for part in (header, *(row.record for row in rows)))


def decode_rows(data: bytes, where: str) -> list[ShardRow]:
    """The rows of a shard's input. Raises LedgerCorrupt naming `where`."""
    try:
        first, *rest = data.removesuffix(b"\n").split(b"\n")
        header, records = orjson.loads(first), list(map(orjson.loads, rest))
        columns: Iterable[tuple[str, str, str]]
        if "row_ids" in header:
            columns = zip(
                header["row_ids"], header["questions"], header["media_names"], strict=True
            )
        else:
            columns = [asked(record, header["media"]) for record in records]
        places = zip(header["seqs"], header["lines"], strict=True)
        return [
            ShardRow(*place, *column, record)
            for place, column, record in zip(places, columns, records, strict=True)
        ]
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise LedgerCorrupt(f"{where}: no input of a shard: {error!r}") from error
