"""The command `evaluate`: NeMo's neva_evaluation.py by its own command line."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from controller.evaluate.answers import write_answers
from controller.evaluate.as_they_come import AnswersAsTheyCome
from controller.evaluate.config import DEFAULT_NAME, DEFAULT_PATH, ReadConfig, read_config
from controller.evaluate.devices import count_gpus, runs_on_cpu
from controller.evaluate.places import answers_file, named_tower, run_folder, stem_of
from controller.evaluate.to_job import Asked, asked_by, job_name
from controller.exits import EXIT_OK, EXIT_ROWS_FAILED
from controller.local.cli import is_told, run_data, run_job
from controller.summary import read_summary
from neva.job_file import parse_job, with_absolute_paths
from neva.ledger import Ledger
from neva.say import Format, FormatOption, errors_as_exit_codes, tell
from neva.spec import VideoNevaJob
from neva.store import open_store

evaluate_app = typer.Typer(add_completion=False)

ConfigPath = Annotated[
    str, typer.Option("--config-path", "-cp", help="Folder of the configuration.")
]
ConfigName = Annotated[str, typer.Option("--config-name", "-cn", help="Its file there.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE…", help="Hydra's overrides, +KEY=VALUE and ~KEY, too."),
]


@evaluate_app.command()
def evaluate(
    overrides: Overrides = None,
    config_path: ConfigPath = DEFAULT_PATH,
    config_name: ConfigName = DEFAULT_NAME,
    form: FormatOption = Format.TEXT,
) -> None:
    """Answer a prompt file, as NeMo's neva_evaluation.py by its command line.

    Needed are neva_model_file=PATH, prompt_file=PATH, output_file=PATH and
    inference.media_base_path=PATH; conf/neva_inference.yaml tells of every key
    what it means. trainer.accelerator=cpu is for machines without a GPU.

    Answers go to output_file and, one by one as they come, to stdout, where
    with -o json|yaml only the end is told. Killed, the same command goes on.
    Exit codes are those of `neva run`.
    """
    with errors_as_exit_codes():
        raise typer.Exit(_evaluate(read_config(config_path, config_name, overrides or []), form))


def _evaluate(config: ReadConfig, form: Format) -> int:
    asked = asked_by(config.data, str(config.file))
    for note in (*config.notes, *asked.notes):
        typer.echo(note, err=True)
    file = answers_file(asked.output_file)
    on_cpu = runs_on_cpu(asked.devices, count_gpus)
    job = _with_run_folder(asked, file, on_cpu, str(config.file))
    typer.echo(f"run: {job.spec.output.uri}, which neva status tells about", err=True)
    with tempfile.TemporaryDirectory(prefix="neva-evaluate-") as folder:
        path = Path(folder) / "job.yaml"
        data = job.model_dump(mode="json", by_alias=True, exclude_unset=True)
        path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
        printer = AnswersAsTheyCome(job.spec.model.compat.output_format, _write)
        code = run_job(path, printer.look if form is Format.TEXT else None)
    ledger = Ledger(open_store(job.spec.output.uri))
    is_merged = code in (EXIT_OK, EXIT_ROWS_FAILED) and read_summary(ledger.store) is not None
    written: dict[str, Any] = {"outputFile": None, "answers": None}
    if is_merged:
        num_answers = write_answers(ledger.store, file)
        written = {"outputFile": file, "answers": num_answers}
        if form is Format.TEXT:
            printer.finish(ledger)
        output_format = job.spec.model.compat.output_format
        typer.echo(f"{num_answers} answers: {file} ({output_format})", err=True)
    else:
        typer.echo(f"{file} was not written{_way_out(code)}", err=True)
    if form is not Format.TEXT and is_told(code):
        tell({**written, "run": run_data(job.spec.output.uri)}, form)
    return code


def _write(text: str) -> None:
    """At once: it is followed. A reader who has seen enough does not end the run."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # all that is still to come goes nowhere, Python's last flush, too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _with_run_folder(asked: Asked, file: str, on_cpu: bool, source: str) -> VideoNevaJob:
    """The job with all that is found out on this machine. Raises ConfigError."""

    def job_with(output_uri: str) -> VideoNevaJob:
        data = asked.job(job_name(stem_of(file)), output_uri, on_cpu=on_cpu)
        return parse_job(with_absolute_paths(data, Path.cwd()), source)

    tower = named_tower(job_with(file).spec.model)
    if tower is not None:
        typer.echo(f"vision_encoder={tower}, as the checkpoint names it", err=True)
        asked.spec["model"]["visionEncoder"] = tower
    return job_with(run_folder(file, job_with(file).spec))


def _way_out(code: int) -> str:
    if code != EXIT_ROWS_FAILED:
        return ""
    return "; fail_on_error=N lets N rows fail, or that share of them"
