from __future__ import annotations

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from controller.shard_plan import plan_shards
from neva.ledger import ShardRow


def row(seq: int, media: str) -> ShardRow:
    return ShardRow(seq, seq + 1, str(seq), "?", media, {})


def rows_of(groups: list[int]) -> list[ShardRow]:
    media = [f"v{number}" for number, size in enumerate(groups) for _ in range(size)]
    return [row(seq, name) for seq, name in enumerate(media)]


def test_the_questions_of_one_video_stay_together() -> None:
    shards = list(plan_shards(rows_of([3, 3, 3]), max_rows=7))
    assert [[r.seq for r in shard] for shard in shards] == [[0, 1, 2, 3, 4, 5], [6, 7, 8]]


def test_a_video_with_more_questions_than_a_shard_holds_is_spread() -> None:
    shards = list(plan_shards(rows_of([1, 5]), max_rows=2))
    assert [[r.seq for r in shard] for shard in shards] == [[0], [1, 2], [3, 4], [5]]


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(1, 6))
def test_every_row_is_in_one_shard_in_order_and_no_shard_is_too_large(
    groups: list[int], max_rows: int
) -> None:
    rows = rows_of(groups)
    shards = list(plan_shards(rows, max_rows))
    assert [r for shard in shards for r in shard] == rows
    assert all(1 <= len(shard) <= max_rows for shard in shards)
    for name, size in ((name, len(list(group))) for name, group in groupby(rows, key=media_of)):
        holders = sum(any(r.media_name == name for r in shard) for shard in shards)
        assert holders == -(-size // max_rows), "a video is spread only as far as it must be"


def media_of(item: ShardRow) -> str:
    return item.media_name
