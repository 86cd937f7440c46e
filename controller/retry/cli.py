"""The command `retry`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from controller.exits import EXIT_OK
from controller.local.cli import is_told, run_data, run_job
from controller.retry.plan import begin, next_retry
from neva.job_file import job_data, load_job
from neva.say import Format, FormatOption, errors_as_exit_codes, rendered, tell
from neva.spec import VideoNevaJob
from neva.targets import (
    JobOnCluster,
    NamespaceOption,
    TargetArgument,
    job_of,
    output_uri,
    parse_target,
    read_job,
)

retry_app = typer.Typer(add_completion=False)


@retry_app.command()
def retry(
    target: TargetArgument,
    namespace: NamespaceOption = None,
    job_file: Annotated[
        Path | None,
        typer.Option("--job", help="Job file whose workers, failure and judge hold instead."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the retry's job; change nothing.")
    ] = False,
    form: FormatOption = Format.TEXT,
) -> None:
    """Ask the failed rows of a finished run again, alone: here, or of vnj/NAME by a job beside it.

    The run itself is left as it is: the retry writes all answers, kept ones and new ones, to
    OUT/retries/1/, the next one what is still failed to OUT/retries/2/. One that was interrupted
    goes on. Exit codes as of `neva run`; 0 when no row failed, or the job is made.
    """
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    with errors_as_exit_codes():
        place = parse_target(target, namespace)
        output, settings_of = _run_of(place)
        found = next_retry(output, load_job(job_file) if job_file else settings_of)
        if found.num_failed == 0:
            console.print("no row failed; nothing is to be retried")
            tell({"retry": None, "failedRows": 0}, form)
            raise typer.Exit(EXIT_OK)
        if dry_run:
            typer.echo(rendered(job_data(found.job), Format.YAML if form is Format.TEXT else form))
            raise typer.Exit(EXIT_OK)
        job = found.job if found.begun else begin(output, found)
        if isinstance(place, JobOnCluster):
            _create(place, job)
    what = "goes on with" if found.begun else "asks"
    console.print(
        f"retry {found.number} {what} {found.num_failed} failed rows: {job.spec.output.uri}",
        markup=False,
    )
    data = {
        "retry": found.number,
        "goesOn": found.begun,
        "failedRows": found.num_failed,
        "job": job.metadata.name,
        "output": job.spec.output.uri,
    }
    if isinstance(place, JobOnCluster):
        tell(data, form)
        raise typer.Exit(EXIT_OK)
    with tempfile.TemporaryDirectory(prefix="neva-retry-") as folder:
        path = Path(folder) / "job.yaml"
        path.write_text(rendered(job_data(job), Format.YAML), encoding="utf-8")
        code = run_job(path)
    if form is not Format.TEXT and is_told(code):
        with errors_as_exit_codes():
            tell({**data, **run_data(job.spec.output.uri)}, form)
    raise typer.Exit(code)


def _run_of(place: JobOnCluster | str) -> tuple[str, VideoNevaJob | None]:
    """Where the run is, and of a cluster's job the settings: a ledger has no pod template."""
    if isinstance(place, str):
        return place, None
    body = read_job(place)
    return output_uri(body), job_of(body, place.words)


def _create(place: JobOnCluster, job: VideoNevaJob) -> None:
    from controller.cluster.jobs import UsersCluster

    UsersCluster(place.namespace).create(job_data(job))
