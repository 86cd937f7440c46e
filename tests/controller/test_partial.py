"""What a cancelled run leaves."""

from __future__ import annotations

import orjson
import pytest

from controller.partial import export_partial
from controller.summary import read_summary
from neva.ledger import layout
from neva.store import Store
from tests.controller.runs import MadeRun


def ids(store: Store, key: str) -> list[object]:
    return [orjson.loads(line)["question_id"] for line in store.get(key).splitlines()]


def test_finished_rows_of_open_and_committed_shards_are_readable_in_input_order(
    store: Store,
) -> None:
    run = MadeRun(store)
    run.commit(2, failed="MediaUnreadable")
    run.claim(0)
    run.part(0, [1])
    run.claim(0, 2)
    run.part(0, [0, 1], attempt=2)
    partial = export_partial(run.ledger, run.manifest)
    assert ids(store, layout.PARTIAL) == ["q1", "q2", "q7", "q8"]
    attempts = [orjson.loads(line)["attempt"] for line in store.get(layout.PARTIAL).splitlines()]
    assert attempts == [2, 1, 1, 1], "the first answer to a row holds"
    assert ids(store, layout.ERRORS) == [None, "q9"]
    assert partial.failed_by_reason == {"InvalidJson": 1, "MediaUnreadable": 1}
    summary = read_summary(store)
    assert summary is not None
    assert (summary["state"], summary["rows"], summary["answered"]) == ("Cancelled", 10, 4)
    assert store.head(layout.OUTPUTS) is None
    assert store.head(layout.SUCCESS) is None


def test_rows_that_a_draining_worker_still_writes_are_waited_for(store: Store) -> None:
    run = MadeRun(store)
    run.claim(0)
    run.part(0, [0, 1])
    naps: list[float] = []

    def drain(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 2:
            run.part(0, [2])
            run.release(0)

    partial = export_partial(
        run.ledger, run.manifest, patience_s=60, clock=lambda: float(len(naps)), sleep=drain
    )
    assert partial.num_answered == 3
    assert len(naps) == 2, "its goodbye ends the waiting"


def test_a_worker_that_was_killed_is_waited_for_no_longer_than_told(store: Store) -> None:
    run = MadeRun(store)
    run.claim(0)
    naps: list[float] = []
    export_partial(
        run.ledger, run.manifest, patience_s=5, clock=lambda: float(len(naps)), sleep=naps.append
    )
    assert len(naps) == 5


def test_a_tampered_commit_is_no_partial_answer(store: Store) -> None:
    run = MadeRun(store)
    run.commit(0)
    store.put(layout.part(0, 1, 1), b"")
    with pytest.raises(Exception, match="shards/00000"):
        export_partial(run.ledger, run.manifest)
