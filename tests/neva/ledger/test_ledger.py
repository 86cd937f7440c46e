"""The ledger on every kind of store: real folders and a real S3 protocol."""

from __future__ import annotations

import dataclasses

import orjson
import pytest

from neva.ledger import (
    Claim,
    FinishedRow,
    Ledger,
    LedgerCorrupt,
    Manifest,
    Release,
    ShardRow,
    layout,
    select_rows,
)
from neva.reasons import Reason
from neva.store import Store

ROWS = [
    ShardRow(0, 1, "7", "What?", "a.mp4", {"question_id": 7, "text": "What?", "video": "a.mp4"}),
    ShardRow(2, 4, "8", "Where?", "a.mp4", {"text": "Where?", "question_id": 8, "video": "a.mp4"}),
]


def finished(row: ShardRow, words: str = "x", attempt: int = 1) -> FinishedRow:
    output = {**row.record, "response": words, "attempt": attempt}
    return FinishedRow(row.seq, row.row_id, output, None)


def manifest(run_id: str, ledger: Ledger) -> Manifest:
    plans = [ledger.write_shard(0, ROWS)]
    return Manifest(run_id, {}, "a", "m", "p", 2, 0, "r", plans)


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store)


def test_a_manifest_is_written_once_and_the_loser_gets_the_winners(ledger: Ledger) -> None:
    first = manifest("one", ledger)
    assert ledger.read_manifest() is None
    assert ledger.write_manifest(first) == first
    assert ledger.write_manifest(manifest("two", ledger)) == first
    assert ledger.read_manifest() == first


def test_a_shards_rows_come_back_with_their_keys_in_order(ledger: Ledger) -> None:
    rows = ledger.read_shard(ledger.write_shard(0, ROWS))
    assert rows == ROWS
    assert list(rows[1].record) == ["text", "question_id", "video"]


def test_an_overwritten_shard_is_noticed(ledger: Ledger) -> None:
    plan = ledger.write_shard(0, ROWS)
    ledger.store.put(layout.inputs(plan.pack), b"junk")
    with pytest.raises(LedgerCorrupt, match=r"inputs/00000-.*\.jsonl was overwritten") as noticed:
        ledger.read_shard(plan)
    assert noticed.value.reason is Reason.LEDGER_CORRUPT


def test_an_attempt_number_has_one_owner_even_among_children_of_one_worker(ledger: Ledger) -> None:
    assert ledger.claim(0, Claim(1, "me", "a", ["7", "8"]))
    assert not ledger.claim(0, Claim(1, "me", "b", ["7", "8"]))
    assert ledger.claim(0, Claim(1, "me", "a", ["7", "8"])), "a repeated PUT recognises itself"


def test_the_next_attempt_sees_what_earlier_ones_finished(ledger: Ledger) -> None:
    ledger.claim(0, Claim(1, "me", "a", ["7", "8"]))
    ledger.write_part(0, 1, 1, [finished(ROWS[1])])
    ledger.claim(0, Claim(2, "me", "c", ["7"]))
    ledger.release(0, 2, Release("Drained", "draining", counts=False))
    past = ledger.past_attempts(0, ledger.shard_state(0))
    assert [(a.number, a.row_ids, a.finished, a.counts) for a in past] == [
        (1, ("7", "8"), frozenset({"8"}), True),
        (2, ("7",), frozenset(), False),
    ]


def test_a_shard_is_committed_once_and_read_back_in_input_order(ledger: Ledger) -> None:
    plan = ledger.write_shard(0, ROWS)
    ledger.claim(0, Claim(1, "me", "a", ["7", "8"]))
    rows = [finished(ROWS[1]), finished(ROWS[0])]
    part = ledger.write_part(0, 1, 1, rows)
    assert not ledger.shard_state(0).committed
    assert ledger.commit(0, 1, [part], rows)
    assert not ledger.commit(0, 2, [], []), "the second one is told that it lost"
    assert ledger.shard_state(0).committed
    assert ledger.committed_shards() == {0}
    assert [row.row_id for row in ledger.committed_rows(plan)] == ["7", "8"]


