"""The commands `suspend`, `resume` and `cancel`: orders in the ledger, whoever works on the run.

A cluster's job is suspended by its own spec.suspend, which needs no right to its bucket; it is
cancelled by its ledger, as every run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from controller.partial import export_partial
from controller.summary import FAILED, read_summary
from neva.conditions import Phase
from neva.errors import ConfigError
from neva.ledger import Ledger, Manifest, layout
from neva.ledger.control import Control, Order
from neva.say import Format, FormatOption, errors_as_exit_codes, tell
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
def suspend(
    target: TargetArgument, namespace: NamespaceOption = None, form: FormatOption = Format.TEXT
) -> None:
    """Stop the workers of a run within seconds; finished rows are kept.

    On a cluster the job shows Suspended, and its GPUs are free: by an order in its ledger where OUT
    is its output.uri, by its spec.suspend where it is vnj/NAME. Exit codes: 0 done, or so already;
    1 try again; 2 there is no run, or it is over.
    """
    with errors_as_exit_codes():
        found = parse_target(target, namespace)
        if isinstance(found, JobOnCluster):
            done = _set_suspend(found, True)
        else:
            done = _order(found, Order.SUSPEND)
        _tell(done, form)


@resume_app.command()
def resume(
    target: TargetArgument, namespace: NamespaceOption = None, form: FormatOption = Format.TEXT
) -> None:
    """Lift a suspension: a cluster's job goes on by itself, a local one with `neva run`.

    Of vnj/NAME its spec.suspend is lifted; if that did not hold, the order in its ledger.

    Exit codes: 0 done, or not suspended; 1 try again; 2 there is no run, or it is over.
    """
    with errors_as_exit_codes():
        found = parse_target(target, namespace)
        if isinstance(found, JobOnCluster):
            done = _resume_job(found)
        else:
            done = _order(found, Order.RESUME)
        _tell(done, form)


@cancel_app.command()
def cancel(
    target: TargetArgument,
    namespace: NamespaceOption = None,
    no_wait: Annotated[
        bool,
        typer.Option("--no-wait", help="Don't wait for rows that workers at work still write."),
    ] = False,
    form: FormatOption = Format.TEXT,
) -> None:
    """End a run for good; finished rows go to partial.jsonl and errors.jsonl.

    Given again, it writes both anew. Exit codes: 0 done; 1 try again; 2 there is no run, or it is
    finished.
    """
    with errors_as_exit_codes():
        ledger, manifest, done = _give(output_of(target, namespace), Order.CANCEL)
        _say(done.words)
        data = done.data
        if manifest is not None:
            data |= _export(ledger, manifest, 0.0 if no_wait else None)
        tell(data, form)


@dataclass(frozen=True, slots=True)
class _Done:
    """What became of an order.

    Attributes:
        where: the run's output, or the job.
        changed: False: it was so already.
    """

    order: Order
    where: str
    changed: bool
    words: str

    @property
    def data(self) -> dict[str, Any]:
        """For `-o json|yaml`."""
        return {
            "order": self.order.value,
            "target": self.where,
            "changed": self.changed,
            "message": self.words,
        }


def _tell(done: _Done, form: Format) -> None:
    _say(done.words)
    tell(done.data, form)


def _say(words: str) -> None:
    typer.echo(words, err=True)


def _set_suspend(job: JobOnCluster, suspend: bool) -> _Done:
    """Set a job's spec.suspend."""
    import_kube()
    from controller.cluster.jobs import UsersCluster

    cluster = UsersCluster(job.namespace)
    body = cluster.job(job)
    phase = (body.get("status") or {}).get("phase")
    if phase in (Phase.SUCCEEDED, Phase.FAILED):
        raise ConfigError(f"{job.words} is over ({phase}); nothing was changed")
    order = Order.SUSPEND if suspend else Order.RESUME
    if bool(body["spec"].get("suspend")) == suspend:
        state = "is suspended already" if suspend else "was not suspended"
        return _Done(order, job.words, False, f"{job.words} {state}")
    cluster.set_suspend(body, suspend)
    words = f"{job.words} may go on; an order in its ledger, if there is one, holds still"
    if suspend:
        words = (
            f"{job.words} is suspended: its pods are going; `neva resume {job.words}` lifts that"
        )
    return _Done(order, job.words, True, words)


def _resume_job(job: JobOnCluster) -> _Done:
    done = _set_suspend(job, False)
    return done if done.changed else _order(output_uri(read_job(job)), Order.RESUME)


def _order(output: str, order: Order) -> _Done:
    return _give(output, order)[2]


def _give(output: str, order: Order) -> tuple[Ledger, Manifest | None, _Done]:
    store = open_store(output)
    ledger = Ledger(store)
    manifest = ledger.read_manifest()
    _require_open(store, manifest)
    given = Control(store).give(order)
    where = store.base_uri
    return ledger, manifest, _Done(order, where, given, _words(order, given, where))


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


def _export(ledger: Ledger, manifest: Manifest, patience_s: float | None) -> dict[str, Any]:
    """Make readable what is finished; returns what there is, for `-o json|yaml`."""
    if patience_s is None:
        patience_s = settings().drain_s + _MORE_PATIENCE_S
        _say(f"waiting at most {patience_s:.0f} s for rows that workers have finished")
    partial = export_partial(ledger, manifest, patience_s=patience_s)
    _say(
        f"{partial.num_answered} of {partial.num_rows} rows are answered, {partial.num_failed} "
        "failed:"
    )
    files = {
        "partial": ledger.store.uri_of(layout.PARTIAL),
        "errors": ledger.store.uri_of(layout.ERRORS),
    }
    for uri in files.values():
        _say(f"  {uri}")
    rows = {
        "total": partial.num_rows,
        "done": partial.num_answered + partial.num_failed,
        "failed": partial.num_failed,
    }
    return {"rows": rows, "failedByReason": partial.failed_by_reason, "files": files}
