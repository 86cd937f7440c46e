"""A sample of `make bench-scale`: what a large run holds in memory hardly grows with its rows."""

from __future__ import annotations

from pathlib import Path

from benchmarks.bench_scale import measure

_FEW, _MANY = 4_000, 40_000
# Buffers that few rows don't fill take 10 to 16; rows as objects, a kilobyte each, 35 more.
_MAX_GROWTH_MIB = 24


def test_ten_times_the_rows_take_hardly_more_memory(tmp_path: Path) -> None:
    found = {}
    for num_rows in (_FEW, _MANY):
        folder = tmp_path / str(num_rows)
        folder.mkdir()
        found[num_rows] = measure(folder, num_rows)
        assert found[num_rows]["answered"] == num_rows
        with (folder / "out" / "outputs.jsonl").open("rb") as file:
            assert sum(1 for _ in file) == num_rows
    for name in ("split_rss_mib", "merge_rss_mib"):
        assert found[_MANY][name] - found[_FEW][name] <= _MAX_GROWTH_MIB, (name, found)
