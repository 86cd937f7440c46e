"""Good rows, and their lines parked on disk, the lines of each pack in a file of their own.

The rows of a pack are spread over all of the prompts file. Reading it once and dealing its lines
out is quicker than finding the lines of one pack after the other.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from controller.grouping import first_of_each, in_order, packs_of, places_within, starts_of
from controller.line_files import LineReader, Places, batches
from controller.scan import GoodRows

_PACK_BYTES = 4 << 20  # held in memory, twice, while it is written
_ROWS_AT_ONCE = 16 << 10


@dataclass(frozen=True, slots=True)
class ParkedRows:
    """Rows that can be asked, in the order of the prompts file.

    Attributes:
        places: of their own lines, with their `seq`.
        lines: 1-based lines of the prompts file.
        marks: CRC-32 of their ids.
        media: what tells their media apart: the index of the first row about it.
        packs: where the rows' lines go.
        ranks: which line of the pack's file is theirs.
    """

    places: Places
    lines: NDArray[np.uint32]
    marks: NDArray[np.uint32]
    media: NDArray[np.uint32]
    packs: NDArray[np.uint32]
    ranks: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.places)

    def only(self, which: NDArray[np.bool_]) -> ParkedRows:
        """Some of them."""
        if which.all():
            return self
        columns = (getattr(self, field.name) for field in fields(self))
        return ParkedRows(*(column.compress(which) for column in columns))


def to_be_parked(rows: GoodRows, max_rows: int) -> ParkedRows:
    """Says for each row where it will lie; `park` puts it there."""
    media = first_of_each(rows.media.view(np.uint64))
    packs = packs_of(media, rows.places["size"], max_rows, _PACK_BYTES)
    return ParkedRows(rows.places, rows.lines, rows.marks, media, packs, places_within(packs))


def park(rows: ParkedRows, reader: LineReader, folder: Path) -> None:
    """Deal the rows' lines out to the files of their packs."""
    for batch in batches(rows.places, _ROWS_AT_ONCE):
        packs = rows.packs[batch]
        lines = reader.read_adjacent(rows.places[batch])
        order = in_order(packs)
        dealt = list(map(lines.__getitem__, order.tolist()))
        packs = packs.take(order)
        starts = starts_of(packs)
        ends = np.append(starts[1:], len(packs))
        for start, end, pack in zip(
            starts.tolist(), ends.tolist(), packs.take(starts).tolist(), strict=True
        ):
            with _path(folder, pack).open("ab") as file:
                file.write(b"\n".join([*dealt[start:end], b""]))


def parked_lines(folder: Path, pack: int) -> list[bytes]:
    """The lines of a pack by rank, without their line ends."""
    return _path(folder, pack).read_bytes().split(b"\n")


def _path(folder: Path, pack: int) -> Path:
    return folder / f"pack-{pack}"
