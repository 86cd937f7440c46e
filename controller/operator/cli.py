"""The command `operator`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import structlog
import typer

from controller.exits import EXIT_ERROR, EXIT_INVALID
from controller.operator.config import CONFIG_VARIABLE, load_config
from neva.errors import ConfigError, NevaError
from neva.logs import configure_logging
from neva.settings import settings

app = typer.Typer(add_completion=False)
log = structlog.get_logger()


@app.command()
def operator(
    config: Annotated[
        Path, typer.Option(envvar=CONFIG_VARIABLE, help="The operator's configuration, YAML.")
    ],
) -> None:
    """Run the VideoNevaJobs of a cluster. NEVA_REDIS_URL names the broker.

    Exit codes: 0 told to stop; 1 try again; 2 the configuration or the cluster is wrong.
    """
    from controller.operator.api import ClientTransport, KubeApi
    from controller.operator.runs import LedgerRuns
    from controller.operator.service import LeadershipLost, Service

    configure_logging()
    try:
        loaded = load_config(config)
        redis_url = settings().redis_url
        if redis_url is None:
            raise ConfigError("NEVA_REDIS_URL is not set: the operator needs a broker")
        api = KubeApi(ClientTransport.from_environment())
        runs = LedgerRuns(redis_url, grace_s=settings().lease_ttl_s)
        Service(loaded, api, runs).run()
    except LeadershipLost as error:
        log.error("operator ended", error=error.message)
        raise typer.Exit(EXIT_ERROR) from error
    except NevaError as error:
        log.error("operator ended", reason=error.reason, error=error.message)
        wrong = isinstance(error, ConfigError)
        raise typer.Exit(EXIT_INVALID if wrong else EXIT_ERROR) from error
