"""Divides rows into shards. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, islice

from neva.ledger import ShardRow


def plan_shards(rows: Iterable[ShardRow], max_rows: int) -> Iterator[list[ShardRow]]:
    """Cut `rows`, which come grouped by media, into shards of at most `max_rows`.

    The questions about one video stay in one shard, so that it is fetched and decoded once; only a
    video with more than `max_rows` questions is spread over several. Holds one shard at a time.
    """
    shard: list[ShardRow] = []
    for _, group in groupby(rows, key=lambda row: row.media_name):
        while chunk := list(islice(group, max_rows)):
            if shard and len(shard) + len(chunk) > max_rows:
                yield shard
                shard = []
            shard += chunk
    if shard:
        yield shard
