"""`-o json|yaml`: stdout holds the one document, and nothing else; progress is on stderr.

Commands on a cluster are in tests/controller/cluster; the judge's and the worker's beside them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from controller.cli import app
from controller.exits import EXIT_OK, EXIT_ROWS_FAILED, EXIT_STOPPED
from controller.local.logs import log_file
from neva.job_file import load_job
from neva.ledger import layout
from neva.settings import settings
from neva.store import open_store
from tests.controller.runs import MadeRun
from tests.controller.work import Work


def neva(*arguments: str, code: int = EXIT_OK) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


def document(*arguments: str, code: int = EXIT_OK) -> dict[str, Any]:
    """What a program gets; the same in both formats."""
    return dict(json.loads(neva(*arguments, "-o", "json", code=code).stdout))


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    # The report is a process of its own, and not what is tested here.
    monkeypatch.setattr("controller.finish._write_report", lambda uri: None)
    return Work(tmp_path)


def test_a_run_is_told_as_its_status_is(work: Work) -> None:
    path = work.folder / "job.yaml"
    work.run(load_job(path), lambda row: None if row.record["question_id"] == 2 else "yes")
    told = neva("run", str(path), "-o", "yaml")
    data = yaml.safe_load(told.stdout)
    shown = document("status", work.out)
    for one in (data, shown):
        assert one.pop("silentSeconds") >= 0
    assert data == shown
    assert (data["phase"], data["rows"]["failed"]) == ("Succeeded", 3)
    assert data["files"] == {
        name: f"file://{work.out}/{file}"
        for name, file in (
            ("outputs", layout.OUTPUTS),
            ("errors", layout.ERRORS),
            ("report", layout.REPORT),
        )
    }
    assert "is finished; nothing was changed" in told.stderr


def test_a_run_that_is_refused_or_stopped_is_a_document_too(work: Work) -> None:
    work.write_job({"failOnError": True})
    path = str(work.folder / "job.yaml")
    refused = document("run", path, code=EXIT_ROWS_FAILED)
    assert refused["phase"] == "Failed"
    assert refused["files"] == {"errors": f"file://{work.out}/{layout.ERRORS}"}
    work.write_job({"failOnError": False})
    document("cancel", work.out)
    stopped = document("run", path, code=EXIT_STOPPED)
    assert stopped["phase"] == "Cancelled"


def test_a_wrong_job_leaves_stdout_empty(tmp_path: Path) -> None:
    told = neva("run", str(tmp_path / "none.yaml"), "-o", "json", code=2)
    assert told.stdout == "" and "can't be read" in told.stderr


def test_a_retry_is_told_with_what_it_asks(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    base = load_job(work.folder / "job.yaml")
    work.run(base, lambda row: None if row.record["question_id"] == 2 else "yes")

    def run_job(path: Path) -> int:
        work.run(load_job(path), lambda row: "yes")
        return EXIT_OK

    monkeypatch.setattr("controller.retry.cli.run_job", run_job)
    data = document("retry", work.out)
    assert (data["retry"], data["failedRows"], data["goesOn"]) == (1, 3, False)
    assert data["output"] == f"file://{work.out}/retries/1/"
    assert (data["phase"], data["rows"]["failed"]) == ("Succeeded", 2)
    assert data["files"]["outputs"] == f"{data['output']}{layout.OUTPUTS}"


def test_a_retry_of_nothing_is_a_document(work: Work) -> None:
    path = work.folder / "prompts.jsonl"
    good = [line for line in path.read_text().splitlines() if '"video": "1.mp4"' in line]
    path.write_text("\n".join(good) + "\n")
    work.run(load_job(work.folder / "job.yaml"), lambda row: "yes")
    assert document("retry", work.out) == {"retry": None, "failedRows": 0}


def test_orders_are_told_with_what_they_changed(tmp_path: Path) -> None:
    run = MadeRun(open_store(str(tmp_path)))
    run.commit(0, failed="MediaEmpty")
    out, uri = str(tmp_path), run.ledger.store.base_uri
    first = document("suspend", out)
    assert (first["order"], first["target"], first["changed"]) == ("suspend", uri, True)
    assert "its workers stop within seconds" in first["message"]
    assert document("suspend", out)["changed"] is False
    assert document("resume", out)["order"] == "resume"
    told = neva("cancel", out, "--no-wait", "-o", "yaml")
    data = yaml.safe_load(told.stdout)
    assert (data["order"], data["changed"]) == ("cancel", True)
    assert data["rows"] == {"total": 10, "done": 4, "failed": 2}
    assert data["failedByReason"] == {"InvalidJson": 1, "MediaEmpty": 1}
    assert data["files"]["partial"] == f"{uri}{layout.PARTIAL}"
    assert "is cancelled" in told.stderr
    assert document("status", out)["files"] == data["files"]


def test_each_line_of_a_log_is_a_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEVA_CACHE_DIR", str(tmp_path / "cache"))
    settings.cache_clear()
    run = MadeRun(open_store(str(tmp_path / "out")))
    file = log_file(run.manifest.run_id)
    file.parent.mkdir(parents=True)
    file.write_text('{"event": "one"}\ntwo: words\n')
    out = str(tmp_path / "out")
    lines = [{"line": '{"event": "one"}'}, {"line": "two: words"}]
    try:
        assert [json.loads(x) for x in neva("logs", out, "-o", "json").stdout.splitlines()] == lines
        assert list(yaml.safe_load_all(neva("logs", out, "-o", "yaml").stdout)) == lines
    finally:
        settings.cache_clear()
