"""The command `doctor`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from controller.exits import EXIT_ERROR, EXIT_OK
from neva.errors import ConfigError
from neva.extras import install_words
from neva.findings import Finding, Verdict, ok, problem, skipped
from neva.job_file import load_job
from neva.pod import job_of_environment
from neva.say import Format, FormatOption, rendered
from neva.settings import settings
from neva.spec import VideoNevaJob

doctor_app = typer.Typer(add_completion=False)

# By name: another role's module may lack what it needs here.
_EXAMINERS = (
    "controller.doctor.store",
    "controller.doctor.broker",
    "worker.doctor",
    "judge.doctor",
    "controller.doctor.cluster",
)


@doctor_app.command()
def doctor(
    job_file: Annotated[
        Path | None,
        typer.Argument(help="Job file whose store, model and judge are looked at, too."),
    ] = None,
    form: FormatOption = Format.TEXT,
) -> None:
    """Look at all that a job relies on, from here: one line each, with what to do.

    Store, broker, GPUs, shared memory, decoders, checkpoint, judge (asked for one short answer) and
    cluster. Exit codes: 0 no problem; 1 a problem.
    """
    found: list[Finding] = []
    for finding in examine_all(job_file):
        found.append(finding)
        if form is Format.TEXT:
            typer.echo(finding.words)
    is_well = not any(finding.verdict is Verdict.PROBLEM for finding in found)
    if form is not Format.TEXT:
        shown = [
            {"part": f.part, "verdict": f.verdict.value, "found": f.found, "advice": f.advice}
            for f in found
        ]
        typer.echo(rendered({"ok": is_well, "findings": shown}, form))
    raise typer.Exit(EXIT_OK if is_well else EXIT_ERROR)


def examine_all(job_file: Path | None) -> Iterator[Finding]:
    """Everything, in the order in which a run needs it."""
    job: VideoNevaJob | None = None
    try:
        settings()
    except ConfigError as error:
        yield problem("settings", error.message, "correct them; nothing can be looked at before")
        return
    try:
        if job_file is not None:
            job = load_job(job_file)
        elif settings().job is not None:
            job = job_of_environment()
    except ConfigError as error:
        yield problem("job", error.message, "correct the job file; the rest is looked at without")
    if job is not None:
        yield ok("job", f"{job.metadata.name} is valid")
    for name in _EXAMINERS:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            role = name.partition(".")[0]
            missing = f"{error.name} is not installed here: {install_words(role)}"
            yield skipped(role, missing)
        else:
            yield from module.examine(job)
