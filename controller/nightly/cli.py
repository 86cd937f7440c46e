"""The command `nightly`: what the chart's CronJobs run, and people by hand."""

from __future__ import annotations

import time
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import structlog
import typer
import yaml

from controller.nightly.night import dated_job, job_started_by, phase_of, tonight
from controller.nightly.run import Gone, Night, Patience
from neva.conditions import Phase
from neva.errors import ConfigError, NevaError
from neva.job_file import load_job
from neva.logs import configure_logging

EXIT_OK, EXIT_WORSE, EXIT_INCONCLUSIVE, EXIT_TRY_AGAIN = 0, 1, 2, 3

app = typer.Typer(add_completion=False)
log = structlog.get_logger()


@app.command()
def nightly(
    job: Annotated[Path, typer.Option(help="Job file; output.uri gets the date appended.")],
    series: Annotated[str, typer.Option(help="Name of the series; the job is SERIES-YYYYMMDD.")],
    date: Annotated[
        str | None, typer.Option(help="Date of the night, YYYY-MM-DD; today by default.")
    ] = None,
    time_zone: Annotated[str, typer.Option(help="Where it is today.")] = "Etc/UTC",
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", help="The job file's, or else the pod's, by default."),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the end, and compare.")] = True,
    max_drop: Annotated[
        str | None,
        typer.Option(
            "--max-drop",
            "--max-score-drop",
            help="Points that the score may fall by against the last good night.",
        ),
    ] = None,
    started_by: Annotated[
        str | None,
        typer.Option(
            envvar="NEVA_NIGHTLY_RUN",
            help="Name of this run: a retry under it goes on with the same night.",
        ),
    ] = None,
) -> None:
    """Run a job once per date on a cluster, and compare its score with the last good night's.

    Exit codes: 0 done; 1 the score fell by more than --max-drop; 2 failed, wrong, or no score to
    compare; 3 the cluster can't be reached, try again.
    """
    configure_logging()
    try:
        code = _run(job, series, date, time_zone, namespace, wait, max_drop, started_by)
    except NevaError as error:
        log.error("no night", reason=error.reason, error=error.message)
        code = EXIT_TRY_AGAIN if error.retryable else EXIT_INCONCLUSIVE
    raise typer.Exit(code)


def _run(
    path: Path,
    series: str,
    day: str | None,
    time_zone: str,
    namespace: str | None,
    wait: bool,
    max_drop: str | None,
    started_by: str | None,
) -> int:
    # Imported here: `neva nightly --help` needs no cluster library.
    from controller.nightly.watching import connect

    limit = _points(max_drop)
    load_job(path)
    template = yaml.safe_load(path.read_text(encoding="utf-8"))
    api, watcher, own_namespace = connect()
    where = namespace or template["metadata"].get("namespace") or own_namespace
    night = Night(api, watcher, Patience())
    found = None
    if day is None and started_by:
        found = job_started_by(night.series(where, series), started_by)
    if found is None:
        date = _date(day) if day is not None else tonight(time.time(), time_zone)
        found = night.start(dated_job(template, series, date, where, started_by))
    name = found["metadata"]["name"]
    log.info("night started", job=name, namespace=where)
    if not wait:
        return EXIT_OK
    try:
        ended = night.wait(found)
    except Gone as error:
        log.error("no night", error=error.message)
        return EXIT_INCONCLUSIVE
    verdict = night.judge(ended, series, limit, time.time())
    if verdict is None or phase_of(ended) != Phase.SUCCEEDED:
        log.error("the night failed", job=name)
        return EXIT_INCONCLUSIVE
    log.info("compared", job=name, reason=verdict.reason, message=verdict.message)
    if verdict.worse:
        return EXIT_WORSE
    no_score = ended["status"].get("score") is None
    return EXIT_INCONCLUSIVE if no_score and limit is not None else EXIT_OK


def _points(text: str | None) -> Decimal | None:
    try:
        points = None if text is None else Decimal(text)
    except InvalidOperation:
        points = Decimal("NaN")
    if points is not None and not (points.is_finite() and points >= 0):
        raise ConfigError(f"--max-drop {text!r}: must be a number of points, 0 or more")
    return points


def _date(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d")
    except ValueError as error:
        raise ConfigError(f"--date {text!r}: must be YYYY-MM-DD") from error
