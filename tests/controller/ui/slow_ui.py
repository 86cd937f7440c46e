"""The live view under an accessibility checker, and what it costs: `make test-report`.

Not collected by `make test`: it fetches axe-core and html-validate from npm (their folder is named
by NEVA_NPM) and follows a run for minutes.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from controller.ui.local import LocalRuns
from neva.store import open_store
from tests.controller.ui.moving import MovingRun
from tests.controller.ui.serving import serving
from tests.support.browser import opened, serious_violations

NPM = Path(os.environ["NEVA_NPM"])
_PAGES = {"one run": "?run=kitchen", "the list": "", "no run": "?run=empty"}
_MEASURED_S = 60.0
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("runs")
    run = MovingRun(open_store(str(folder / "kitchen")), 400, every_fails=11)
    list(itertools.islice(run.steps(), 30))
    with serving(LocalRuns([str(folder / name) for name in ("kitchen", "empty")])) as address:
        yield address


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("query", _PAGES.values(), ids=_PAGES.keys())
def test_axe_finds_no_serious_violation(
    browser: Browser, uri: str, query: str, width: int, scheme: str
) -> None:
    page, _ = opened(browser, uri + query, width, scheme)
    assert serious_violations(page, NPM) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


@pytest.mark.parametrize("query", _PAGES.values(), ids=_PAGES.keys())
def test_the_html_is_valid(uri: str, query: str, tmp_path: Path) -> None:
    shown = tmp_path / "shown.html"
    shown.write_bytes(urllib.request.urlopen(uri + query).read())
    rules = tmp_path / ".htmlvalidate.json"
    rules.write_text('{"extends": ["html-validate:standard"]}')
    tool = NPM / "node_modules/.bin/html-validate"
    command = [str(tool), "--config", str(rules), str(shown)]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-4000:]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


def _share(pid: int) -> float:
    """Of a core, over a while."""
    before_s, begun_s = _cpu_s(pid), time.monotonic()
    time.sleep(_MEASURED_S)
    return (_cpu_s(pid) - before_s) / (time.monotonic() - begun_s)


def test_following_ten_thousand_rows_takes_less_than_a_twentieth_of_a_core(
    tmp_path: Path,
) -> None:
    moving = [sys.executable, "-m", "tests.controller.ui.moving", "10000", str(tmp_path), "40"]
    showing = [sys.executable, "-m", "controller", "ui", str(tmp_path), "--port", "0"]
    with (
        subprocess.Popen(moving) as run,
        subprocess.Popen(showing, stdout=subprocess.PIPE, text=True) as ui,
    ):
        try:
            assert ui.stdout is not None
            address = ui.stdout.readline().strip()
            while not (tmp_path / "manifest.json").exists():
                time.sleep(0.2)
            alone = _share(ui.pid)

            def follow() -> None:
                with urllib.request.urlopen(f"{address}events") as events:
                    for _ in events:
                        pass

            for _ in range(3):
                threading.Thread(target=follow, daemon=True).start()
            followed = _share(ui.pid)
            print(f"ui: rows=10000 clients=0 core={alone:.2%} clients=3 core={followed:.2%}")
            assert run.poll() is None, "it moved to the end"
            assert followed < 0.05
            assert alone < 0.005
        finally:
            run.terminate()
            ui.terminate()
