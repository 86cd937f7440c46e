"""The report in a real browser: its own policy lets it look as it should, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from judge.report.data import load_report
from judge.report.render import render_report
from tests.judge.test_report import HOSTILE, finished_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Chromium's own sandbox does not start for root, as in most containers.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    page = render_report(load_report(finished_run(answer=HOSTILE + "x" * 300)))
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


def opened(browser: Browser, uri: str, width: int, scheme: str) -> tuple[Page, list[str]]:
    """The page, and what the browser complained about."""
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda r: complaints.append(r.url) if r.url.startswith("http") else None)
    page.goto(uri)
    return page, complaints


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_the_screen_and_the_browser_has_no_complaint(
    browser: Browser, report_uri: str, width: int
) -> None:
    page, complaints = opened(browser, report_uri, width, "light")
    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelector('.strip img').naturalWidth") == 64
    assert page.evaluate("getComputedStyle(document.querySelector('.counts')).display") == "flex"
    page.close()


def test_a_hostile_answer_is_seen_as_text(browser: Browser, report_uri: str) -> None:
    page, complaints = opened(browser, report_uri, 1280, "light")
    answer = page.locator(".answer.side-2 .text").first
    assert "<img src=x onerror=alert(1)>" in answer.inner_text()
    assert page.locator("img").count() == 1
    assert complaints == []
    page.close()


def test_dark_is_dark_and_light_is_light(browser: Browser, report_uri: str) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        page, _ = opened(browser, report_uri, 800, scheme)
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness[scheme] = sum(int(part) for part in colour.strip("rgb()").split(","))
        page.close()
    assert brightness["dark"] < 150 < 600 < brightness["light"]
