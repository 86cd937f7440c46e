"""`make demo` as a user runs it: S3, broker, two ranks, judge, report."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAST_LINE = re.compile(
    r"demo: answered=72 failed=0 fully_right=(\d\.\d\d) judged=72 seconds=\d+", re.ASCII
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a finished demo, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    environment |= {"PYTHONPATH": str(ROOT), "NEVA_CACHE_DIR": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "demo-run", done.stdout


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_the_last_line_has_its_form_and_nearly_all_is_right(demo: tuple[Path, str]) -> None:
    match = LAST_LINE.fullmatch(demo[1].splitlines()[-1])
    assert match, demo[1]
    assert float(match[1]) >= 0.97


def test_the_judges_table_and_the_stages_are_printed(demo: tuple[Path, str]) -> None:
    printed = demo[1]
    for word in ("all", "complex", "conv", "detail", "stand-in", "validate", "answer", "merge"):
        assert word in printed


def test_all_files_say_the_same_numbers(demo: tuple[Path, str]) -> None:
    output = demo[0] / "output"
    answered = lines(output / "outputs.jsonl")
    summary = json.loads((output / "summary.json").read_bytes())
    scores = json.loads((output / "judge" / "scores.json").read_bytes())
    reviews = lines(output / "judge" / "reviews.jsonl")
    report = (output / "report.html").read_text(encoding="utf-8")
    assert [row["question_id"] for row in answered] == list(range(72))
    assert lines(output / "errors.jsonl") == []
    assert (summary["rows"], summary["answered"], summary["failed"]) == (72, 72, 0)
    assert summary["judge"]["num_judged"] == scores["num_judged"] == 72
    assert len(reviews) == 2 * 72, "both orders"
    for row in answered:
        assert str(row["response"]) in report
    assert report.count("data:image/jpeg") == 24, "the frames of every clip, once each"
    assert "stand-in" in report
    assert (output / "_SUCCESS").exists()
