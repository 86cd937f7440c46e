"""`neva logs` of a run on this machine."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from controller.local.logs import log_file, run_log
from controller.logs_cli import age_s, logs_app
from neva.errors import ConfigError
from neva.ledger.control import Control, Order, this_runner
from neva.settings import settings
from neva.store import open_store
from tests.controller.runs import MadeRun
from tests.kube.waiting import eventually


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeRun:
    monkeypatch.setenv("NEVA_CACHE_DIR", str(tmp_path / "cache"))
    settings.cache_clear()
    run = MadeRun(open_store(str(tmp_path / "out")))
    log_file("run").parent.mkdir(parents=True)
    return run


@pytest.fixture(autouse=True)
def _settings_again() -> None:
    settings.cache_clear()


def logs(tmp_path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(logs_app, [str(tmp_path / "out"), *arguments])


def line(event: str, age: timedelta) -> str:
    return f'{{"event": "{event}", "timestamp": "{(datetime.now(UTC) - age).isoformat()}"}}\n'


def test_what_the_workers_wrote_is_printed(tmp_path: Path, run: MadeRun) -> None:
    old, new = line("old", timedelta(hours=2)), line("new", timedelta(seconds=1))
    log_file("run").write_text(f"{old}a traceback\n{new}its traceback\n")
    assert logs(tmp_path).output == f"{old}a traceback\n{new}its traceback\n"
    assert logs(tmp_path, "--since", "10m").output == f"{new}its traceback\n"
    assert logs(tmp_path, "--tail", "1").output == "its traceback\n"


def test_following_ends_with_the_run(tmp_path: Path, run: MadeRun) -> None:
    log_file("run").write_text("one\n")
    run.claim(0)
    seen: list[str] = []
    out = str(tmp_path / "out")
    thread = threading.Thread(target=_collect, args=(out, seen), daemon=True)
    thread.start()
    eventually(lambda: seen == ["one"], "the first line", 60)
    with log_file("run").open("a") as file:
        file.write("two\nhal")
        file.flush()
        eventually(lambda: seen == ["one", "two"], "the second line", 60)
        file.write("f\n")
    Control(run.ledger.store).give(Order.CANCEL)
    thread.join(60)
    assert not thread.is_alive()
    assert seen == ["one", "two", "half"]


def _collect(out: str, seen: list[str]) -> None:
    for text in run_log(out, follow=True):
        seen.append(text)


def test_a_run_of_another_machine_is_named_with_it(tmp_path: Path, run: MadeRun) -> None:
    me = this_runner()
    Control(run.ledger.store).take(1, me)
    done = logs(tmp_path)
    assert done.exit_code == 2
    assert f"no log of this run on this machine; it ran as {me.words}" in done.output


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("90", 90), ("15m", 900), ("1d12h", 129_600), ("1h30m", 5400)],
)
def test_ages_are_read_as_kubectl_reads_them(text: str, seconds: float) -> None:
    assert age_s(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5x", "m5"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--since"):
        age_s(text)
