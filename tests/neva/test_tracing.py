"""Spans of a shard at work, as an OTLP collector gets them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from neva import tracing
from neva.errors import ConfigError
from neva.settings import settings
from neva.tracing import _provider, begin, check_tracing, flush, span
from tests.support.collector import Collector, attributes, collecting


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in tracing._ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    settings.cache_clear()
    _provider.cache_clear()
    yield
    settings.cache_clear()
    _provider.cache_clear()


def test_off_nothing_is_imported() -> None:
    code = (
        "import sys\n"  # of what uses it, Redis' client imports OpenTelemetry for itself
        "from neva.tracing import span, begin, flush, check_tracing\n"
        "check_tracing()\n"
        "with span('a', b=1): begin('c')()\n"
        "flush()\n"
        "ours = ('opentelemetry.sdk', 'opentelemetry.exporter')\n"
        "assert not [name for name in sys.modules if name.startswith(ours)]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_traces_without_a_destination_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEVA_TRACING", "true")
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        check_tracing()


def test_traces_without_the_extra_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEVA_TRACING", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"neva-batch\[tracing\]"):
        check_tracing()


def test_spans_reach_the_collector_with_their_parents_and_attributes(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEVA_TRACING", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    check_tracing()
    with pytest.raises(ValueError, match="no"), span("shard", shard=3, attempt=1):
        end = begin("engine request", row="17")
        with span("commit"):
            pass
        end()
        raise ValueError("no")
    flush()
    provider = _provider()
    assert provider is not None
    provider.shutdown()
    assert set(collector.paths) == {"/v1/traces"}
    assert collector.services == {"neva-batch"}
    (shard,) = collector.named("shard")
    for name in ("engine request", "commit"):
        (child,) = collector.named(name)
        assert child.parent_span_id == shard.span_id
        assert child.trace_id == shard.trace_id
    assert attributes(shard) == {"neva.shard": 3, "neva.attempt": 1}
    assert attributes(collector.named("engine request")[0]) == {"neva.row": "17"}
    assert [event.name for event in shard.events] == ["exception"]
