"""Spans of a shard at work, as an OTLP collector gets them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from neva import tracing
from neva.errors import ConfigError
from neva.settings import settings
from neva.tracing import _provider, begin, check_tracing, flush, span


@dataclass
class Collector:
    """An OTLP/HTTP receiver on this machine."""

    url: str
    paths: list[str] = field(default_factory=list)
    services: set[str] = field(default_factory=set)
    spans: dict[str, Span] = field(default_factory=dict)

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            attributes = {a.key: a.value.string_value for a in resource.resource.attributes}
            self.services.add(attributes["service.name"])
            for scope in resource.scope_spans:
                self.spans.update({one.name: one for one in scope.spans})

    def attributes(self, name: str) -> dict[str, str | int]:
        found = {a.key: a.value for a in self.spans[name].attributes}
        return {k: v.string_value or v.int_value for k, v in found.items()}


@pytest.fixture
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.paths.append(self.path)
            found.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    found = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


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
    shard = collector.spans["shard"]
    for name in ("engine request", "commit"):
        assert collector.spans[name].parent_span_id == shard.span_id
        assert collector.spans[name].trace_id == shard.trace_id
    assert collector.attributes("shard") == {"neva.shard": 3, "neva.attempt": 1}
    assert collector.attributes("engine request") == {"neva.row": "17"}
    assert [event.name for event in shard.events] == ["exception"]
