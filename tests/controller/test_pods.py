"""What the CPU pods of a cluster do with orders in the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.exits import EXIT_OK, EXIT_ROWS_FAILED
from controller.pods import finish_job, prepare_job
from neva.errors import ConfigError
from neva.job_file import load_job
from neva.ledger import Ledger
from neva.ledger.control import Control, Order
from neva.pod import read_last_words
from neva.reasons import Reason
from neva.settings import settings
from neva.store import open_store
from tests.controller.work import Work


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    monkeypatch.setattr("controller.finish._write_report", lambda uri: None)
    return Work(tmp_path)


def test_a_cancelled_run_is_neither_prepared_nor_finished(work: Work) -> None:
    job = load_job(work.folder / "job.yaml")
    Control(open_store(work.out)).give(Order.CANCEL)
    with pytest.raises(ConfigError, match="was cancelled") as refused:
        prepare_job(job)
    assert refused.value.reason is Reason.CANCELLED
    assert Ledger(open_store(work.out)).read_manifest() is None


def test_a_run_cancelled_at_work_is_not_finished(work: Work) -> None:
    job = load_job(work.folder / "job.yaml")
    assert prepare_job(job) == EXIT_OK
    Control(open_store(work.out)).give(Order.CANCEL)
    with pytest.raises(ConfigError, match="was cancelled"):
        finish_job(job)


def test_a_suspended_run_has_no_workers_but_its_pods_do_what_is_left(work: Work) -> None:
    job = load_job(work.folder / "job.yaml")
    Control(open_store(work.out)).give(Order.SUSPEND)
    assert prepare_job(job) == EXIT_OK
    ledger = Ledger(open_store(work.out))
    manifest = ledger.read_manifest()
    assert manifest is not None
    work.answer(ledger, manifest, lambda row: "yes")
    assert finish_job(job) == EXIT_OK


def test_a_finished_run_stays_finished_though_somebody_cancelled_it_too_late(work: Work) -> None:
    job = load_job(work.folder / "job.yaml")
    work.run(job, lambda row: "yes")
    Control(open_store(work.out)).give(Order.CANCEL)
    assert finish_job(job) == EXIT_OK


def test_too_many_failed_rows_are_the_finish_pods_last_words(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = work.folder / "last-words"
    monkeypatch.setenv("NEVA_TERMINATION_LOG", str(words))
    settings.cache_clear()
    job = work.write_job({"failOnError": 0.5})
    assert prepare_job(job) == EXIT_OK
    ledger = Ledger(open_store(work.out))
    manifest = ledger.read_manifest()
    assert manifest is not None
    work.answer(ledger, manifest, lambda row: None)
    try:
        assert finish_job(job) == EXIT_ROWS_FAILED
    finally:
        settings.cache_clear()
    reason, message = read_last_words(words.read_text())
    assert reason is Reason.TOO_MANY_FAILED_ROWS
    assert "MediaUnreadable" in message
