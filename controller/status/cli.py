"""The command `status`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from controller.exits import EXIT_ERROR
from controller.status.facts import look
from controller.status.run_status import as_dict, run_status
from controller.status.shown import Look, Shown, watch
from controller.status.words import headline, lines
from neva.errors import ConfigError
from neva.ledger import Ledger
from neva.say import Format, FormatOption, errors_as_exit_codes
from neva.store import open_store
from neva.targets import JobOnCluster, NamespaceOption, import_kube, parse_target

status_app = typer.Typer(add_completion=False)


@status_app.command()
def status(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="OUT",
            help="The run's output.uri or its folder, or vnj/NAME: a job on the cluster. "
            "Without it: the cluster's jobs.",
        ),
    ] = None,
    namespace: NamespaceOption = None,
    everywhere: Annotated[
        bool, typer.Option("-A", "--all-namespaces", help="Jobs of every namespace.")
    ] = False,
    form: FormatOption = Format.TEXT,
    watching: Annotated[bool, typer.Option("-w", "--watch", help="Until it ends.")] = False,
    interval_s: Annotated[
        float, typer.Option("--interval", min=0.1, help="Seconds between two looks of --watch.")
    ] = 2.0,
) -> None:
    """Show how far a run is, from its ledger alone, or a job on a cluster, or all of them.

    Exit codes: 0 shown; 1 the store or the cluster can't be had, or there is no such run.
    """
    with errors_as_exit_codes(wrong=EXIT_ERROR), _ctrl_c_as_exit():
        see = _looker(target, namespace, everywhere)
        if watching:
            watch(see, interval_s, form)
        else:
            typer.echo(see().text(form))


def _looker(target: str | None, namespace: str | None, everywhere: bool) -> Look:
    if target is None:
        return _jobs_looker(namespace, everywhere)
    if everywhere:
        raise ConfigError("--all-namespaces lists jobs: leave OUT out")
    found = parse_target(target, namespace)
    if isinstance(found, JobOnCluster):
        return _job_looker(found)
    ledger = Ledger(open_store(found))
    return lambda: _run_shown(ledger)


def _run_shown(ledger: Ledger) -> Shown:
    seen = run_status(look(ledger))
    return Shown(
        headline(seen),
        tuple(lines(seen)),
        as_dict(seen),
        seen.phase.is_final,
        seen.facts.num_done,
        seen.num_rows,
    )


def _job_looker(job: JobOnCluster) -> Look:
    import_kube()
    from controller.cluster.jobs import UsersCluster
    from controller.cluster.show import job_shown

    cluster = UsersCluster(job.namespace)
    return lambda: job_shown(cluster.job(job))


def _jobs_looker(namespace: str | None, everywhere: bool) -> Look:
    import_kube()
    from controller.cluster.jobs import UsersCluster
    from controller.cluster.show import table_shown

    try:
        cluster = UsersCluster(namespace)
    except ConfigError as error:
        raise ConfigError(
            f"{error.message}; a run on this machine is shown by its folder: neva status OUT"
        ) from error

    def see() -> Shown:
        table = cluster.table(everywhere=everywhere)
        jobs = cluster.jobs(everywhere=everywhere)
        return table_shown(table, jobs, "" if everywhere else cluster.namespace)

    return see


@contextmanager
def _ctrl_c_as_exit() -> Iterator[None]:
    """Who watches ends so; that is no trouble."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
