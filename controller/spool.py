"""Rows parked on disk while they are regrouped, so that memory does not grow with the job.

Two regroupings need it: the prompts by media (before the split) and the answers by input order
(in the merge). Both are one SQLite table in a temporary file that nobody else opens; a crash loses
it, and the step that made it starts over.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import orjson

from neva.ledger import ShardRow

_SCHEMA = """
    create table rows (seq integer primary key, first_seq integer, data blob);
    create table media (name text primary key, first_seq integer) without rowid;
    create table lines (kind text, seq integer, data blob, primary key (kind, seq)) without rowid;
"""


class Spool:
    """A temporary table of rows. Use it as a context manager."""

    def __init__(self) -> None:
        self._file = tempfile.NamedTemporaryFile(prefix="neva-spool-", suffix=".sqlite")  # noqa: SIM115
        self._db = sqlite3.connect(self._file.name)
        # Nothing here outlives the process, so nothing needs to survive a crash.
        self._db.executescript("pragma journal_mode=off; pragma synchronous=off;" + _SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._db.close()
        self._file.close()

    # Prompts, to be read by media

    def add_row(self, row: ShardRow) -> None:
        self._db.execute("insert or ignore into media values (?, ?)", (row.media_name, row.seq))
        (first_seq,) = self._db.execute(
            "select first_seq from media where name = ?", (row.media_name,)
        ).fetchone()
        self._db.execute("insert into rows values (?, ?, ?)", (row.seq, first_seq, row.to_json()))

    def media_names(self) -> Iterator[str]:
        """Every distinct media, in the order in which the prompts name them first."""
        for (name,) in self._db.execute("select name from media order by first_seq"):
            yield name

    def take_rows_of(self, media_name: str) -> list[ShardRow]:
        """Remove and return the rows of one media."""
        where = "where first_seq = (select first_seq from media where name = ?)"
        found = self._db.execute(f"select data from rows {where} order by seq", (media_name,))
        rows = [ShardRow.from_json(data, "spool") for (data,) in found]
        self._db.execute(f"delete from rows {where}", (media_name,))
        return rows

    def rows_by_media(self) -> Iterator[ShardRow]:
        """All rows, grouped by media, then in input order."""
        for (data,) in self._db.execute("select data from rows order by first_seq, seq"):
            yield ShardRow.from_json(data, "spool")

    def num_rows(self) -> int:
        return int(self._db.execute("select count(*) from rows").fetchone()[0])

    # Lines of output files, to be read in input order

    def add_line(self, kind: str, seq: int, line: object) -> None:
        self._db.execute("insert into lines values (?, ?, ?)", (kind, seq, orjson.dumps(line)))

    def lines(self, kind: str) -> Iterator[tuple[int, bytes]]:
        """(seq, line) of one kind in input order."""
        yield from self._db.execute(
            "select seq, data from lines where kind = ? order by seq", (kind,)
        )

    def num_lines(self, kind: str) -> int:
        query = "select count(*) from lines where kind = ?"
        return int(self._db.execute(query, (kind,)).fetchone()[0])
