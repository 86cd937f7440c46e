"""Structured logs on stderr: one JSON object a line, on a terminal a readable line.

Every line has what is known where it is logged: the process's own fields (`log_fields`: job, run),
and those of the work at hand (structlog's context variables: shard, attempt, row), which a thread
gets from the one that starts it by `contextvars.copy_context`.
"""

from __future__ import annotations

import logging
import os
import sys

import structlog

from neva.settings import settings

_process_fields: dict[str, str] = {}


def configure_logging() -> None:
    """Set up the process's logging once, at its start; foreign loggers go the same way."""
    level = logging.getLevelNamesMapping().get(settings().log_level.upper(), logging.INFO)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_process_fields,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    if _is_for_people():
        renderer: structlog.typing.Processor = structlog.dev.ConsoleRenderer(colors=_has_colors())
    else:
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for noisy in ("botocore", "boto3", "urllib3", "celery", "kombu", "amqp", "s3transfer"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))


def log_fields(**fields: str) -> None:
    """Have every line of this process, whatever its thread, and of those it forks say so."""
    _process_fields.update(fields)


def _is_for_people() -> bool:
    chosen = settings().log_format
    return sys.stderr.isatty() if chosen == "auto" else chosen == "console"


def _has_colors() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")  # https://no-color.org


def _add_process_fields(
    logger: structlog.typing.WrappedLogger, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    for name, value in _process_fields.items():
        event.setdefault(name, value)
    return event
