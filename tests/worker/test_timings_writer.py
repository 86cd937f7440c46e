from __future__ import annotations

import threading

import pytest
from structlog.testing import capture_logs

from neva.store import StoreUnavailable
from neva.timings import read_timings
from tests.fakes.memory_store import MemoryStore
from worker.timings_writer import TimingsWriter

_LIMIT_S = 30.0


class WatchedStore(MemoryStore):
    """Tells each write, and may hold it."""

    def __init__(self) -> None:
        super().__init__()
        self.num_writes = 0
        self.began, self.may_go_on = threading.Semaphore(0), threading.Semaphore(0)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        self.num_writes += 1
        self.began.release()
        assert self.may_go_on.acquire(timeout=_LIMIT_S)
        return super().put(key, data, if_absent=if_absent)


def test_no_shard_waits_and_many_are_written_together_to_the_last() -> None:
    store, seconds = WatchedStore(), {"engine": 0.0}
    writer = TimingsWriter(store, "me", lambda: dict(seconds), interval_s=0.0)
    writer.shard_ended()
    assert store.began.acquire(timeout=_LIMIT_S)
    for number in range(1, 6):
        seconds["engine"] = float(number)
        writer.shard_ended()
    store.may_go_on.release(9)
    writer.close()
    assert read_timings(store) == {"engine": 5.0}
    assert 2 <= store.num_writes <= 3


def test_a_close_is_not_kept_waiting_and_writes_what_is_due() -> None:
    store = WatchedStore()
    store.may_go_on.release(9)
    writer = TimingsWriter(store, "me", lambda: {"engine": 1.0}, interval_s=3600.0)
    writer.shard_ended()
    assert store.began.acquire(timeout=_LIMIT_S)
    writer.shard_ended()
    writer.close()
    assert read_timings(store) == {"engine": 1.0}


def test_who_never_worked_writes_nothing() -> None:
    store = MemoryStore()
    TimingsWriter(store, "me", lambda: {"engine": 1.0}).close()
    assert read_timings(store) == {}


def test_a_store_that_fails_costs_the_timings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise StoreUnavailable("away")

    store = MemoryStore()
    monkeypatch.setattr(store, "put", fail)
    writer = TimingsWriter(store, "me", lambda: {"engine": 1.0}, interval_s=0.0)
    with capture_logs() as logs:
        writer.shard_ended()
        writer.close()
    assert logs[0]["error"] == "away"
