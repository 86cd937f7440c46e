"""A ledger that somebody else wrote, or spoiled: the page says so in a line, and serves on."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from controller.ui.local import LocalRuns
from controller.ui.looks import jobs_look, run_look
from controller.ui.source import Source
from neva.ledger import layout
from neva.ledger.control import Control, Order
from neva.ledger.snapshot import Snapshot
from neva.store import Store, open_store
from neva.timings import write_timings
from tests.controller.runs import SUMMARY, MadeRun
from tests.support.spoiled import spoiled_forms

_NO_JSON = (b"", b"\xff", b"{", b"[" * 5000)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A run in the middle of everything, so that each of its files is read."""
    store = open_store(str(tmp_path / "kitchen"))
    run = MadeRun(store, num_shards=4, judge={"model": "m"})
    run.commit(0)
    run.commit(1, failed="MediaEmpty")
    run.claim(2)
    run.part(2, [0])
    run.part(2, [1], failed="MediaEmpty")
    store.put(layout.PROGRESS, Snapshot([(0, 0)], 0, {"MediaEmpty": 0}).to_json())
    Control(store).give(Order.SUSPEND)
    write_timings(store, "w-1", {"engine": 1.0})
    store.put(layout.SCORES, orjson.dumps({"num_judged": 1, "all": {"relative": 90.0}}))
    summary = {**SUMMARY, "state": "Failed", "failed_by_reason": {"A": 1}}
    store.put(layout.SUMMARY, orjson.dumps(summary))
    return store


def _pages(source: Source) -> str:
    looks = (run_look(source, "kitchen")(), jobs_look(source, 0.0)())
    return "".join(html for look in looks for html in look.sections.values())


_REJECTED = f"{layout.INPUTS}rejected-"  # its name goes on
_FILES = (
    layout.MANIFEST,
    _REJECTED,
    layout.PROGRESS,
    layout.SUMMARY,
    layout.SCORES,
    layout.commit(1),
    layout.part(1, 1, 2),
    layout.part(2, 1, 1),
    layout.part(2, 1, 2),
    "control/order-0001.json",
    f"{layout.TIMINGS}w-1.json",
)


def test_each_of_these_files_is_read(store: Store) -> None:
    assert all(list(store.list(key)) for key in _FILES)
    assert "kitchen" in _pages(LocalRuns([store.base_uri]))


@pytest.mark.parametrize("name", _FILES)
def test_a_file_that_is_not_as_it_was_written_stops_no_page(store: Store, name: str) -> None:
    (key,) = (item.key for item in store.list(name))
    lines = store.get(key).splitlines()
    spoiled = [orjson.dumps(odd) for odd in spoiled_forms(orjson.loads(lines[0]))]
    for line in (*_NO_JSON, *spoiled):
        store.put(key, b"\n".join([line, *lines[1:]]))
        assert "kitchen" in _pages(LocalRuns([store.base_uri])), line


def test_files_beyond_any_size_are_not_read_and_the_page_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("bounded", "reader"):
        monkeypatch.setattr(f"controller.ui.{module}.MOST_BYTES", 1000)
    whole = _pages(LocalRuns([store.base_uri]))
    assert "q4<" in whole
    assert "are not shown" not in whole
    # Of a shard that is done only some rows are shown, as examples.
    for part in (1, 2):
        store.put(layout.part(1, 1, part), b"[" * 1001)
    shown = _pages(LocalRuns([store.base_uri]))
    assert "Rows of 3 files above" in shown, "two with answers, one shard with failures"
    assert "q4<" not in shown
    # Of a shard at work all rows are counted.
    store.put(layout.part(2, 1, 1), b"[" * 1001)
    refused = _pages(LocalRuns([store.base_uri]))
    assert f"{layout.part(2, 1, 1)} has more than" in refused


def test_a_line_that_never_ends_is_not_taken_into_memory(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neva.ledger.ledger._MOST_LINE_BYTES", 1000)
    (key,) = (item.key for item in store.list(_REJECTED))
    store.put(key, b"[" * 2000)
    assert "longer than any of ours" in _pages(LocalRuns([store.base_uri]))


def test_commits_of_shards_that_the_run_has_not_are_nothing(store: Store) -> None:
    store.put(layout.commit(99), store.get(layout.commit(1)))
    store.put(layout.part(99, 1, 1), store.get(layout.part(1, 1, 1)))
    assert "Nothing more can be shown" not in _pages(LocalRuns([store.base_uri]))
