"""The live view in a real browser, while a job moves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from controller.summary import write_summary
from controller.ui.local import LocalRuns
from neva.ledger import layout
from neva.store import open_store
from tests.controller.runs import SUMMARY
from tests.controller.ui.moving import HOSTILE, MovingRun
from tests.controller.ui.serving import serving
from tests.judge.report_pages import page_of_run
from tests.support.browser import needs_chromium, opened

pytestmark = needs_chromium


class Moving:
    """A run that goes on when it is told to, and where it is shown."""

    def __init__(self, folder: Path) -> None:
        self.store = open_store(str(folder))
        self._steps = MovingRun(self.store, 200, rows_a_shard=32, every_fails=11).steps()
        self.uri = ""

    def go_on(self, num_parts: int) -> None:
        list(itertools.islice(self._steps, num_parts))


@pytest.fixture(scope="module")
def report() -> bytes:
    return page_of_run(6).encode()


@pytest.fixture
def moving(report: bytes, tmp_path: Path) -> Iterator[Moving]:
    run = Moving(tmp_path / "kitchen")
    run.go_on(2)
    with serving(LocalRuns([run.store.base_uri])) as uri:
        run.uri = uri
        yield run


def answered(page: Page) -> int:
    text = page.locator(".counts div:has(dt:text-is('answered')) dd").inner_text()
    return int(text.replace(",", ""))


@pytest.fixture(scope="module", autouse=True)
def _before_the_browser(report: bytes) -> None:
    """Rendering a report runs a loop of its own."""


def test_a_page_fills_while_its_job_moves_and_keeps_what_is_being_read(
    browser: Browser, moving: Moving
) -> None:
    page, complaints = opened(browser, moving.uri)
    page.wait_for_selector("#feed:has-text('live')")
    before = answered(page)
    shut = page.locator("details:not([open])").first.get_attribute("data-key")
    page.locator(f"details[data-key='{shut}'] summary").click()
    page.keyboard.press("j")
    reading = page.evaluate("document.activeElement.dataset.key")
    assert reading

    moving.go_on(3)
    after = before + 24 - 2  # two of these rows fail
    page.wait_for_selector(f".counts div:has(dt:text-is('answered')) dd:text-is('{after}')")
    assert page.locator(f"details[data-key='{shut}'][open]").count() == 1
    newest = page.locator(".row").first.get_attribute("data-key")
    assert newest != reading
    assert page.locator(".strip img").first.evaluate("image => image.naturalWidth") == 576

    # what hostile answers and messages say is read, not done
    assert HOSTILE in page.locator("#s-failures").inner_text() + page.locator("main").inner_text()
    assert page.locator("main script, main [onerror]").count() == 0
    assert complaints == []

    page.keyboard.press("p")
    page.wait_for_selector("#feed:has-text('paused')")
    paused = page.locator("main").inner_html()
    moving.go_on(3)
    while f"<dd>{after + 22}</dd>" not in page.request.get(moving.uri).text():
        pass  # until the server has seen it
    assert page.locator("main").inner_html() == paused
    page.keyboard.press("p")
    page.wait_for_function(
        f"document.querySelector('.row').dataset.key != '{newest}'", timeout=60_000
    )

    page.set_viewport_size({"width": 375, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.close()


def test_a_report_opens_and_works_from_the_page(
    browser: Browser, moving: Moving, report: bytes
) -> None:
    moving.store.put(layout.REPORT, report)
    write_summary(moving.store, SUMMARY)
    page, complaints = opened(browser, moving.uri)
    page.locator("text=Open the report").click()
    page.wait_for_selector("#count:has-text('of 6')")
    page.fill("#find", "no such words")
    page.wait_for_selector("#count:has-text('nothing matches')")
    # it runs in an origin of its own: nothing of the live view is within its reach
    assert page.evaluate("self.origin") == "null"
    assert complaints == []
    page.close()
