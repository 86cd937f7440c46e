"""The command `submit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from controller.submit.body import body_of, body_of_config
from neva.errors import ConfigError
from neva.extras import install_words
from neva.job_file import read_job_data
from neva.say import Format, FormatOption, errors_as_exit_codes, rendered
from neva.targets import import_kube

submit_app = typer.Typer(add_completion=False)


@submit_app.command()
def submit(
    job: Annotated[
        list[str],
        typer.Argument(metavar="JOB.yaml | KEY=VALUE…", help="A job file, or Hydra's overrides."),
    ],
    config_path: Annotated[
        str | None, typer.Option("--config-path", "-cp", help="As of `neva evaluate`.")
    ] = None,
    config_name: Annotated[
        str | None, typer.Option("--config-name", "-cn", help="As of `neva evaluate`.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The job's name, of a configuration.")] = None,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", help="The file's, or else the kubeconfig's, by default."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the job; no cluster is asked.")
    ] = False,
    form: FormatOption = Format.TEXT,
    force_conflicts: Annotated[
        bool, typer.Option("--force-conflicts", help="Take fields over that others have set.")
    ] = False,
) -> None:
    """Apply a job to the cluster that kubectl would ask here.

    Either a job file, or with --config-name=neva_inference.yaml what
    `neva evaluate` takes, all paths being s3:// URIs. --dry-run -o yaml
    prints the job instead.

    Exit codes: 0 applied, or printed; 1 the cluster can't be reached, try
    again; 2 the job is wrong, or the cluster refuses it.
    """
    with errors_as_exit_codes():
        body = _body(job, config_path, config_name, name)
        if namespace is not None:
            body["metadata"]["namespace"] = namespace
        if dry_run:
            typer.echo(rendered(body, Format.YAML if form is Format.TEXT else form))
            return
        applied, words = _apply(body, force_conflicts)
        typer.echo(words, err=True)
        if form is not Format.TEXT:
            typer.echo(rendered(applied, form))


def _body(
    words: list[str], config_path: str | None, config_name: str | None, name: str | None
) -> dict[str, Any]:
    if config_path is None and config_name is None:
        if len(words) != 1 or ("=" in words[0] and not Path(words[0]).exists()):
            raise ConfigError(
                "expected one job file; KEY=VALUE needs --config-name=neva_inference.yaml"
            )
        if name is not None:
            raise ConfigError("--name is for configurations; a job file has its name in metadata")
        return body_of(read_job_data(Path(words[0])), words[0])
    try:
        from controller.evaluate.config import DEFAULT_NAME, DEFAULT_PATH, read_config
        from controller.evaluate.to_job import asked_by
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{error.name} is not installed here, and a configuration is read by it: "
            f"{install_words('evaluate')}; or submit a job file"
        ) from error

    config = read_config(config_path or DEFAULT_PATH, config_name or DEFAULT_NAME, words)
    asked = asked_by(config.data, str(config.file))
    for note in (*config.notes, *asked.notes):
        typer.echo(note, err=True)
    body = body_of_config(asked, name, str(config.file))
    typer.echo(f"answers: {body['spec']['output']['uri']}outputs.jsonl", err=True)
    return body


def _apply(body: dict[str, Any], force: bool) -> tuple[dict[str, Any], str]:
    import_kube()
    from controller.cluster.jobs import UsersCluster
    from controller.submit.apply import apply_job

    cluster = UsersCluster(body["metadata"].get("namespace"))
    body["metadata"]["namespace"] = cluster.namespace
    return apply_job(cluster, body, force=force)
