"""Divides rows into shards. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from neva.ledger import ShardRow


def shard_sizes(group_sizes: Iterable[int], max_rows: int) -> Iterator[int]:
    """Cut rows, which come in groups about one media each, into shards of at most `max_rows`.

    The questions about one video stay in one shard, so that it is fetched and decoded once; only a
    video with more than `max_rows` questions is spread over several.

    Args:
        group_sizes: rows of each group, in their order.
    """
    shard = 0
    for group in group_sizes:
        left = group
        while left:
            chunk = min(left, max_rows)
            if shard and shard + chunk > max_rows:
                yield shard
                shard = 0
            shard += chunk
            left -= chunk
    if shard:
        yield shard


def plan_shards(rows: Sequence[ShardRow], max_rows: int) -> Iterator[Sequence[ShardRow]]:
    """The same of rows that are grouped by media already."""
    groups = (len(list(group)) for _, group in groupby(rows, key=lambda row: row.media_name))
    first = 0
    for size in shard_sizes(groups, max_rows):
        yield rows[first : first + size]
        first += size
