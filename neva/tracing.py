"""OpenTelemetry traces, off unless NEVA_TRACING is true: one trace for each attempt at a shard, and
one for each request to the judge.

Off, a span costs a function call and imports nothing. On, spans go by OTLP over HTTP to where the
standard variables say (OTEL_EXPORTER_OTLP_ENDPOINT and its kin); needs the extra `tracing`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from neva.errors import ConfigError
from neva.extras import install_words
from neva.settings import settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_FLUSH_LIMIT_MS = 2000


def check_tracing() -> None:
    """At a process's start: complain now, not at the first span.

    Raises:
        ConfigError: traces are asked for, and can't be had so.
    """
    if not settings().tracing:
        return
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        raise ConfigError(f"NEVA_TRACING is true, and no {_ENDPOINTS[0]} says where traces go")
    _provider()


@contextmanager
def span(name: str, **attributes: str | int) -> Iterator[None]:
    """A span around the block, a child of the one around it. An error that leaves it is told."""
    provider = _provider()
    if provider is None:
        yield
        return
    tracer = provider.get_tracer("neva")
    with tracer.start_as_current_span(name, attributes=_named(attributes)):
        yield


def begin(name: str, **attributes: str | int) -> Callable[[], None]:
    """Begin a span that no block has around it; call what is returned to end it."""
    provider = _provider()
    if provider is None:
        return _nothing
    return provider.get_tracer("neva").start_span(name, attributes=_named(attributes)).end


def flush() -> None:
    """Send what waits, for at most two seconds: for processes that end without their exit hooks."""
    provider = _provider()
    if provider is not None:
        provider.force_flush(_FLUSH_LIMIT_MS)


def _nothing() -> None:
    """The end of no span."""


def _named(attributes: dict[str, str | int]) -> dict[str, str | int]:
    return {f"neva.{name}": value for name, value in attributes.items()}


@lru_cache(maxsize=1)
def _provider() -> TracerProvider | None:
    if not settings().tracing:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"NEVA_TRACING is true, and {error.name} is not installed: {install_words('tracing')}"
        ) from error
    named = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": "neva-batch"}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


# The thread that sends spans is not forked along.
os.register_at_fork(after_in_child=_provider.cache_clear)
