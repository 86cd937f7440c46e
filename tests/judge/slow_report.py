"""The report at full size and under an accessibility checker: `make test-report`.

Not collected by `make test`: it fetches axe-core and html-validate from npm (their folder is named
by NEVA_NPM) and a page of ten thousand rows takes a while to invent.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from statistics import median

import pytest
from playwright.sync_api import Browser

from tests.judge.report_pages import page_of_run
from tests.support.browser import serious_violations

NPM = Path(os.environ["NEVA_NPM"])
_LOAD_S = 2.0


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("report")
    for name, num_rows in (("small", 60), ("large", 10_000)):
        (path / f"{name}.html").write_text(page_of_run(num_rows), encoding="utf-8")
    return path


@pytest.fixture
def small(folder: Path) -> Path:
    return folder / "small.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_serious_violation(
    browser: Browser, small: Path, scheme: str, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(small.as_uri())
    assert serious_violations(page, NPM) == []
    page.close()


def test_the_html_is_valid(small: Path, browser: Browser, tmp_path: Path) -> None:
    page = browser.new_page()
    page.goto(small.as_uri())
    shown = tmp_path / "shown.html"  # with the rows that its program put in
    shown.write_text(page.content())
    page.close()
    rules = tmp_path / ".htmlvalidate.json"
    rules.write_text('{"extends": ["html-validate:standard"]}')
    tool = NPM / "node_modules/.bin/html-validate"
    command = [str(tool), "--config", str(rules), str(small), str(shown)]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-4000:]


def test_ten_thousand_rows_load_within_two_seconds(browser: Browser, folder: Path) -> None:
    path = folder / "large.html"
    page = browser.new_page()
    took_s: list[float] = []
    for _ in range(5):
        page.goto(path.as_uri())
        page.wait_for_selector(".row")
        timing = "performance.getEntriesByType('navigation')[0].loadEventEnd"
        took_s.append(page.evaluate(timing) / 1000)
    print(f"report: rows=10000 bytes={path.stat().st_size} load_s={median(took_s):.2f}")
    assert median(took_s) < _LOAD_S
    assert page.locator("#count").inner_text() == "1 to 25 of 10000"
    page.fill("#find", "clips/03333")
    page.wait_for_selector("#count:has-text('1 to 1 of 1, out of 10000')")
    page.close()
