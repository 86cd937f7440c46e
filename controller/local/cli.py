"""The command `run`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from controller.exits import EXIT_ERROR, EXIT_INVALID, EXIT_OK, EXIT_ROWS_FAILED, EXIT_STOPPED
from controller.local.runner import Runner, Watcher
from controller.status.facts import look
from controller.status.run_status import as_dict, run_status
from neva.errors import NevaError
from neva.job_file import load_job
from neva.ledger import Ledger
from neva.ledger.control import Stopped
from neva.say import Format, FormatOption, errors_as_exit_codes, exit_code_of, tell, tell_error
from neva.store import open_store

run_app = typer.Typer(add_completion=False)


@run_app.command()
def run(
    job_file: Annotated[Path, typer.Argument(help="The job's YAML file.")],
    form: FormatOption = Format.TEXT,
) -> None:
    """Run a job file on this machine, from where it stopped if it did.

    Exit codes: 0 done; 1 something can't be had, run it again; 2 the job, its model or its input is
    wrong; 3 more rows failed than the job lets pass; 4 it is suspended or was cancelled.
    """
    code = run_job(job_file)
    if form is not Format.TEXT and is_told(code):
        with errors_as_exit_codes():
            tell(run_data(load_job(job_file).spec.output.uri), form)
    raise typer.Exit(code)


def is_told(code: int) -> bool:
    """Whether a run that ended so is a document: nothing was wrong, and nobody broke it off."""
    return code in (EXIT_OK, EXIT_ROWS_FAILED, EXIT_STOPPED)


def run_data(output_uri: str) -> dict[str, Any]:
    """A run for `-o json|yaml`: as `neva status` has it."""
    return as_dict(run_status(look(Ledger(open_store(output_uri)))))


def run_job(job_file: Path, watcher: Watcher | None = None) -> int:
    """`neva run`: says on stderr what happens; returns the exit code."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    # A SIGTERM is an order to stop like Ctrl-C: the worker is drained, not killed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return Runner(job_file, console, watcher).run()
    except Stopped as stopped:
        console.print(f"stopped: {stopped.message}", markup=False)
        return EXIT_STOPPED
    except NevaError as error:
        return tell_error(error, exit_code_of(error, wrong=EXIT_INVALID, failed=EXIT_ERROR))
    except KeyboardInterrupt:
        console.print("stopped; finished rows are kept, the same command goes on")
        return 130
