"""The commands `suspend`, `resume` and `cancel`: orders in the ledger, whoever works on the run."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from controller.partial import export_partial
from controller.summary import FAILED, read_summary
from neva.errors import ConfigError
from neva.ledger import Ledger, Manifest, layout
from neva.ledger.control import Control, Order
from neva.say import errors_as_exit_codes
from neva.settings import settings
from neva.store import Store, open_store

suspend_app = typer.Typer(add_completion=False)
resume_app = typer.Typer(add_completion=False)
cancel_app = typer.Typer(add_completion=False)

_Output = Annotated[str, typer.Argument(help="The run's output.uri, or its folder.")]
# After its drain time a worker is killed; the engine and a slow store get some more.
_MORE_PATIENCE_S = 5.0


@suspend_app.command()
def suspend(output: _Output) -> None:
    """Stop the workers of the run under OUTPUT within seconds; finished rows are kept.

    On a cluster the job shows Suspended, and its GPUs are free. Exit codes: 0 done, or so already;
    1 try again; 2 there is no run, or it is over.
    """
    _order(output, Order.SUSPEND)


@resume_app.command()
def resume(output: _Output) -> None:
    """Lift a suspension: a cluster's job goes on by itself, a local one with `neva run`.

    Exit codes: 0 done, or not suspended; 1 try again; 2 there is no run, or it is over.
    """
    _order(output, Order.RESUME)


@cancel_app.command()
def cancel(
    output: _Output,
    no_wait: Annotated[
        bool,
        typer.Option("--no-wait", help="Don't wait for rows that workers at work still write."),
    ] = False,
) -> None:
    """End the run under OUTPUT for good; finished rows go to partial.jsonl and errors.jsonl.

    Given again, it writes both anew. Exit codes: 0 done; 1 try again; 2 there is no run, or it is
    finished.
    """
    _order(output, Order.CANCEL, patience_s=0.0 if no_wait else None)


def _order(output: str, order: Order, patience_s: float | None = None) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    with errors_as_exit_codes():
        store = open_store(output)
        ledger = Ledger(store)
        manifest = ledger.read_manifest()
        _require_open(store, manifest)
        given = Control(store).give(order)
        console.print(_words(order, given, store.base_uri), markup=False)
        if order is Order.CANCEL and manifest is not None:
            _export(ledger, manifest, patience_s, console)


def _require_open(store: Store, manifest: Manifest | None) -> None:
    """Refuse to order what can't be: a run that isn't there, or is over."""
    if manifest is None and next(iter(store.list()), None) is None:
        raise ConfigError(f"{store.uri_of(layout.MANIFEST)} does not exist: no run there")
    summary = read_summary(store)
    over = summary is not None and summary["state"] == FAILED
    if over or store.head(layout.SUCCESS) is not None:
        raise ConfigError(f"{store.base_uri} is finished; nothing was changed")


def _words(order: Order, given: bool, where: str) -> str:
    if order is Order.SUSPEND:
        state = "suspended: its workers stop within seconds" if given else "suspended already"
        return f"{where} is {state}; `neva resume {where}` lifts that"
    if order is Order.RESUME:
        state = "may go on" if given else "was not suspended"
        return f"{where} {state}; a local run goes on with `neva run` and its job file"
    return f"{where} is {'cancelled' if given else 'cancelled already'}"


def _export(ledger: Ledger, manifest: Manifest, patience_s: float | None, console: Console) -> None:
    if patience_s is None:
        patience_s = settings().drain_s + _MORE_PATIENCE_S
        console.print(
            f"waiting at most {patience_s:.0f} s for rows that workers have finished", markup=False
        )
    partial = export_partial(ledger, manifest, patience_s=patience_s)
    console.print(
        f"{partial.num_answered} of {partial.num_rows} rows are answered, {partial.num_failed} "
        "failed:"
    )
    for name in (layout.PARTIAL, layout.ERRORS):
        console.print(f"  {ledger.store.uri_of(name)}", markup=False)
