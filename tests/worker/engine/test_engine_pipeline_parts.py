from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.engine.pipeline import PART_TOKENS, row_parts, token_parts
from worker.engine.row_batch import RowBatch

NUM_TOKENS = st.integers(1, 9 * PART_TOKENS)


@given(num_rows=st.integers(1, 200), num_tokens=NUM_TOKENS, num_stages=st.integers(2, 8))
def test_parts_cover_everything_once_and_are_bounded(
    num_rows: int, num_tokens: int, num_stages: int
) -> None:
    rows = row_parts(num_rows, num_tokens, num_stages)
    tokens = token_parts(num_tokens, num_stages)
    for cuts, length in ((rows, num_rows), (tokens, num_tokens)):
        assert [place for cut in cuts for place in range(length)[cut]] == list(range(length))
    most_rows = max(cut.stop - cut.start for cut in rows)
    most_tokens = max(cut.stop - cut.start for cut in tokens)
    assert most_rows * most_tokens <= PART_TOKENS
    # Half of that at least, unless there is nothing more.
    assert len(rows) == 1 or 2 * most_rows * most_tokens >= PART_TOKENS


@given(num_rows=st.integers(1, 200), num_tokens=NUM_TOKENS)
def test_one_stage_computes_all_at_once(num_rows: int, num_tokens: int) -> None:
    assert row_parts(num_rows, num_tokens, 1) == [slice(0, num_rows)]
    assert token_parts(num_tokens, 1) == [slice(0, num_tokens)]


def test_a_part_of_a_batch_keeps_its_rows_places() -> None:
    batch = RowBatch(4, (0, 0, 0), 8, (1, -1, 0), (16, 0, 24))
    assert batch.part(slice(1, 3)) == RowBatch(5, (0, 0), 8, (-1, 0), (0, 24))
