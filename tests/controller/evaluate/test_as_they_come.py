"""Answers are printed while a run goes on: once each, and in order where that costs little."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from controller.evaluate.as_they_come import AnswersAsTheyCome
from controller.merge import merge
from neva.store import open_store
from tests.controller.runs import MadeRun


class Printed:
    """A run of nine rows behind a refused one, what is printed of it, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.run = MadeRun(open_store(f"{folder}/run/"))
        self.now_s = 0.0
        self.texts: list[str] = []
        self.printer = AnswersAsTheyCome(
            "batch", self.texts.append, patience_s=5.0, clock=lambda: self.now_s
        )

    def after(self, seconds: float) -> list[int]:
        """Places of the prompts whose answers are printed by then, in that order."""
        self.now_s += seconds
        self.printer.look(self.run.ledger, self.run.manifest)
        return self.places

    def at_the_end(self) -> list[int]:
        merge(self.run.ledger, self.run.manifest)
        self.printer.finish(self.run.ledger)
        return self.places

    @property
    def places(self) -> list[int]:
        found = [re.match(r"-+ PROMPT (\d+) of 10 -+\n", text) for text in self.texts]
        return [int(match[1]) for match in found if match]


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Printed:
    def row_with_text(seq: int):  # type: ignore[no-untyped-def]
        row = original(seq)
        row.record["full_text"] = f"text {seq}"
        return row

    original = MadeRun._row
    monkeypatch.setattr(MadeRun, "_row", staticmethod(row_with_text))
    return Printed(tmp_path)


def test_a_flushed_answer_is_printed_before_its_shard_is_done(printed: Printed) -> None:
    assert printed.after(0) == []
    printed.run.claim(0)
    printed.run.part(0, [0, 1])
    assert printed.after(1) == [2, 3]
    assert "text 1\n\nCLEAN RESPONSE: yes\n" in printed.texts[0]
    assert printed.after(1) == [2, 3], "once"


def test_an_answer_waits_for_earlier_ones_but_not_for_long(printed: Printed) -> None:
    printed.run.claim(0)
    printed.run.claim(1)
    printed.run.part(1, [0])
    assert printed.after(0) == []
    printed.run.part(0, [0, 1, 2])
    assert printed.after(1) == [2, 3, 4, 5]
    printed.run.part(1, [2])
    assert printed.after(1) == [2, 3, 4, 5]
    assert printed.after(6) == [2, 3, 4, 5, 7]


def test_nobody_waits_for_a_row_that_has_failed(printed: Printed) -> None:
    printed.run.claim(0)
    printed.run.part(0, [0], failed="MediaEmpty")
    printed.run.part(0, [1])
    assert printed.after(0) == [3]


def test_a_later_attempt_prints_nothing_twice(printed: Printed) -> None:
    printed.run.claim(0)
    printed.run.part(0, [0, 1])
    assert printed.after(0) == [2, 3]
    printed.run.claim(0, 2)
    printed.run.part(0, [0, 1, 2], attempt=2)
    assert printed.after(1) == [2, 3, 4]


def test_the_end_prints_what_is_left_and_the_outputs_decide(printed: Printed) -> None:
    printed.run.commit(1)
    assert printed.after(0) == []
    assert printed.after(6) == [5, 6, 7]
    printed.run.commit(0, failed="MediaEmpty")
    printed.run.commit(2)
    assert printed.at_the_end() == [5, 6, 7, 2, 3, 8, 9, 10]


def test_of_a_run_that_is_over_all_answers_are_printed_in_order(printed: Printed) -> None:
    for shard in (2, 0, 1):
        printed.run.commit(shard)
    assert printed.at_the_end() == list(range(2, 11))


def test_a_reader_who_has_seen_enough_does_not_end_the_run() -> None:
    code = (
        "import sys; from controller.evaluate.cli import _write\n"
        "for _ in range(3): _write('x' * 100_000)\n"
        "print('the run went on', file=sys.stderr)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b"the run went on\n"
    assert process.returncode == 0
