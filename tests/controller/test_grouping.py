from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from controller.grouping import first_of_each, in_order, packs_of, places_within, starts_of

media = st.lists(st.integers(0, 5), max_size=40)


@given(st.lists(st.one_of(st.integers(0, 3), st.integers(0, (1 << 64) - 1)), max_size=40))
def test_equal_keys_keep_their_order(keys: list[int]) -> None:
    order = in_order(np.array(keys, np.uint64)).tolist()
    assert order == sorted(range(len(keys)), key=keys.__getitem__)


@given(media)
def test_rows_about_one_media_name_the_first_of_them(names: list[int]) -> None:
    firsts = first_of_each(np.array(names, np.uint64) << np.uint64(60)).tolist()
    assert firsts == [names.index(name) for name in names]


@given(media)
def test_runs_and_places_are_counted(values: list[int]) -> None:
    starts = starts_of(np.array(values)).tolist()
    assert starts == [n for n in range(len(values)) if not n or values[n] != values[n - 1]]
    places = places_within(np.array(values, np.uint32)).tolist()
    assert places == [values[:n].count(value) for n, value in enumerate(values)]


@given(media, st.integers(1, 8), st.integers(1, 60))
def test_packs_are_about_as_large_as_wanted_and_keep_a_media_together(
    names: list[int], max_rows: int, pack_bytes: int
) -> None:
    num_rows = len(names)
    firsts = [names.index(name) for name in names]
    sizes = [7 + n % 5 for n in range(num_rows)]
    arrays = np.array(firsts, np.uint32), np.array(sizes, np.uint32)
    packs = packs_of(*arrays, max_rows, pack_bytes).tolist()
    order = sorted(range(num_rows), key=firsts.__getitem__)
    in_packs = [packs[row] for row in order]
    assert in_packs == sorted(in_packs), "packs follow the order of the shards"
    for pack in set(packs):
        size = sum(sizes[row] for row in order if packs[row] == pack)
        assert size < pack_bytes + max_rows * max(sizes)
    for first in set(firsts):
        rows = [row for row in order if firsts[row] == first]
        for start in range(0, len(rows), max_rows):
            assert len({packs[row] for row in rows[start : start + max_rows]}) == 1
