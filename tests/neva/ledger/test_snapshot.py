"""Looks at a large run that cost what is being worked on, not what is done."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from neva.ledger import FinishedRow, Ledger, layout
from neva.ledger.records import Commit
from neva.ledger.snapshot import SETTLED_AFTER_S, Snapshot, SnapshotWriter, read_snapshot
from neva.store import ObjectInfo, Store, open_store
from tests.fakes.memory_store import MemoryStore


class CountingStore(MemoryStore):
    num_listed = 0

    def _listed(self, info: ObjectInfo) -> ObjectInfo:
        self.num_listed += 1
        return info

    def list(self, prefix: str = "", *, start_after: str = ""):  # type: ignore[no-untyped-def]
        return map(self._listed, super().list(prefix, start_after=start_after))


def commit(ledger: Ledger, shard: int, num_failed: int = 0) -> None:
    error = {"reason": "MediaEmpty"}
    rows = [FinishedRow(n, str(n), None, error) for n in range(num_failed)]
    part = ledger.write_part(shard, 1, 1, rows)
    ledger.commit(shard, 1, [part], rows)


def test_a_look_lists_only_what_is_open() -> None:
    store = CountingStore()
    ledger = Ledger(store)
    for shard in range(1000):
        if shard not in (3, 700):
            commit(ledger, shard)
    opened = {3, 700, *range(1000, 16_000)}
    store.num_listed = 0
    assert ledger.committed_shards(opened) == set()
    # Of shards 700 to 999, and one key behind each range.
    assert store.num_listed <= 300 * 2 + 10
    commit(ledger, 700)
    assert ledger.committed_shards(opened) == {700}


@given(
    done=st.sets(st.integers(0, 400), max_size=30), opened=st.sets(st.integers(0, 400), max_size=30)
)
def test_no_commit_is_overlooked(done: set[int], opened: set[int]) -> None:
    store = MemoryStore()
    for shard in done:
        store.put(layout.commit(shard), b"")
    assert Ledger(store).committed_shards(opened) == done & opened
    assert Ledger(store).committed_shards() == done


def test_a_listing_on_disk_skips_what_it_is_to_start_after(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    for shard in range(6):
        store.put(layout.commit(shard), b"")
        store.put(layout.claim(shard, 1), b"")
    keys = [item.key for item in store.list(layout.SHARDS, start_after=layout.claim(3, 1))]
    assert keys == sorted(
        [layout.commit(3), *(f(n) for n in (4, 5) for f in (layout.commit, _claim))]
    )


def _claim(shard: int) -> str:
    return layout.claim(shard, 1)


def test_more_shards_than_keys_have_order_for_are_listed_whole() -> None:
    store = MemoryStore()
    for shard in (7, 99_999, 100_000):
        store.put(layout.commit(shard), b"")
    assert Ledger(store).committed_shards({7, 99_999, 100_000, 5}) == {7, 99_999, 100_000}


def test_commits_are_written_down_when_they_are_old_but_never_the_latest(store: Store) -> None:
    writer = SnapshotWriter(store)
    done = Commit(1, [], 2, 1, "", {"MediaEmpty": 1})
    for shard in (1, 2, 5, 9):
        writer.add(float(shard), shard, done)
    assert not writer.write_if_due(SETTLED_AFTER_S)
    assert writer.write_if_due(SETTLED_AFTER_S + 5)
    assert not writer.write_if_due(SETTLED_AFTER_S + 5), "nothing new"
    assert read_snapshot(store) == Snapshot([(1, 2), (5, 5)], 3, {"MediaEmpty": 3})
    assert not writer.write_if_due(10 * SETTLED_AFTER_S)
    later = SnapshotWriter(store)
    later.start_from(read_snapshot(store))
    later.add(0, 6, done)
    later.add(1, 7, done)
    assert later.write_if_due(10 * SETTLED_AFTER_S)
    assert read_snapshot(store).numbers() == {1, 2, 5, 6}


def test_a_damaged_snapshot_is_none(store: Store) -> None:
    assert read_snapshot(store) == Snapshot()
    store.put(layout.PROGRESS, b"{")
    assert read_snapshot(store) == Snapshot()


def test_a_commit_tells_why_rows_failed(store: Store) -> None:
    ledger = Ledger(store)
    commit(ledger, 0, num_failed=2)
    assert ledger.read_commit(0).failed_by_reason == {"MediaEmpty": 2}
