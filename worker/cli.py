"""The command `worker`: the entry point of a worker pod."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import structlog
import typer

from neva.errors import ConfigError, NevaError
from neva.logs import configure_logging
from neva.pod import job_of_environment, leave_last_words
from neva.settings import settings
from neva.tracing import check_tracing
from worker.engine.launch import EXIT_CONFIG
from worker.supervisor import Ended, Overrides, Supervisor

app = typer.Typer(add_completion=False)
log = structlog.get_logger()

# A drained worker has not done its work: a Job must not count it as a success.
EXIT_DRAINED = 143
EXIT_STOPPED = 4  # the run is suspended or cancelled: nothing is to be done


@app.command()
def worker(
    output: Annotated[
        str | None, typer.Option(help="The run's output.uri; NEVA_JOB's by default.")
    ] = None,
    tensor_parallel_size: Annotated[
        int | None, typer.Option(min=1, help="Instead of NEVA_JOB's or the manifest's.")
    ] = None,
    pipeline_parallel_size: Annotated[
        int | None, typer.Option(min=1, help="Instead of NEVA_JOB's or the manifest's.")
    ] = None,
    max_attempts: Annotated[
        int | None, typer.Option(min=1, help="Instead of NEVA_JOB's or the manifest's.")
    ] = None,
    cpu: Annotated[
        bool, typer.Option("--cpu", help="Run on CPU even where there is a GPU.")
    ] = False,
    until_done: Annotated[
        bool,
        typer.Option("--until-done", help="End when every shard is done or with somebody else."),
    ] = False,
) -> None:
    """Answer shards until told to stop. NEVA_REDIS_URL names the broker.

    Exit codes: 0 drained (with --until-done: nothing left to do here); 1 try again; 64 wrong
    configuration, trying again is no use; 143 with --until-done: told to stop before the end;
    4: the run is suspended or cancelled (0 with --until-done: there is nothing to do).
    """
    configure_logging()
    try:
        check_tracing()
        options = Overrides(
            tensor_parallel_size=tensor_parallel_size,
            pipeline_parallel_size=pipeline_parallel_size,
            max_attempts=max_attempts,
        )
        ended = _supervise(output, options, cpu, until_done)
    except NevaError as error:
        log.error("worker failed", reason=error.reason, error=error.message)
        leave_last_words(error.reason, error.message)
        raise typer.Exit(EXIT_CONFIG if isinstance(error, ConfigError) else 1) from error
    log.info("worker ended", why=ended.value)
    if until_done and ended is Ended.TOLD:
        raise typer.Exit(EXIT_DRAINED)
    if ended is Ended.STOPPED and not until_done:
        raise typer.Exit(EXIT_STOPPED)


def _supervise(output: str | None, options: Overrides, cpu: bool, until_done: bool) -> Ended:
    redis_url = settings().redis_url
    if redis_url is None:
        raise ConfigError("NEVA_REDIS_URL is not set: a worker needs a broker")
    if settings().job is not None:
        spec = job_of_environment().spec
        output = output or spec.output.uri
        model = spec.model
        options = Overrides(
            tensor_parallel_size=options.tensor_parallel_size or model.tensor_parallel_size,
            pipeline_parallel_size=options.pipeline_parallel_size or model.pipeline_parallel_size,
            max_attempts=options.max_attempts or spec.failure.max_attempts,
        )
        cpu = cpu or spec.workers.gpus_per_worker == 0
    if output is None:
        raise ConfigError("--output is missing, and NEVA_JOB is not set")
    overrides = replace(options, device="cpu" if cpu else None)
    return Supervisor(output, redis_url, overrides, until_done=until_done).run()
