from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import parked
from controller.line_files import LineReader, LineWriter
from controller.parked import park, parked_lines, to_be_parked
from controller.scan import GoodRows


@given(
    media=st.lists(st.integers(0, 5), max_size=40),
    cut=st.integers(0, 40),
    rows_at_once=st.integers(1, 9),
)
def test_each_row_finds_its_line_in_its_pack(media: list[int], cut: int, rows_at_once: int) -> None:
    lines = [b"%d " % n * (n % 4) for n in range(len(media))]
    cut = min(cut, len(lines))
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(parked, "_PACK_BYTES", 20)
        patch.setattr(parked, "_ROWS_AT_ONCE", rows_at_once)
        folder = Path(name)
        places = []
        for number, some in enumerate((lines[:cut], lines[cut:])):
            with LineWriter(folder / str(number), number) as file:
                if some:
                    file.add(range(len(some)), some)
                places.append(file.close())
        numbers = np.arange(len(lines), dtype=np.uint32)
        found = GoodRows(np.concatenate(places), numbers, numbers, np.array(media, np.int64))
        rows = to_be_parked(found, max_rows=3)
        with LineReader([folder / "0", folder / "1"]) as reader:
            park(rows, reader, folder)
        for line, pack, rank in zip(lines, rows.packs.tolist(), rows.ranks.tolist(), strict=True):
            assert parked_lines(folder, pack)[rank] == line
