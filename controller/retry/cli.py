"""The command `retry`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from controller.exits import EXIT_OK
from controller.local.cli import run_job
from controller.retry.plan import begin, next_retry
from neva.job_file import load_job
from neva.say import Format, errors_as_exit_codes, rendered
from neva.spec import VideoNevaJob

retry_app = typer.Typer(add_completion=False)


@retry_app.command()
def retry(
    output: Annotated[str, typer.Argument(help="The finished run's output.uri, or its folder.")],
    job_file: Annotated[
        Path | None,
        typer.Option("--job", help="Job file whose workers, failure and judge hold instead."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the retry's job; change nothing.")
    ] = False,
    form: Annotated[
        Format, typer.Option("-o", "--output-format", help="How --dry-run prints the job.")
    ] = Format.YAML,
) -> None:
    """Ask the failed rows of the finished run under OUTPUT again, alone, on this machine.

    The run itself is left as it is: the retry writes all answers, kept ones and new ones, to
    OUTPUT/retries/1/, the next one what is still failed to OUTPUT/retries/2/. One that was
    interrupted goes on. Exit codes as of `neva run`; 0 when no row failed.
    """
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    with errors_as_exit_codes():
        found = next_retry(output, load_job(job_file) if job_file else None)
        if found.num_failed == 0:
            console.print("no row failed; nothing is to be retried")
            raise typer.Exit(EXIT_OK)
        if dry_run:
            typer.echo(_shown(found.job, form))
            raise typer.Exit(EXIT_OK)
        job = found.job if found.begun else begin(output, found)
    what = "goes on with" if found.begun else "asks"
    console.print(
        f"retry {found.number} {what} {found.num_failed} failed rows: {job.spec.output.uri}",
        markup=False,
    )
    with tempfile.TemporaryDirectory(prefix="neva-retry-") as folder:
        path = Path(folder) / "job.yaml"
        path.write_text(_shown(job, Format.YAML), encoding="utf-8")
        code = run_job(path)
    raise typer.Exit(code)


def _shown(job: VideoNevaJob, form: Format) -> str:
    data: dict[str, Any] = job.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    inference = data["spec"].get("inference", {})
    if "insert_media_token" in inference and inference["insert_media_token"] is None:
        inference["insert_media_token"] = "null"  # kubectl drops a bare one
    data = {"apiVersion": job.api_version, "kind": job.kind, **data}
    return rendered(data, form)