def test_a_listing_that_lacks_what_was_written_last_hides_nothing(
    ledger: Ledger, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.claim(0, Claim(1, "me", "a", ["7", "8"]))
    ref = ledger.write_part(0, 1, 1, [finished(ROWS[1])])
    ledger.release(0, 1, Release("Drained", "draining", counts=False))
    monkeypatch.setattr(type(store), "list", lambda *_, **__: iter(()))
    (past,) = ledger.past_attempts(0, ledger.shard_state(0))
    assert (past.finished, past.counts) == (frozenset({"8"}), False)
    assert ledger.parts_before(0, 1) == []
    assert ledger.parts_before(0, 2) == [ref]
    assert not ledger.is_superseded(0, 1)
    ledger.claim(0, Claim(2, "me", "b", ["7"]))
    assert ledger.is_superseded(0, 1)
    assert not ledger.is_superseded(0, 2)
    ledger.commit(0, 2, [], [])
    assert ledger.is_superseded(0, 2)


def test_a_commit_counts_failed_rows(ledger: Ledger) -> None:
    error = FinishedRow(0, "7", None, {"line": 1, "reason": "MediaUnreadable"})
    part = ledger.write_part(0, 1, 1, [error])
    ledger.commit(0, 1, [part], [error])
    commit = ledger.read_commit(0)
    assert (commit.num_rows, commit.num_failed) == (1, 1)


def test_a_row_that_two_attempts_finished_counts_once_the_first_written_wins() -> None:
    rows = [finished(ROWS[0], "one", 1), finished(ROWS[0], "two", 2), finished(ROWS[1])]
    selected = select_rows(rows, ["7"])
    assert list(selected) == ["7"]
    assert selected["7"].output is not None
    assert selected["7"].output["response"] == "one"


def test_a_commit_without_all_rows_of_the_manifest_is_corrupt(ledger: Ledger) -> None:
    plan = ledger.write_shard(0, ROWS)
    part = ledger.write_part(0, 1, 1, [finished(ROWS[0])])
    ledger.commit(0, 1, [part], [finished(ROWS[0])])
    with pytest.raises(LedgerCorrupt, match="no answer for 1 rows: \\['8'\\]"):
        ledger.committed_rows(plan)


@pytest.mark.parametrize(
    "row",
    [
        FinishedRow(3, "8", {}, None),  # right id, wrong place in the output
        FinishedRow(3, "9", {}, None),  # nobody asked for it
    ],
)
def test_rows_that_the_manifest_did_not_fix_are_corrupt(ledger: Ledger, row: FinishedRow) -> None:
    plan = ledger.write_shard(0, ROWS)
    rows = [finished(ROWS[0]), finished(ROWS[1]) if row.row_id == "9" else row]
    rows += [row] if row.row_id == "9" else []
    part = ledger.write_part(0, 1, 1, rows)
    ledger.commit(0, 1, [part], rows)
    with pytest.raises(LedgerCorrupt, match=r"not those that manifest\.json fixed"):
        ledger.committed_rows(plan)


def test_a_manifest_does_not_grow_with_the_length_of_row_ids(ledger: Ledger) -> None:
    rows = [ShardRow(n, n + 1, f"{n}" * 1000, "?", "a.mp4", {}) for n in range(64)]
    plan = ledger.write_shard(0, rows)
    assert plan.num_rows == 64
    assert len(plan.to_json()) < 250


def test_parts_that_changed_after_the_commit_are_corrupt(ledger: Ledger, store: Store) -> None:
    plan = ledger.write_shard(0, ROWS)
    rows = [finished(row) for row in ROWS]
    part = ledger.write_part(0, 1, 1, rows)
    ledger.commit(0, 1, [part], rows)
    changed = [dataclasses.replace(rows[0], output={"response": "other"}), rows[1]]
    store.put(part.key, b"".join(row.to_json() + b"\n" for row in changed))
    with pytest.raises(LedgerCorrupt, match="other rows than were committed"):
        ledger.committed_rows(plan)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"attempt": 1}'])
def test_a_damaged_record_names_its_file(ledger: Ledger, store: Store, data: bytes) -> None:
    store.put(layout.commit(3), data)
    with pytest.raises(LedgerCorrupt, match=r"shards/00003/commit\.json"):
        ledger.read_commit(3)


def test_unknown_keys_of_a_later_version_are_ignored(ledger: Ledger, store: Store) -> None:
    ledger.claim(0, Claim(1, "me", "a", ["7"]))
    key = layout.claim(0, 1)
    store.put(key, orjson.dumps({**orjson.loads(store.get(key)), "host": "later"}))
    assert ledger.past_attempts(0, ledger.shard_state(0))[0].row_ids == ("7",)


def test_the_first_calibration_holds_for_all(ledger: Ledger) -> None:
    assert ledger.read_calibration() is None
    assert ledger.fix_calibration(b"one") == b"one"
    assert ledger.fix_calibration(b"other") == b"one"
    assert ledger.read_calibration() == b"one"
