"""The commands `judge` and `report`. Mounted lazily into `neva`, so nothing heavy is imported here.

Exit codes: 0 done (questions without a verdict are counted and shown), 1 the store failed,
2 wrong input, key, model or endpoint, 4 not one verdict could be had.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, cast

import typer

from judge.modes import Mode
from neva.errors import ConfigError, NevaError
from neva.reasons import Reason
from neva.say import Format, FormatOption, errors_as_exit_codes, rendered, tell, tell_error
from neva.targets import (
    JobOnCluster,
    NamespaceOption,
    TargetArgument,
    job_of,
    output_of,
    parse_target,
    read_job,
)

if TYPE_CHECKING:
    from types import FrameType

    from judge.asking import Progress
    from judge.inputs import InputFiles
    from judge.run import JudgeSettings
    from neva.spec import VideoNevaJob
    from neva.store import Store

EXIT_NO_VERDICT = 4
API_KEY_VARIABLE = "API_TOKEN"

# `neva` mounts each command by itself; `python -m judge` has both.
app = typer.Typer(no_args_is_help=True, add_completion=False)
judge_app = typer.Typer(add_completion=False)
report_app = typer.Typer(add_completion=False)


@judge_app.command()
@app.command()
def judge(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="OUT",
            help="Judge this run, or this job of the cluster (vnj/NAME), as its job says.",
        ),
    ] = None,
    namespace: NamespaceOption = None,
    job: Annotated[Path | None, typer.Option(help="Job file: judge this job's answers.")] = None,
    output: Annotated[
        str | None, typer.Option(help="Without a job: where answers lie and reviews go.")
    ] = None,
    question_file: Annotated[str | None, typer.Option(help="Questions, JSON Lines.")] = None,
    answers: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=URI",
            help="Answer file; each further one is compared with the first. With one, answer 2 is "
            "the output's.",
        ),
    ] = None,
    context_file: Annotated[str | None, typer.Option(help="Captions of the media.")] = None,
    rule_file: Annotated[str | None, typer.Option(help="Rubric, in LLaVA's structure.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="OpenAI-compatible base URL.")] = None,
    model: Annotated[str | None, typer.Option(help="Model that judges.")] = None,
    mode: Annotated[
        Mode | None, typer.Option(help="Scores 1-10, verdict A/B/tie, single answers, reference.")
    ] = None,
    both_orders: Annotated[
        bool | None, typer.Option("--both-orders/--no-both-orders", help="Ask in both orders.")
    ] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Most requests at once.")] = None,
    retry_failed: Annotated[
        bool, typer.Option(help="Ask again where the reply held no verdict.")
    ] = False,
    form: FormatOption = Format.TEXT,
) -> None:
    """Have a judge score answers; the API key comes from the variable API_TOKEN."""
    from judge.job import judge_files
    from judge.table import scores_table
    from neva.store import open_store

    with errors_as_exit_codes():
        files, settings, output_uri = _comparison(
            None if target is None else _job_at(target, namespace),
            job,
            output,
            question_file,
            answers or [],
            context_file,
            rule_file,
        )
        files = files if mode is None else replace(files, mode=mode)
        settings = _changed(settings, endpoint, model, both_orders, concurrency)
        settings = replace(settings, retry_failed=retry_failed)
        with sigterm_as_exit(), progress_bar() as progress:
            judged = judge_files(
                files,
                settings,
                store=open_store(output_uri),
                api_key=os.environ.get(API_KEY_VARIABLE),
                progress=progress,
            )
    from rich.console import Console

    records = [judged.record, *judged.record["others"]]
    num_judged, num_failed = (
        sum(record[key] for record in records) for key in ("num_judged", "num_failed")
    )
    if form is Format.TEXT:
        for record in records:
            Console().print(scores_table(record))
        typer.echo(f"judged={num_judged} failed={num_failed} scores and report: {output_uri}")
    else:
        typer.echo(rendered(judged.record, form))
    if not num_judged:
        end_without_verdict(open_store(output_uri))


@report_app.command()
@app.command()
def report(
    target: TargetArgument,
    namespace: NamespaceOption = None,
    name: Annotated[str | None, typer.Option(help="Title; the job's name by default.")] = None,
    form: FormatOption = Format.TEXT,
) -> None:
    """Write report.html for a run, judged or not."""
    from judge.report.render import write_report
    from neva.store import open_store

    with errors_as_exit_codes():
        uri = write_report(open_store(output_of(target, namespace)), name)
    if form is Format.TEXT:
        typer.echo(uri)
    tell({"report": uri}, form)


def end_without_verdict(store: Store) -> NoReturn:
    """Say why there is none, in the words of the first review, and end the command."""
    import orjson

    from judge.reviews import REVIEWS

    words, reason = "not one verdict could be had", None
    for review in map(orjson.loads, store.get(REVIEWS).splitlines()):
        if review.get("reason"):
            words, reason = f"{words}: {review['message']}", Reason(review["reason"])
            break
    raise typer.Exit(tell_error(NevaError(words, reason=reason), EXIT_NO_VERDICT))


def _job_at(target: str, namespace: str | None) -> VideoNevaJob:
    """The job of a run, as its manifest or the cluster has it."""
    from neva.job_file import parse_job
    from neva.ledger import Ledger, layout
    from neva.store import open_store

    place = parse_target(target, namespace)
    if isinstance(place, JobOnCluster):
        return job_of(read_job(place), place.words)
    store = open_store(place)
    manifest = Ledger(store).read_manifest()
    if manifest is None:
        raise ConfigError(f"{store.uri_of(layout.MANIFEST)} does not exist: no run there")
    return parse_job(dict(manifest.job), store.uri_of(layout.MANIFEST))


def _comparison(
    run: VideoNevaJob | None,
    job: Path | None,
    output: str | None,
    question_file: str | None,
    answers: list[str],
    context_file: str | None,
    rule_file: str | None,
) -> tuple[InputFiles, JudgeSettings, str]:
    """Inputs, settings and output URI, from a job file or from the options."""
    from judge.inputs import InputFiles, NamedAnswers
    from judge.job import job_files, job_settings, name_of, outputs_uri
    from judge.run import JudgeSettings
    from neva.job_file import load_job
    from neva.spec_judge import Judge

    if run is not None and job is not None:
        raise ConfigError("OUT has its own job: leave --job out, or OUT")
    if run is not None or job is not None:
        if output or question_file or answers or context_file or rule_file:
            raise ConfigError("a job names all files itself: leave the other file options out")
        loaded = run or load_job(cast("Path", job))
        return job_files(loaded), job_settings(loaded), loaded.spec.output.uri
    if not output or not question_file or not answers:
        raise ConfigError("give OUT, or --job, or --output, --question-file and --answers")
    first, *others = (NamedAnswers(*_name_and_uri(text)) for text in answers)
    if not others:
        others.append(NamedAnswers(name_of(outputs_uri(output)), outputs_uri(output)))
    pairs = tuple((first, other) for other in others)
    files = InputFiles(question_file, pairs, context_file, rule_file)
    fields = Judge.model_fields
    settings = JudgeSettings(model=fields["model"].default, endpoint=fields["endpoint"].default)
    return files, settings, output


def _name_and_uri(text: str) -> tuple[str, str]:
    name, separator, uri = text.partition("=")
    if not separator or not name or not uri:
        raise ConfigError(f"--answers {text!r}: write NAME=URI")
    return name, uri


def _changed(
    settings: JudgeSettings,
    endpoint: str | None,
    model: str | None,
    both_orders: bool | None,
    concurrency: int | None,
) -> JudgeSettings:
    check_endpoint(endpoint)
    return replace(
        settings,
        endpoint=endpoint or settings.endpoint,
        model=model or settings.model,
        both_orders=settings.both_orders if both_orders is None else both_orders,
        limits=replace(settings.limits, concurrency=concurrency or settings.limits.concurrency),
    )


def check_endpoint(endpoint: str | None) -> None:
    """Raises ConfigError for what is no URL of a server."""
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise ConfigError(f"--endpoint {endpoint!r}: must start with http:// or https://")


@contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """SIGTERM unwinds the stack, so that replies already paid for are written."""

    def leave(signum: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + signum)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar for whoever watches a terminal; nothing in a pipe."""
    from time import monotonic

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from neva.rate import RateWindow, time_left

    console = Console(stderr=True)
    columns = (TextColumn("judging"), BarColumn(), MofNCompleteColumn())
    words = (TextColumn("{task.fields[rate]}"), TextColumn("[red]{task.fields[failed]}"))
    rates = RateWindow()
    with Progress(
        *columns, *words, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("judge", total=None, failed="", rate="")

        def show(done: int, total: int, num_failed: int) -> None:
            rates.add(monotonic(), done)
            rate, eta_s = rates.rows_per_s, rates.eta_s(total - done)
            speed = f"{rate:.1f} reviews/s, {time_left(eta_s)}" if rate and eta_s else ""
            failed = f"{num_failed} failed" if num_failed else ""
            bar.update(task, completed=done, total=total, rate=speed, failed=failed)

        yield show
