"""Reads a part of a prompts file and parks its good rows and its bad ones, each with its reason.

What can't be told from a part alone is for `controller.intake`: doubled ids and missing media.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from zlib import crc32

import numpy as np
import orjson
from numpy.typing import NDArray

from controller.line_files import LineWriter, Places, as_array
from neva.errors import RowError
from neva.ledger import error_line
from neva.prompt_columns import Columns, ordinary_columns
from neva.prompt_lines import RawBatch, array_items, raw_batches
from neva.prompts import (
    DEFAULT_MAX_LINE_BYTES,
    BadRow,
    Layout,
    PromptRules,
    check_line,
)

# So few lines at a time that what becomes of them stays in the processor's cache.
_PIECE_BYTES = 32 << 10
_FEW_ROWS = 8
_ITEMS_AT_ONCE = 256


class Asks(Protocol):
    """Says which questions become no prompt; see `RowPrompts.refused`."""

    def refused(self, questions: Sequence[str]) -> dict[int, RowError]: ...


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a prompts file, whole lines.

    Attributes:
        start, end: bytes of the file.
    """

    path: Path
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class GoodRows:
    """Rows that can be asked, in the order of the prompts file.

    Attributes:
        places: of their own lines, with their `seq`.
        lines: 1-based lines of the prompts file.
        marks: CRC-32 of their ids.
        media: what tells their media apart: a hash of the name, 64 bits.
    """

    places: Places
    lines: NDArray[np.uint32]
    marks: NDArray[np.uint32]
    media: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a part, or a whole file, holds.

    Attributes:
        num_rows: good and bad; `seq` counts them from the start of the part.
        bad: places of the bad rows' lines of errors.jsonl.
        bad_marks: CRC-32 of the bad rows' ids; -1 without a usable one.
    """

    num_rows: int
    rows: GoodRows
    bad: Places
    bad_marks: NDArray[np.int64]


def joined(parts: Sequence[Scanned]) -> Scanned:
    """All parts of a file as one. Changes the parts: `seq` counts on from one to the next."""
    if len(parts) == 1:
        return parts[0]
    num_rows = 0
    for part in parts:
        part.rows.places["seq"] += num_rows
        part.bad["seq"] += num_rows
        num_rows += part.num_rows
    rows = GoodRows(
        np.concatenate([part.rows.places for part in parts]),
        np.concatenate([part.rows.lines for part in parts]),
        np.concatenate([part.rows.marks for part in parts]),
        np.concatenate([part.rows.media for part in parts]),
    )
    bad_marks = np.concatenate([part.bad_marks for part in parts])
    return Scanned(num_rows, rows, np.concatenate([part.bad for part in parts]), bad_marks)


def scan(
    part: Part, layout: Layout, rules: PromptRules, prompts: Asks, rows: LineWriter, bad: LineWriter
) -> Scanned:
    """Read and check the rows of a part.

    Raises:
        ConfigError: a `.json` file is too large.
    """
    scanner = _Scanner(layout == "json", rules, prompts, rows, bad)
    num_before = sum(piece.count(b"\n") for piece in _pieces(part.path, 0, part.start))
    for lines, raws in _batches(part, layout):
        scanner.take(_moved(lines, num_before), raws)
    return scanner.end()


def cut(path: Path, num_parts: int) -> list[Part]:
    """Cut a file of lines into parts of about the same size."""
    size = path.stat().st_size
    starts = [0]
    with path.open("rb") as file:
        for number in range(1, num_parts):
            file.seek(max(size * number // num_parts, starts[-1]))
            file.readline()
            starts.append(file.tell())
    return [Part(path, start, end) for start, end in zip(starts, [*starts[1:], size], strict=True)]


def _batches(part: Part, layout: Layout) -> Iterator[RawBatch]:
    pieces = _pieces(part.path, part.start, part.end, _PIECE_BYTES)
    if layout == "jsonl":
        yield from raw_batches(pieces, DEFAULT_MAX_LINE_BYTES, is_start=part.start == 0)
        return
    lines: list[int] = []
    raws: list[bytes | RowError] = []
    for line, raw in array_items(pieces, DEFAULT_MAX_LINE_BYTES):
        lines.append(line)
        raws.append(raw)
        if len(raws) == _ITEMS_AT_ONCE:
            yield lines, raws
            lines, raws = [], []
    yield lines, raws


def _moved(lines: Sequence[int], by: int) -> Sequence[int]:
    if isinstance(lines, range):
        return range(lines.start + by, lines.stop + by)
    return [line + by for line in lines]


def _pieces(path: Path, start: int, end: int, piece_bytes: int = 1 << 20) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while start < end and (piece := file.read(min(piece_bytes, end - start))):
            start += len(piece)
            yield piece


class _Scanner:
    def __init__(
        self,
        is_array: bool,
        rules: PromptRules,
        prompts: Asks,
        rows: LineWriter,
        bad: LineWriter,
    ) -> None:
        self._is_array = is_array
        self._rules = rules
        self._prompts = prompts
        self._rows = rows
        self._bad = bad
        self._num_rows = 0
        self._lines, self._marks, self._media = bytearray(), bytearray(), bytearray()
        self._bad_marks: list[int] = []

    def end(self) -> Scanned:
        return Scanned(
            self._num_rows,
            GoodRows(
                self._rows.close(),
                np.frombuffer(self._lines, np.uint32),
                np.frombuffer(self._marks, np.uint32),
                np.frombuffer(self._media, np.int64),
            ),
            self._bad.close(),
            np.array(self._bad_marks, np.int64),
        )

    def take(self, lines: Sequence[int], raws: Sequence[bytes | RowError]) -> None:
        """Take rows together if they are ordinary, else in smaller groups, else one by one."""
        if not raws:
            return
        columns = ordinary_columns(raws, self._rules)
        if columns is not None:
            self._take_good(lines, raws, columns)  # type: ignore[arg-type]
        elif len(raws) > _FEW_ROWS:
            middle = len(raws) // 2
            self.take(lines[:middle], raws[:middle])
            self.take(lines[middle:], raws[middle:])
        else:
            for line, raw in zip(lines, raws, strict=True):
                self._take_one(line, raw)

    def _take_one(self, line: int, raw: bytes | RowError) -> None:
        row = check_line(self._num_rows, line, raw, self._rules, _UNSEEN)
        if isinstance(row, BadRow):
            row_id = None if row.row_id is None else row.row_id.encode()
            self._reject(line, row.record, row.reason, row.message, row_id)
        elif isinstance(raw, bytes):
            columns = Columns([row.row_id.encode()], [row.question], [row.media_name])
            self._take_good([line], [raw], columns)

    def _take_good(self, lines: Sequence[int], raws: Sequence[bytes], columns: Columns) -> None:
        refused = self._prompts.refused(columns.questions)
        if not refused:
            self._keep(lines, raws, columns)
            return
        for n, (line, raw) in enumerate(zip(lines, raws, strict=True)):
            row_id = columns.row_ids[n]
            if (error := refused.get(n)) is not None:
                self._reject(line, orjson.loads(raw), error.reason, error.message, row_id)
            else:
                one = Columns([row_id], [columns.questions[n]], [columns.media_names[n]])
                self._keep([line], [raw], one)

    def _keep(self, lines: Sequence[int], raws: Sequence[bytes], columns: Columns) -> None:
        num_rows = len(raws)
        if self._is_array:  # whose elements may be spread over lines
            raws = [raw.replace(b"\n", b" ") for raw in raws]
        self._rows.add(range(self._num_rows, self._num_rows + num_rows), raws)
        self._lines += as_array(lines).data
        self._marks += np.fromiter(map(crc32, columns.row_ids), np.uint32, num_rows).data
        self._media += np.fromiter(map(hash, columns.media_names), np.int64, num_rows).data
        self._num_rows += num_rows

    def _reject(
        self,
        line: int,
        record: dict[str, Any] | None,
        reason: str,
        message: str,
        row_id: bytes | None,
    ) -> None:
        error = orjson.dumps(error_line(line, record, reason, message))
        self._bad.add([self._num_rows], [error])
        self._bad_marks.append(-1 if row_id is None else crc32(row_id))
        self._num_rows += 1


class _Unseen:
    """Takes every id for new: whose is doubled is found out when all are known."""

    def first_line(self, row_id: str, line: int) -> int | None:
        return None


_UNSEEN = _Unseen()
