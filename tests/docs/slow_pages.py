"""The built documentation in a browser, under an accessibility checker: `make test-docs-pages`.

Not collected by `make test`: axe-core comes from npm; NEVA_NPM names its folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.chart.rendering import REPOSITORY
from tests.support.browser import opened, serious_violations

NPM = Path(os.environ["NEVA_NPM"])
_DOCS = REPOSITORY / "docs"
_PAGES = sorted(
    "" if path.name == "index.md" else f"{path.relative_to(_DOCS).with_suffix('')}/"
    for path in _DOCS.rglob("*.md")
)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Pages that are read are no news."""


@pytest.fixture(scope="module", autouse=True)
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the site as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    subprocess.run([*command, str(folder)], cwd=REPOSITORY, env=environment, check=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("path", _PAGES)
def test_axe_finds_no_serious_violation_and_nothing_is_cut_off(
    browser: Browser, site: str, path: str, width: int, scheme: str
) -> None:
    page, complaints = opened(browser, site + path, width, scheme)
    try:
        assert page.locator("body").get_attribute("data-md-color-scheme") == (
            "slate" if scheme == "dark" else "default"
        )
        assert serious_violations(page, NPM) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert complaints == []
    finally:
        page.close()
