"""One look at something, ready to be printed; and how it is watched until it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from time import sleep
from typing import Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from neva.errors import NevaError
from neva.say import Format, rendered, rendered_line

_LINE_INTERVAL_S = 10.0  # of -w where nobody watches a terminal
_BAR_WIDTH = 48


@dataclass(frozen=True, slots=True)
class Shown:
    """One look.

    Attributes:
        headline: one line, which changes only when something has happened.
        lines: all there is to say, the headline first.
        data: the same for programs.
        done, total: rows, for a bar; no total: no bar.
    """

    headline: str
    lines: tuple[str, ...]
    data: Mapping[str, Any]
    is_final: bool
    done: int = 0
    total: int = 0

    def text(self, form: Format) -> str:
        return "\n".join(self.lines) if form is Format.TEXT else rendered(dict(self.data), form)


Look = Callable[[], Shown]


def watch(look: Look, interval_s: float, form: Format) -> None:
    """Show what `look` sees until it is final: live on a terminal, else line by line.

    Raises:
        NevaError: at the first look, or later for what will not pass by itself.
    """
    if form is Format.TEXT and Console().is_terminal:
        _watch_live(look, interval_s)
    else:
        _watch_lines(look, interval_s, form)


def _looks(look: Look, interval_s: float) -> Iterator[Shown]:
    """A store or an API server that is away is waited for once it was there."""
    seen = look()
    yield seen
    while not seen.is_final:
        sleep(interval_s)
        try:
            seen = look()
        except NevaError as error:
            if not error.retryable:
                raise
            continue
        yield seen


def _watch_live(look: Look, interval_s: float) -> None:
    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        for seen in _looks(look, interval_s):
            live.update(_live(seen), refresh=True)


def _live(seen: Shown) -> Group:
    head, *rest = (Text(line) for line in seen.lines)
    head.stylize("bold")
    if seen.total and not seen.is_final:
        bar = ProgressBar(total=seen.total, completed=seen.done, width=_BAR_WIDTH)
        return Group(head, bar, *rest)
    return Group(head, *rest)


def _watch_lines(look: Look, interval_s: float, form: Format) -> None:
    """Quiet: what changed, now and then; the end in full."""
    said, next_s = "", 0.0
    for seen in _looks(look, interval_s):
        words = seen.headline if form is Format.TEXT else rendered_line(dict(seen.data), form)
        if seen.is_final:
            typer.echo(seen.text(form) if form is Format.TEXT else words)
        elif words != said and time.monotonic() >= next_s:
            typer.echo(words)
            said, next_s = words, time.monotonic() + _LINE_INTERVAL_S
