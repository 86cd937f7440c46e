"""The command `status`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from controller.exits import EXIT_ERROR
from controller.status.facts import look
from controller.status.run_status import RunStatus, as_dict, run_status
from controller.status.words import headline, lines
from neva.ledger import Ledger
from neva.say import Format, FormatOption, errors_as_exit_codes, rendered
from neva.store import StoreUnavailable, open_store

status_app = typer.Typer(add_completion=False)

_LINE_INTERVAL_S = 10.0  # of -w where nobody watches a terminal


@status_app.command()
def status(
    output: Annotated[str, typer.Argument(help="The run's output.uri, or its folder.")],
    form: FormatOption = Format.TEXT,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Until the run ends.")] = False,
    interval_s: Annotated[
        float, typer.Option("--interval", min=0.1, help="Seconds between two looks of --watch.")
    ] = 2.0,
) -> None:
    """Show how far the run under OUTPUT is, from its ledger alone.

    Exit codes: 0 shown; 1 the store can't be had, or there is no run.
    """
    with errors_as_exit_codes(wrong=EXIT_ERROR), _ctrl_c_as_exit():
        ledger = Ledger(open_store(output))
        if not watch:
            typer.echo(_shown(run_status(look(ledger)), form))
        elif form is Format.TEXT and Console().is_terminal:
            _watch_live(ledger, interval_s)
        else:
            _watch_lines(ledger, interval_s, form)


@contextmanager
def _ctrl_c_as_exit() -> Iterator[None]:
    """Who watches ends so; that is no trouble."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _shown(status: RunStatus, form: Format) -> str:
    return "\n".join(lines(status)) if form is Format.TEXT else rendered(as_dict(status), form)


def _statuses(ledger: Ledger, interval_s: float) -> Iterator[RunStatus]:
    """Looks until the run ends; a store that is away is waited for once it was there."""
    seen = run_status(look(ledger))
    yield seen
    while not seen.phase.is_final:
        time.sleep(interval_s)
        try:
            seen = run_status(look(ledger))
        except StoreUnavailable:
            continue
        yield seen


def _watch_live(ledger: Ledger, interval_s: float) -> None:
    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        for seen in _statuses(ledger, interval_s):
            live.update(Text("\n".join(lines(seen))), refresh=True)


def _watch_lines(ledger: Ledger, interval_s: float, form: Format) -> None:
    """Quiet: what changed, now and then; the end in full."""
    said, next_s = "", 0.0
    for seen in _statuses(ledger, interval_s):
        words = headline(seen) if form is Format.TEXT else _one_line(seen, form)
        if seen.phase.is_final:
            typer.echo(_shown(seen, form) if form is Format.TEXT else words)
        elif words != said and time.monotonic() >= next_s:
            typer.echo(words)
            said, next_s = words, time.monotonic() + _LINE_INTERVAL_S


def _one_line(status: RunStatus, form: Format) -> str:
    """One JSON line, or one YAML document."""
    if form is Format.JSON:
        return orjson.dumps(as_dict(status)).decode()
    return f"---\n{_shown(status, form)}"
