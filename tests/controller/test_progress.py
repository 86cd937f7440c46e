from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from controller.local.progress import LiveProgress
from controller.reconciler import Progress
from neva.rate import RateWindow, time_left


def test_the_rate_counts_from_the_first_row_not_from_the_start() -> None:
    rates = RateWindow()
    rates.add(0.0, 0)
    rates.add(60.0, 0)  # a minute of loading
    assert rates.rows_per_s is None
    assert rates.eta_s(10) is None
    rates.add(70.0, 20)
    assert rates.rows_per_s == 2.0
    assert rates.eta_s(10) == (5.0, 5.0)


def test_a_resumed_run_does_not_count_rows_of_an_earlier_one() -> None:
    rates = RateWindow()
    rates.add(0.0, 50)
    assert rates.rows_per_s is None
    rates.add(10.0, 60)
    assert rates.rows_per_s == 1.0


def test_a_rate_that_changes_makes_the_estimate_a_range() -> None:
    rates = RateWindow()
    for now_s, done in ((0, 0), (10, 10), (20, 20), (30, 80), (40, 140)):
        rates.add(now_s, done)
    low_s, high_s = rates.eta_s(600) or (0, 0)
    assert (low_s, round(high_s)) == (100, 171)
    assert time_left((low_s, high_s)) == "2 min to 3 min left"


@pytest.mark.parametrize(
    ("eta_s", "words"), [((40, 40.2), "about 40 s left"), ((45, 300), "45 s to 5 min left")]
)
def test_the_time_left_is_told_as_a_range(eta_s: tuple[float, float], words: str) -> None:
    assert time_left(eta_s) == words


def test_a_log_gets_plain_lines_and_the_count_never_steps_back() -> None:
    written = io.StringIO()
    with LiveProgress(Console(file=written)) as live:
        live.show(Progress(10, 4, 1, 2, 0))
        live.show(Progress(10, 2, 1, 2, 0))
        live.say("trying again: 503")
        live.say("trying again: 503")
    assert "answering: 4/10 rows, 1 failed" in written.getvalue()
    assert "2/10" not in written.getvalue()
    assert written.getvalue().count("trying again") == 1


def test_a_terminal_sees_no_number_before_there_is_one() -> None:
    written = io.StringIO()
    with LiveProgress(Console(file=written, force_terminal=True)) as live:
        pass
    assert "answering" in written.getvalue() and "None" not in written.getvalue()
    with LiveProgress(Console(file=written, force_terminal=True)) as live:
        live.show(Progress(10, 4, 1, 2, 0))
    assert "4/10 rows" in written.getvalue()


def test_what_goes_to_a_file_does_not_go_to_the_bars_terminal() -> None:
    """`neva evaluate … > answers.txt` on a terminal."""
    written = io.StringIO()
    assert not sys.stdout.isatty()
    with LiveProgress(Console(file=written, force_terminal=True)):
        print("an answer")
    assert "an answer" not in written.getvalue()
