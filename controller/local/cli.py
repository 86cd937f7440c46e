"""The command `run`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from controller.exits import EXIT_ERROR, EXIT_INVALID, EXIT_STOPPED
from controller.local.runner import Runner
from neva.errors import ConfigError, NevaError
from neva.ledger.control import Stopped
from neva.say import tell_error

run_app = typer.Typer(add_completion=False)


@run_app.command()
def run(job_file: Annotated[Path, typer.Argument(help="The job's YAML file.")]) -> None:
    """Run a job file on this machine, from where it stopped if it did.

    Exit codes: 0 done; 1 something can't be had, run it again; 2 the job, its model or its input is
    wrong; 3 more rows failed than the job lets pass; 4 it is suspended or was cancelled.
    """
    raise typer.Exit(run_job(job_file))


def run_job(job_file: Path) -> int:
    """`neva run`: says on stderr what happens; returns the exit code."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    # A SIGTERM is an order to stop like Ctrl-C: the worker is drained, not killed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return Runner(job_file, console).run()
    except Stopped as stopped:
        console.print(f"stopped: {stopped.message}", markup=False)
        return EXIT_STOPPED
    except ConfigError as error:
        return tell_error(error, EXIT_INVALID)
    except NevaError as error:
        return tell_error(error, EXIT_ERROR)
    except KeyboardInterrupt:
        console.print("stopped; finished rows are kept, the same command goes on")
        return 130
