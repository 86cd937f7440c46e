"""Refuses rows for what can't be told from a row alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from controller.grouping import in_order
from controller.line_files import LineReader, LineWriter
from controller.scan import Scanned
from neva.ledger import error_line
from neva.prompts import BadRow, PromptRules, check_record


def reject(
    late: LineWriter, seq: int, line: int, record: dict[str, Any], reason: str, message: str
) -> None:
    """Write a row's line of errors.jsonl."""
    late.add([seq], [orjson.dumps(error_line(line, record, reason, message))])


def reject_doubled(
    found: Scanned, rules: PromptRules, reader: LineReader, late: LineWriter
) -> NDArray[np.bool_]:
    """Refuse all rows but the first of each id, bad ones included; which good rows are left.

    Checksums of the ids tell which few may be equal, their lines whether they are.
    """
    rows = found.rows
    is_left = np.ones(len(rows), np.bool_)
    with_id = np.flatnonzero(found.bad_marks >= 0)
    alike = _alike(np.concatenate([rows.marks, found.bad_marks[with_id].astype(np.uint32)]))
    is_bad = alike >= len(rows)
    alike[is_bad] = len(rows) + with_id[alike[is_bad] - len(rows)]
    places = np.concatenate([rows.places, found.bad])[alike]
    order = np.argsort(places["seq"])
    lines = np.concatenate([rows.lines, np.zeros(len(found.bad), np.uint32)])[alike][order]
    firsts: dict[str, int] = {}
    for (seq, text), index, line in zip(
        reader.each(places[order]), alike[order].tolist(), lines.tolist(), strict=True
    ):
        record = orjson.loads(text)
        if index >= len(rows):  # a line of errors.jsonl
            record, line = record["record"], record["line"]
        row_id = str(record["question_id"])
        if row_id not in firsts:
            firsts[row_id] = line
            continue
        bad = check_record(seq, line, record, rules, _Stands(firsts[row_id]))
        assert isinstance(bad, BadRow)
        reject(late, seq, line, record, bad.reason, bad.message)
        if index < len(rows):
            is_left[index] = False
    return is_left


def _alike(marks: NDArray[np.uint32]) -> NDArray[np.intp]:
    """Indices of those that are equal to another one."""
    order = in_order(marks)
    ordered = marks.take(order)
    is_alike = np.zeros(len(marks), np.bool_)
    is_alike[1:] = ordered[1:] == ordered[:-1]
    is_alike[:-1] |= is_alike[1:]
    return order[is_alike]


class _Stands:
    """Says of every id where it stands already."""

    def __init__(self, line: int) -> None:
        self._line = line

    def first_line(self, row_id: str, line: int) -> int | None:
        return self._line
