"""The command `worker`: the entry point of a worker pod."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated

import structlog
import typer

from neva.errors import ConfigError, NevaError
from neva.logs import configure_logging
from neva.settings import settings
from worker.engine.launch import EXIT_CONFIG
from worker.supervisor import Overrides, Supervisor

app = typer.Typer(add_completion=False)
log = structlog.get_logger()


@app.command()
def worker(
    output: Annotated[str, typer.Option(help="The run's output.uri; its manifest must exist.")],
    tensor_parallel_size: Annotated[
        int | None, typer.Option(min=1, help="Instead of the manifest's.")
    ] = None,
    pipeline_parallel_size: Annotated[
        int | None, typer.Option(min=1, help="Instead of the manifest's.")
    ] = None,
    max_attempts: Annotated[
        int | None, typer.Option(min=1, help="Instead of the manifest's.")
    ] = None,
    cpu: Annotated[
        bool, typer.Option("--cpu", help="Run on CPU even where there is a GPU.")
    ] = False,
) -> None:
    """Answer shards until told to stop. NEVA_REDIS_URL names the broker.

    Exit codes: 0 drained; 1 try again; 64 wrong configuration, trying again is no use.
    """
    configure_logging()
    try:
        redis_url = settings().redis_url
        if redis_url is None:
            raise ConfigError("NEVA_REDIS_URL is not set: a worker needs a broker")
        overrides = Overrides(
            tensor_parallel_size=tensor_parallel_size,
            pipeline_parallel_size=pipeline_parallel_size,
            max_attempts=max_attempts,
            device="cpu" if cpu else None,
        )
        Supervisor(output, redis_url, overrides).run()
    except NevaError as error:
        log.error("worker failed", reason=error.reason, error=error.message)
        _leave_last_words(error)
        raise typer.Exit(EXIT_CONFIG if isinstance(error, ConfigError) else 1) from error


def _leave_last_words(error: NevaError) -> None:
    """Kubernetes shows this file's text as the reason why the pod ended."""
    named = os.environ.get("NEVA_TERMINATION_LOG")
    path = Path(named or "/dev/termination-log")
    if named or path.exists():
        with contextlib.suppress(OSError):
            path.write_text(f"{error.reason}: {error.message}\n", encoding="utf-8")
