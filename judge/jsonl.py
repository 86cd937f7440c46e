"""Reads the judge's JSON Lines inputs: one object a line, streamed, bad lines named and skipped.

Callers: `questions`, `answers`, `contexts`. A bad line never shifts its neighbours, because nothing
here is matched by position: every record carries its own id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson

from neva.errors import RowError
from neva.prompt_lines import array_items, raw_lines
from neva.prompts import DEFAULT_MAX_LINE_BYTES, layout_of
from neva.reasons import Reason


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in an input file that can't be used as it stands.

    Attributes:
        source: the file, as the user named it.
        line: 1-based line.
    """

    source: str
    line: int
    reason: Reason
    message: str

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "line": self.line,
            "reason": str(self.reason),
            "message": self.message,
        }

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.message} ({self.reason})"


@dataclass(frozen=True, slots=True)
class Line:
    """One good line: its 1-based number and its object."""

    number: int
    record: dict[str, Any]


def read_objects(stream: BinaryIO | Iterable[bytes], source: str) -> Iterator[Line | Problem]:
    """Yield each record of a JSON Lines file, as an object or as a problem.

    A byte order mark, CRLF line ends and blank lines are accepted; so is one array, if `source`
    ends in `.json`, because a job's prompts may be one.
    """
    cut = raw_lines if layout_of(source) == "jsonl" else array_items
    for number, raw in cut(stream, DEFAULT_MAX_LINE_BYTES):
        if isinstance(raw, RowError):
            yield Problem(source, number, raw.reason, raw.message)
            continue
        try:
            record = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            yield Problem(source, number, Reason.INVALID_JSON, f"no JSON: {error}")
            continue
        if not isinstance(record, dict):
            yield Problem(source, number, Reason.NOT_AN_OBJECT, "the line is no JSON object")
            continue
        yield Line(number, record)


def id_key(value: object) -> str | None:
    """The form in which ids of different files are compared, or None for what is no id.

    Files disagree about the type (`7` and `"7"` are the same question); true and 7.5 are no ids.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return value.strip() or None
    return None
