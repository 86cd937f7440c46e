"""A report is written by every run, judged or not, also where the judge's client is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

_IMPORT = """
import importlib, sys
for package in ("openai", "httpx2"):
    sys.modules[package] = None
importlib.import_module(sys.argv[1])
"""


@pytest.mark.parametrize("module", ["judge.report.render", "judge.compare.runs", "judge.table"])
def test_what_only_reads_scores_needs_no_client(module: str) -> None:
    subprocess.run([sys.executable, "-c", _IMPORT, module], check=True)
