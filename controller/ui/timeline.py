"""How many rows were finished when: the throughput chart's numbers. Pure.

Parts of shards tell it: each says when it was written, and a shard's rows are divided among its
parts by their bytes, which is right to within a few rows and costs no read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from neva.store.base import ObjectInfo

_MAX_BINS = 60
# Parts are flushed every few seconds: narrower bins would show that, not the rate.
_WIDTHS_S = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


@dataclass(frozen=True, slots=True)
class Finished:
    """Rows that were finished at a time, in seconds since the epoch; no whole number, as above."""

    at_s: float
    num_rows: float


@dataclass(frozen=True, slots=True)
class Throughput:
    """Rows per second in bins of equal width; the last one ends at `end_s`, and may be shorter."""

    start_s: float
    end_s: float
    width_s: float
    rates: tuple[float, ...]


def finished_parts(
    parts: Mapping[int, Sequence[ObjectInfo]], num_rows: Mapping[int, float]
) -> list[Finished]:
    """When the rows of shards were finished.

    Args:
        num_rows: finished rows by shard; a shard that is missing here is left out.
    """
    found: list[Finished] = []
    for shard, files in parts.items():
        num_bytes = sum(file.size_bytes for file in files)
        if shard not in num_rows or num_bytes == 0:
            continue
        found += [
            Finished(file.modified_s, num_rows[shard] * file.size_bytes / num_bytes)
            for file in files
            if file.modified_s is not None
        ]
    return found


def shares(parts: Mapping[int, Sequence[ObjectInfo]], num_rows: int) -> dict[int, float]:
    """`num_rows` of several shards together, divided among them by the bytes of their parts."""
    sizes = {shard: sum(file.size_bytes for file in files) for shard, files in parts.items()}
    total = sum(sizes.values())
    return {shard: num_rows * size / total for shard, size in sizes.items()} if total else {}


def throughput(
    finished: Iterable[Finished], start_s: float | None, end_s: float | None
) -> Throughput | None:
    """The rates from `start_s` (or the first row) to `end_s` (or the last); None without rows."""
    rows = sorted(finished, key=lambda one: one.at_s)
    if not rows:
        return None
    first_s = rows[0].at_s if start_s is None else min(start_s, rows[0].at_s)
    last_s = rows[-1].at_s if end_s is None else max(end_s, rows[-1].at_s)
    span_s = max(last_s - first_s, _WIDTHS_S[0])
    width_s = next((w for w in _WIDTHS_S if span_s <= w * _MAX_BINS), span_s / _MAX_BINS)
    sums = [0.0] * max(1, int(-(-span_s // width_s)))
    for one in rows:
        sums[min(int((one.at_s - first_s) / width_s), len(sums) - 1)] += one.num_rows
    widths = [width_s] * len(sums)
    widths[-1] = span_s - width_s * (len(sums) - 1)
    if len(sums) > 1 and widths[-1] < width_s / 2:
        # Too short to tell a rate of: a part or none may have been written in it.
        del sums[-1], widths[-1]
    rates = tuple(num / width for num, width in zip(sums, widths, strict=True))
    return Throughput(first_s, first_s + sum(widths), float(width_s), rates)
