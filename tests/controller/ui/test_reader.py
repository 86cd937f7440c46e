"""What is read of a run: the newest answers, failures of any age, and when rows were finished."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from controller.ui.failures import NUM_EXAMPLES
from controller.ui.reader import NUM_ANSWERS, RunReader
from neva.errors import ConfigError
from neva.ledger import layout
from neva.ledger.snapshot import Snapshot
from neva.store import open_store
from tests.controller.runs import MadeRun
from tests.controller.ui.moving import MovingRun


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "run")


def test_the_newest_answers_come_first_and_each_once(folder: str) -> None:
    steps = MovingRun(open_store(folder), 100, rows_a_shard=32).steps()
    reader = RunReader(folder)
    list(itertools.islice(steps, 2))
    assert [one.row.seq for one in reader.see().answers] == list(range(16, 16 - NUM_ANSWERS, -1))
    next(steps)
    seen = reader.see()
    assert [one.row.seq for one in seen.answers] == list(range(24, 24 - NUM_ANSWERS, -1))
    assert reader.see().answers == seen.answers
    assert seen.answers[0].frames is not None
    assert open_store(folder).get(seen.answers[0].frames).startswith(b"\xff\xd8\xff")


def test_an_answer_about_a_video_without_frames_has_none(folder: str) -> None:
    run = MadeRun(open_store(folder))
    run.commit(0)
    (answer, *_) = RunReader(folder).see().answers
    assert answer.frames is None


def test_failures_of_refused_open_committed_and_settled_shards_are_found(folder: str) -> None:
    store = open_store(folder)
    run = MadeRun(store, num_shards=4)
    run.commit(0, failed="MediaUnreadable")
    run.commit(1, failed="DecoderCrashed")
    run.claim(2)
    run.part(2, [0], failed="MediaEmpty")
    # A controller has written the first one off, so that a look no longer lists it.
    store.put(layout.PROGRESS, Snapshot([(0, 0)], 1, {"MediaUnreadable": 1}).to_json())
    failures = RunReader(folder).see().failures
    assert {reason: len(lines) for reason, lines in failures.items()} == {
        "InvalidJson": 1,
        "MediaUnreadable": 1,
        "DecoderCrashed": 1,
        "MediaEmpty": 1,
    }


def test_some_examples_of_a_reason_are_enough(folder: str) -> None:
    run = MadeRun(open_store(folder), num_shards=NUM_EXAMPLES + 3)
    for shard in range(NUM_EXAMPLES + 3):
        run.commit(shard, failed="MediaUnreadable")
    reader = RunReader(folder)
    for _ in range(3):
        failures = reader.see().failures
    assert len(failures["MediaUnreadable"]) == NUM_EXAMPLES


def test_every_finished_row_is_in_the_history_also_of_settled_shards(folder: str) -> None:
    store = open_store(folder)
    run = MadeRun(store, num_shards=4)
    for shard in (0, 1):
        run.commit(shard)
    run.claim(2)
    run.part(2, [0, 1])
    store.put(layout.PROGRESS, Snapshot([(0, 0)], 0, {}).to_json())
    reader = RunReader(folder)
    assert sum(one.num_rows for one in reader.see().finished) == pytest.approx(8)
    ref, rows = run.part(2, [2])
    run.ledger.commit(2, 1, [ref], rows)
    assert sum(one.num_rows for one in reader.see().finished) == pytest.approx(9)


def test_a_status_that_is_fresh_enough_costs_no_look(folder: str) -> None:
    run = MadeRun(open_store(folder))
    reader = RunReader(folder)
    before = reader.status(60.0)
    run.commit(0)
    assert reader.status(60.0) is before
    assert reader.status(0.0).facts.num_done > before.facts.num_done


def test_no_run_is_an_error_and_one_that_is_prepared_is_seen(folder: str) -> None:
    with pytest.raises(ConfigError, match="no run there"):
        RunReader(folder).see()
    open_store(folder).put("inputs/00000.jsonl", b"")
    seen = RunReader(folder).see()
    assert seen.status.phase == "Preparing"
    assert seen.answers == ()
