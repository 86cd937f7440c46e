from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.shard_plan import shard_sizes


def test_the_questions_of_one_video_stay_together() -> None:
    assert list(shard_sizes([3, 3, 3], max_rows=7)) == [6, 3]


def test_a_video_with_more_questions_than_a_shard_holds_is_spread() -> None:
    assert list(shard_sizes([1, 5], max_rows=2)) == [1, 2, 2, 1]


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(1, 6))
def test_every_row_is_in_one_shard_in_order_and_no_shard_is_too_large(
    groups: list[int], max_rows: int
) -> None:
    sizes = list(shard_sizes(groups, max_rows))
    media = [number for number, size in enumerate(groups) for _ in range(size)]
    assert sum(sizes) == len(media)
    assert all(1 <= size <= max_rows for size in sizes)
    shards = []
    for size in sizes:
        shards.append(media[:size])
        media = media[size:]
    for number, size in enumerate(groups):
        holders = sum(number in shard for shard in shards)
        assert holders == -(-size // max_rows), "a video is spread only as far as it must be"
