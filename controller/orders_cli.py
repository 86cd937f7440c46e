"""The commands `suspend`, `resume` and `cancel`: orders in the ledger, whoever works on the run.

A cluster's job is suspended by its own spec.suspend, which needs no right to its bucket; it is
cancelled by its ledger, as every run.
"""

from __future__ import annotations

from typing import Annotated

import typer

from controller.partial import export_partial
from controller.summary import FAILED, read_summary
from neva.conditions import Phase
from neva.errors import ConfigError
from neva.ledger import Ledger, Manifest, layout
from neva.ledger.control import Control, Order
from neva.say import errors_as_exit_codes
from neva.settings import settings
from neva.store import Store, open_store
from neva.targets import (
    JobOnCluster,
    NamespaceOption,
    TargetArgument,
    import_kube,
    output_of,
    output_uri,
    parse_target,
    read_job,
)

suspend_app = typer.Typer(add_completion=False)
resume_app = typer.Typer(add_completion=False)
cancel_app = typer.Typer(add_completion=False)

# After its drain time a worker is killed; the engine and a slow store get some more.
_MORE_PATIENCE_S = 5.0


@suspend_app.command()
def suspend(target: TargetArgument, namespace: NamespaceOption = None) -> None:
    """Stop the workers of a run within seconds; finished rows are kept.

    On a cluster the job shows Suspended, and its GPUs are free: by an order in its ledger where OUT
    is its output.uri, by its spec.suspend where it is vnj/NAME. Exit codes: 0 done, or so already;
    1 try again; 2 there is no run, or it is over.
    """
    with errors_as_exit_codes():
        found = parse_target(target, namespace)
        if isinstance(found, JobOnCluster):
            _say(_set_suspend(found, True))
        else:
            _order(found, Order.SUSPEND)


@resume_app.command()
def resume(target: TargetArgument, namespace: NamespaceOption = None) -> None:
    """Lift a suspension: a cluster's job goes on by itself, a local one with `neva run`.

    Of vnj/NAME its spec.suspend is lifted; if that did not hold, the order in its ledger.

    Exit codes: 0 done, or not suspended; 1 try again; 2 there is no run, or it is over.
    """
    with errors_as_exit_codes():
        found = parse_target(target, namespace)
        if isinstance(found, JobOnCluster):
            _resume_job(found)
        else:
            _order(found, Order.RESUME)


@cancel_app.command()
def cancel(
    target: TargetArgument,
    namespace: NamespaceOption = None,
    no_wait: Annotated[
        bool,
        typer.Option("--no-wait", help="Don't wait for rows that workers at work still write."),
    ] = False,
) -> None:
    """End a run for good; finished rows go to partial.jsonl and errors.jsonl.

    Given again, it writes both anew. Exit codes: 0 done; 1 try again; 2 there is no run, or it is
    finished.
    """
    with errors_as_exit_codes():
        _order(output_of(target, namespace), Order.CANCEL, patience_s=0.0 if no_wait else None)


def _say(words: str) -> None:
    typer.echo(words, err=True)


def _set_suspend(job: JobOnCluster, suspend: bool) -> str:
    """Set a job's spec.suspend; returns what to say."""
    import_kube()
    from controller.cluster.jobs import UsersCluster

    cluster = UsersCluster(job.namespace)
    body = cluster.job(job)
    phase = (body.get("status") or {}).get("phase")
    if phase in (Phase.SUCCEEDED, Phase.FAILED):
        raise ConfigError(f"{job.words} is over ({phase}); nothing was changed")
    if bool(body["spec"].get("suspend")) == suspend:
        return f"{job.words} is suspended already" if suspend else ""
    cluster.set_suspend(body, suspend)
    if suspend:
        return f"{job.words} is suspended: its pods are going; `neva resume {job.words}` lifts that"
    return f"{job.words} may go on; an order in its ledger, if there is one, holds still"


def _resume_job(job: JobOnCluster) -> None:
    if words := _set_suspend(job, False):
        _say(words)
    else:
        _order(output_uri(read_job(job)), Order.RESUME)


def _order(output: str, order: Order, patience_s: float | None = None) -> None:
    store = open_store(output)
    ledger = Ledger(store)
    manifest = ledger.read_manifest()
    _require_open(store, manifest)
    given = Control(store).give(order)
    _say(_words(order, given, store.base_uri))
    if order is Order.CANCEL and manifest is not None:
        _export(ledger, manifest, patience_s)


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


def _export(ledger: Ledger, manifest: Manifest, patience_s: float | None) -> None:
    if patience_s is None:
        patience_s = settings().drain_s + _MORE_PATIENCE_S
        _say(f"waiting at most {patience_s:.0f} s for rows that workers have finished")
    partial = export_partial(ledger, manifest, patience_s=patience_s)
    _say(
        f"{partial.num_answered} of {partial.num_rows} rows are answered, {partial.num_failed} "
        "failed:"
    )
    for name in (layout.PARTIAL, layout.ERRORS):
        _say(f"  {ledger.store.uri_of(name)}")
