"""The commands `run` and `status`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from controller.exits import EXIT_ERROR, EXIT_INVALID
from controller.local.runner import Runner
from neva.errors import ConfigError, NevaError
from neva.ledger import Ledger, layout
from neva.store import open_store

run_app = typer.Typer(add_completion=False)
status_app = typer.Typer(add_completion=False)


@run_app.command()
def run(job_file: Annotated[Path, typer.Argument(help="The job's YAML file.")]) -> None:
    """Run a job file on this machine, from where it stopped if it did.

    Exit codes: 0 done; 1 something can't be had, run it again; 2 the job, its model or its input is
    wrong; 3 more rows failed than the job lets pass.
    """
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    # A SIGTERM is an order to stop like Ctrl-C: the worker is drained, not killed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = Runner(job_file, console).run()
    except ConfigError as error:
        code = _tell(console, error, EXIT_INVALID)
    except NevaError as error:
        code = _tell(console, error, EXIT_ERROR)
    except KeyboardInterrupt:
        console.print("stopped; finished rows are kept, the same command goes on")
        code = 130
    raise typer.Exit(code)


@status_app.command()
def status(output: Annotated[str, typer.Argument(help="The run's output.uri.")]) -> None:
    """Show how far the run under OUTPUT is, from its ledger alone."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        ledger = Ledger(open_store(output))
        manifest = ledger.read_manifest()
        if manifest is None:
            raise ConfigError(
                f"{ledger.store.uri_of(layout.MANIFEST)} does not exist: no run there"
            )
        done = ledger.committed_shards()
        commits = [ledger.read_commit(number) for number in sorted(done)]
    except NevaError as error:
        raise typer.Exit(_tell(console, error, EXIT_ERROR)) from error
    num_failed = manifest.num_rejected + sum(commit.num_failed for commit in commits)
    num_done = manifest.num_rejected + sum(commit.num_rows for commit in commits)
    finished = ledger.store.head(layout.SUCCESS) is not None
    typer.echo(
        f"{manifest.job['metadata']['name']}: {num_done} of {manifest.num_rows} rows in "
        f"{len(done)} of {len(manifest.shards)} committed shards, {num_failed} failed"
        f"{', finished' if finished else ''}"
    )


def _tell(console: Console, error: NevaError, code: int) -> int:
    console.print(f"[red]error[/] ({error.reason}): ", end="")
    console.print(error.message, markup=False)
    return code
