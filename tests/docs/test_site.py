"""The site builds with every link leading somewhere, and needs nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.chart.rendering import REPOSITORY

_LOADED = re.compile(r"""<(?:script|img|link|iframe)[^>]*?(?:src|href)=["'](https?:)?//""")
_MARKDOWN_LINK = re.compile(r"\]\(([^)\s#:]+)(?:#[^)\s]*)?\)")
_MAKE_TARGET = re.compile(r"`make ([a-z][a-z0-9-]*)")


def _build(folder: Path, docs: Path | None = None) -> subprocess.CompletedProcess[str]:
    config = REPOSITORY / "mkdocs.yml"
    if docs is not None:
        settings = yaml.safe_load(config.read_text(encoding="utf-8"))
        config = docs.parent / "mkdocs.yml"
        config.write_text(yaml.safe_dump({**settings, "docs_dir": str(docs), "nav": ["index.md"]}))
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]  # --quiet counts no warnings
    return subprocess.run(
        [*command, "--config-file", str(config), "--site-dir", str(folder)],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_link_and_anchor_leads_somewhere_and_every_page_is_listed(tmp_path: Path) -> None:
    built = _build(tmp_path)
    assert built.returncode == 0, built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 20
    loaded = {p.name: found[0] for p in pages if (found := _LOADED.search(p.read_text()))}
    assert loaded == {}, "a page that needs a network"
    assert [page for page in pages if "<image>" in page.read_text()] == [], "words taken as HTML"


@pytest.mark.parametrize("link", ["gone.md", "index.md#gone"])
def test_a_link_or_anchor_that_leads_nowhere_fails_the_build(tmp_path: Path, link: str) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "extra.css").touch()
    (docs / "extra.js").touch()
    (docs / "index.md").write_text(f"# Page\n\n[there]({link})\n")
    built = _build(tmp_path / "site", docs)
    assert built.returncode != 0
    assert link in built.stderr


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_files_that_it_links_to_exist(name: str) -> None:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    linked = [link for link in _MARKDOWN_LINK.findall(text) if not link.startswith("http")]
    assert linked or name != "README.md"
    assert [link for link in linked if not (REPOSITORY / link).exists()] == []


def test_make_targets_that_are_named_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE))
    pages = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"]
    pages += (REPOSITORY / "docs").rglob("*.md")
    named = {t for page in pages for t in _MAKE_TARGET.findall(page.read_text(encoding="utf-8"))}
    assert "test" in named
    assert named - targets == set()
