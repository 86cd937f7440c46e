"""Progress of a local run: a live bar for a person, a line now and then for a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from controller import reconciler
from neva.rate import RateWindow, time_left

_LINE_INTERVAL_S = 10.0


class LiveProgress:
    """Shows `reconciler.Progress` as it changes. A context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rates = RateWindow()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            TaskProgressColumn(),
            TextColumn("{task.fields[rows]}"),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[failures]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            # Where stdout is no terminal, what is printed there is not for this one.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._bar.add_task("answering", total=None, rows="", rate="", failures="")
        self._num_done = 0
        self._first_done: int | None = None
        self._said = ""
        self._next_line_s = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, progress: reconciler.Progress) -> None:
        # A shard whose commit is not listed yet would make the count step back.
        self._num_done = max(self._num_done, progress.num_done)
        if self._first_done is None:
            self._first_done = self._num_done
        now_s = time.monotonic()
        self._rates.add(now_s, self._num_done)
        rate = self._rate_words(progress.num_rows - self._num_done)
        failures = f"[red]{progress.num_failed} failed[/]" if progress.num_failed else "0 failed"
        self._bar.update(
            self._task,
            total=progress.num_rows,
            completed=self._num_done,
            rows=f"{self._num_done}/{progress.num_rows} rows",
            rate=rate,
            failures=failures,
        )
        if not self._console.is_terminal and now_s >= self._next_line_s:
            self._next_line_s = now_s + _LINE_INTERVAL_S
            self._console.print(
                f"answering: {self._num_done}/{progress.num_rows} rows, "
                f"{progress.num_failed} failed{', ' if rate else ''}{rate}",
            )

    def say(self, words: str) -> None:
        """Print a line above the bar, unless it is what was said last."""
        if words != self._said:
            self._said = words
            self._console.print(words, markup=False)

    def _rate_words(self, num_left: int) -> str:
        rate, eta_s = self._rates.rows_per_s, self._rates.eta_s(num_left)
        if rate is None or eta_s is None:
            return "starting the engine" if self._num_done == self._first_done else ""
        return f"{rate:.1f} rows/s, {time_left(eta_s)}"
