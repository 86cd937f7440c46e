from __future__ import annotations

import io

from rich.console import Console

from controller.local.progress import LiveProgress, RateMeter
from controller.reconciler import Progress


def test_the_rate_counts_from_the_first_row_not_from_the_start() -> None:
    meter = RateMeter()
    meter.update(0.0, 0)
    meter.update(60.0, 0)  # a minute of loading
    assert meter.rows_per_s is None
    assert meter.eta_s(10) is None
    meter.update(70.0, 20)
    assert meter.rows_per_s == 2.0
    assert meter.eta_s(10) == 5.0


def test_a_resumed_run_does_not_count_rows_of_an_earlier_one() -> None:
    meter = RateMeter()
    meter.update(0.0, 50)
    assert meter.rows_per_s is None
    meter.update(10.0, 60)
    assert meter.rows_per_s == 1.0


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
