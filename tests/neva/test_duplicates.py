from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from neva.duplicates import DuplicateIndex


@given(st.lists(st.text(max_size=2)))
def test_it_remembers_like_a_dictionary(row_ids: list[str]) -> None:
    index, first_lines = DuplicateIndex(), dict[str, int]()
    for line, row_id in enumerate(row_ids, start=1):
        assert index.first_line(row_id, line) == first_lines.get(row_id)
        first_lines.setdefault(row_id, line)
    assert len(index) == len(first_lines)


def test_it_grows_without_forgetting_and_stays_small() -> None:
    num_ids = 20_000
    tracemalloc.start()
    index = DuplicateIndex()
    assert all(index.first_line(f"id-{i}", i + 1) is None for i in range(num_ids))
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert all(index.first_line(f"id-{i}", 0) == i + 1 for i in range(num_ids))
    assert held_bytes < 40 * num_ids
