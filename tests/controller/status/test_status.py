"""What `neva status` says of a run in any state, from its ledger alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import orjson
import pytest
import yaml
from typer.testing import CliRunner

from controller.status.cli import status_app
from controller.status.facts import Facts, look
from controller.status.run_status import SILENT_S, RunPhase, as_dict, run_status
from controller.status.words import lines
from controller.summary import FAILED, SUCCEEDED, write_summary
from neva.errors import ConfigError
from neva.ledger import Commit, Ledger, layout
from neva.ledger.control import Beat, Control, Order, this_runner
from neva.ledger.snapshot import Snapshot
from neva.rate import duration
from neva.store import Store, open_store
from tests.controller.runs import SUMMARY, MadeRun


def phase(run: MadeRun) -> RunPhase:
    return run_status(look(run.ledger)).phase


def test_a_run_at_work_is_counted_row_by_row(store: Store) -> None:
    run = MadeRun(store)
    run.commit(0, failed="MediaUnreadable")
    run.claim(1)
    run.part(1, [0])
    run.part(1, [2], failed="MediaEmpty")
    status = run_status(look(run.ledger))
    shown = as_dict(status)
    assert shown["phase"] == "Running"
    assert shown["rows"] == {"total": 10, "done": 6, "failed": 3}
    assert shown["shards"] == {"total": 3, "done": 1, "working": 1}
    assert shown["failedByReason"] == {"InvalidJson": 1, "MediaEmpty": 1, "MediaUnreadable": 1}
    assert shown["rowsPerSecond"] > 0
    least_s, most_s = shown["etaSeconds"]
    assert 0 <= least_s <= most_s
    text = "\n".join(lines(status))
    assert "made: Running, 6 of 10 rows done, 3 failed" in text
    assert "1 of 3 committed, 1 in work, 1 open" in text
    assert "last sign of life 0 s ago" in text


def test_a_row_that_two_attempts_wrote_counts_once(store: Store) -> None:
    run = MadeRun(store)
    run.claim(0)
    run.part(0, [0, 1])
    run.claim(0, 2)
    run.part(0, [1, 2], attempt=2)
    assert look(run.ledger).num_done == 1 + 3


def test_a_shard_that_was_given_back_is_open(store: Store) -> None:
    run = MadeRun(store)
    run.claim(0)
    run.release(0)
    facts = look(run.ledger)
    assert facts.num_working == 0


def test_every_phase_of_a_run(store: Store) -> None:
    run = MadeRun(store, judge={"model": "m"})
    run.claim(0)
    assert phase(run) is RunPhase.RUNNING
    Control(store).give(Order.SUSPEND)
    assert phase(run) is RunPhase.SUSPENDED
    Control(store).give(Order.RESUME)
    for shard in (1, 2):
        run.commit(shard)
    ref, rows = run.part(0, [0, 1, 2])
    run.ledger.commit(0, 1, [ref], rows)
    assert phase(run) is RunPhase.FINISHING
    summary = {**SUMMARY, "state": FAILED, "failed_by_reason": {"InvalidJson": 1}}
    write_summary(store, summary)
    assert phase(run) is RunPhase.FAILED
    write_summary(store, {**summary, "state": SUCCEEDED})
    status = run_status(look(run.ledger))
    assert (status.phase, status.judge) == (RunPhase.FINISHING, "after the answers")
    store.put("judge/parts/0001.jsonl", b"")
    assert run_status(look(run.ledger)).judge == "judging"
    store.put(
        layout.SCORES,
        orjson.dumps({"num_judged": 8, "num_questions": 9, "all": {"relative": 87.5}}),
    )
    store.put(layout.SUCCESS, b"")
    status = run_status(look(run.ledger))
    assert (status.phase, status.judge) == (RunPhase.SUCCEEDED, "judged 8 of 9, score 87.5")
    text = "\n".join(lines(status))
    assert "3 of 3 committed\n" in text
    assert f"outputs  {store.uri_of(layout.OUTPUTS)}" in text
    assert f"report   {store.uri_of(layout.REPORT)}" in text
    assert "neva retry" in status.advice, "a row failed"


def test_a_cancelled_run_says_where_its_rows_are(store: Store) -> None:
    run = MadeRun(store)
    Control(store).give(Order.CANCEL)
    status = run_status(look(run.ledger))
    assert status.phase is RunPhase.CANCELLED
    assert "partial.jsonl" in status.advice


def test_silence_is_told_by_the_stores_own_clock(store: Store) -> None:
    run = MadeRun(store)
    run.claim(0)
    facts = look(run.ledger)
    assert facts.now_s is not None
    assert facts.last_write_s is not None
    late = dataclasses.replace(facts, now_s=facts.last_write_s + 720)
    status = run_status(late)
    assert status.phase is RunPhase.INTERRUPTED
    text = "\n".join(lines(status))
    assert "Interrupted?" in text, "nobody can know"
    assert "nobody has written for 12 min" in text
    assert "`neva run`" in text and "`neva evaluate`" in text
    soon = dataclasses.replace(facts, now_s=facts.last_write_s + SILENT_S - 1)
    assert run_status(soon).phase is RunPhase.RUNNING
    unknown = dataclasses.replace(facts, now_s=None)
    assert run_status(unknown).phase is RunPhase.RUNNING
    assert run_status(unknown).silent_s is None


def test_a_runner_that_said_goodbye_is_known_to_be_gone(store: Store) -> None:
    run = MadeRun(store)
    run.claim(0)
    control = Control(store)
    control.take(1, this_runner())
    control.beat(1, Beat(1, ended=False))
    assert phase(run) is RunPhase.RUNNING
    control.beat(1, Beat(2, ended=True))
    status = run_status(look(run.ledger))
    assert status.phase is RunPhase.INTERRUPTED
    text = "\n".join(lines(status))
    assert "Interrupted," in text, "no question mark"
    assert f"{this_runner().words} is gone; the last write was" in text
    assert "`neva logs" in text


def test_before_the_manifest_it_is_preparing_or_was_refused(store: Store) -> None:
    ledger = Ledger(store)
    with pytest.raises(ConfigError, match="no run there"):
        look(ledger)
    Control(store).take(1, this_runner())
    assert run_status(look(ledger)).phase is RunPhase.PREPARING
    store.put(layout.ERRORS, b"")
    status = run_status(look(ledger))
    assert status.phase is RunPhase.FAILED
    assert "too many rows are bad" in status.advice


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (720, "12 min"), (12_000, "3 h 20 min")],
)
def test_durations_are_short(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_the_command_prints_text_json_and_yaml(tmp_path: Path) -> None:
    run = MadeRun(open_store(str(tmp_path)))
    run.commit(0)
    invoke = lambda *arguments: CliRunner().invoke(status_app, [str(tmp_path), *arguments])  # noqa: E731
    assert invoke().output.startswith("made: Running, 4 of 10 rows done, 1 failed\n")
    assert orjson.loads(invoke("-o", "json").output)["rows"]["done"] == 4
    assert yaml.safe_load(invoke("-o", "yaml").output)["rows"]["done"] == 4


def test_watching_in_a_pipe_prints_what_changed_and_ends_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(tmp_path))
    run = MadeRun(store)
    looks: list[int] = []

    def look_and_go_on(ledger: Ledger) -> Facts:
        looks.append(1)
        if len(looks) == 4:
            write_summary(store, SUMMARY)
            store.put(layout.SUCCESS, b"")
        return look(ledger)

    run.commit(0)
    monkeypatch.setattr("controller.status.cli.look", look_and_go_on)
    done = CliRunner().invoke(status_app, [str(tmp_path), "-w", "--interval", "0.1"])
    assert done.exit_code == 0
    first, *rest = done.output.splitlines()
    assert first.startswith("made: Running")
    assert rest[0].startswith("made: Succeeded"), "nothing is said twice"


def test_old_commits_are_counted_from_what_a_controller_left(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = MadeRun(store)
    run.commit(0, failed="MediaUnreadable")
    run.commit(1)
    before = look(run.ledger)
    snapshot = Snapshot([(0, 0)], run.ledger.read_commit(0).num_failed, {"MediaUnreadable": 1})
    store.put(layout.PROGRESS, snapshot.to_json())
    read = []
    read_commit = Ledger.read_commit

    def count(ledger: Ledger, number: int) -> Commit:
        read.append(number)
        return read_commit(ledger, number)

    monkeypatch.setattr(Ledger, "read_commit", count)
    after = look(run.ledger)
    assert read == [1]
    for name in ("num_done", "num_failed", "num_committed", "num_working", "failed_by_reason"):
        assert getattr(after, name) == getattr(before, name), name
