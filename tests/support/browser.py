"""A real browser for tests of pages, and what it thinks of them.

Playwright's event loop runs in the test's thread as long as the browser is open, so what needs a
loop of its own must be made before: by a fixture of the module's scope that is `autouse`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's own sandbox does not start for root, as in most containers.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(
    browser: Browser, uri: str, width: int = 1280, scheme: str = "light"
) -> tuple[Page, list[str]]:
    """The page, and what the browser complained about, now and later.

    A complaint is, too, that the page asks anybody but the server it came from.
    """
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    own = urlsplit(uri)
    complaints: list[str] = []

    def check_request(url: str) -> None:
        asked = urlsplit(url)
        if asked.scheme.startswith("http") and asked[:2] != own[:2]:
            complaints.append(url)

    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda request: check_request(request.url))
    page.goto(uri)
    return page, complaints


def serious_violations(page: Page, npm: Path) -> list[str]:
    """What axe-core, installed in the folder `npm`, finds serious or critical."""
    # The page's own policy forbids foreign programs, and should: axe comes in past it.
    session = page.context.new_cdp_session(page)
    session.send("Page.setBypassCSP", {"enabled": True})
    page.reload()
    page.add_script_tag(path=npm / "node_modules/axe-core/axe.min.js")
    found = page.evaluate("axe.run()")["violations"]
    return [
        f"{one['impact']} {one['id']}: {[node['html'][:120] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
