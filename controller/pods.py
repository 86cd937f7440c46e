"""The commands of a cluster's CPU pods: `prepare` before the workers, `finish` after them.

Both read the job from NEVA_JOB, look at the ledger first and can be killed and run again at any
moment. Their last words tell the operator, and `kubectl describe pod`, why they failed.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import structlog
import typer

from controller.exits import EXIT_ERROR, EXIT_INVALID, EXIT_OK, EXIT_ROWS_FAILED
from controller.finish import Stages, finish_run
from controller.start import Refused, check_same_run, start_run
from controller.summary import SUCCEEDED, is_finished, read_summary
from neva.errors import ConfigError, NevaError
from neva.ledger import Ledger, layout
from neva.ledger.control import Control, Order
from neva.logs import configure_logging, log_fields
from neva.metrics import of_pods
from neva.metrics.base import Exporter
from neva.metrics.counting import count
from neva.metrics.export import serving_metrics
from neva.pod import job_of_environment, leave_last_words
from neva.process import private_temporary_files
from neva.reasons import Reason
from neva.spec import VideoNevaJob
from neva.store import open_store
from neva.tracing import check_tracing

prepare_app = typer.Typer(add_completion=False)
finish_app = typer.Typer(add_completion=False)
log = structlog.get_logger()

_CODES_HELP = "Exit codes: 0 done; 1 try again; 2 wrong configuration; 3 too many bad rows."


@prepare_app.command(help=f"Validate the job in NEVA_JOB and split it. {_CODES_HELP}")
def prepare() -> None:
    _run(prepare_job, Exporter.PREPARE)


@finish_app.command(help=f"Merge, report and judge the job in NEVA_JOB. {_CODES_HELP}")
def finish() -> None:
    _run(finish_job, Exporter.FINISH)


@private_temporary_files("neva-pod")
def prepare_job(job: VideoNevaJob) -> int:
    """Fix the run of `job`, unless it is fixed already. Returns the exit code.

    Raises as `start_run`.
    """
    ledger = Ledger(open_store(job.spec.output.uri))
    _refuse_cancelled(ledger)
    manifest = ledger.read_manifest()
    if manifest is not None:
        check_same_run(job, ledger, manifest)
        log.info("prepared already", run=manifest.run_id)
        return EXIT_OK
    counts: Counter[str] = Counter()
    firsts: list[dict[str, Any]] = []

    def tell_rejected(num_rejected: int, errors: Iterator[dict[str, Any]]) -> None:
        for error in errors:
            counts[error["reason"]] += 1
            count(of_pods.ROWS_REJECTED, error["reason"])
            if not firsts:
                firsts.append(error)

    started = start_run(job, ledger, tell_rejected)
    if isinstance(started, Refused):
        words = _refusal(started, counts, firsts[0], ledger.store.uri_of(layout.ERRORS))
        return _refuse(Reason.TOO_MANY_BAD_ROWS, words)
    log.info("prepared", run=started.run_id, rows=started.num_rows, rejected=started.num_rejected)
    return EXIT_OK


@private_temporary_files("neva-pod")
def finish_job(job: VideoNevaJob) -> int:
    """Bring the run of `job` to its end, unless it is there. Returns the exit code.

    Raises as `finish_run`.
    """
    ledger = Ledger(open_store(job.spec.output.uri))
    manifest = ledger.read_manifest()
    if manifest is None:
        raise ConfigError(f"{ledger.store.uri_of(layout.MANIFEST)} does not exist: no run there")
    check_same_run(job, ledger, manifest)
    if not is_finished(ledger.store, job):
        _refuse_cancelled(ledger)
    summary = read_summary(ledger.store) if is_finished(ledger.store, job) else None
    if summary is None:
        with tempfile.TemporaryDirectory(prefix="neva-finish-") as folder:
            job_file = Path(folder) / "job.json"
            job_file.write_bytes(orjson.dumps(job.model_dump(mode="json", by_alias=True)))
            summary = finish_run(job, job_file, ledger, manifest, Stages())
    log.info("finished", run=manifest.run_id, state=summary["state"])
    if summary["state"] == SUCCEEDED:
        return EXIT_OK
    counts = ", ".join(f"{n} {reason}" for reason, n in summary["failed_by_reason"].items())
    words = (
        f"{summary['failed']} of {summary['rows']} rows failed, more than failure.failOnError "
        f"({summary['fail_on_error']}) lets pass: {counts}"
    )
    return _refuse(Reason.TOO_MANY_FAILED_ROWS, words)


def _refuse_cancelled(ledger: Ledger) -> None:
    """A cancelled run is over. A suspended one has no workers; what pods do is short and goes on.

    Raises:
        ConfigError: CANCELLED.
    """
    if Control(ledger.store).look().order is Order.CANCEL:
        raise ConfigError(f"{ledger.store.base_uri} was cancelled", reason=Reason.CANCELLED)


def _refusal(refused: Refused, counts: Counter[str], first: dict[str, Any], errors_uri: str) -> str:
    by_reason = ", ".join(f"{n} {reason}" for reason, n in counts.most_common())
    return (
        f"{refused.num_rejected} of {refused.num_rows} rows are bad, more than "
        f"failure.failOnError lets pass: {by_reason}; the first is line {first['line']}: "
        f"{first['message']}; all are in {errors_uri}"
    )


def _refuse(reason: Reason, words: str) -> int:
    log.error("rows are bad", reason=reason, error=words)
    leave_last_words(reason, words)
    return EXIT_ROWS_FAILED


def _run(command: Callable[[VideoNevaJob], int], exporter: Exporter) -> None:
    configure_logging()
    try:
        with private_temporary_files("neva-metrics"):
            metrics_dir = Path(tempfile.mkdtemp(prefix="metrics-"))
            with serving_metrics(exporter, metrics_dir):
                check_tracing()
                job = job_of_environment()
                log_fields(job=job.metadata.name)
                code = command(job)
    except NevaError as error:
        log.error("failed", reason=error.reason, error=error.message)
        leave_last_words(error.reason, error.message)
        code = EXIT_INVALID if isinstance(error, ConfigError) else EXIT_ERROR
    raise typer.Exit(code)
