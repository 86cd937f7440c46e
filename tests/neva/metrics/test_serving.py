"""The page that a pod serves."""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from neva.http_server import HttpServer
from neva.metrics import of_workers
from neva.metrics.base import Exporter, Sample
from neva.metrics.export import serving_metrics
from neva.settings import settings
from tests.support.processes import free_port


@pytest.fixture(autouse=True)
def _fresh_settings() -> Iterator[None]:
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_pages_are_served_by_path() -> None:
    server = HttpServer(0, {"/healthz": lambda: (200, "ok\n"), "/readyz": lambda: (503, "no\n")})
    server.start()
    base = f"http://127.0.0.1:{server.port}"
    assert urllib.request.urlopen(f"{base}/healthz").read() == b"ok\n"
    for path, status in (("/readyz", 503), ("/secret", 404)):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(base + path)
        assert caught.value.code == status
        caught.value.close()
    server.stop()


def test_without_a_port_nothing_is_served_or_left(tmp_path: Path) -> None:
    with serving_metrics(Exporter.WORKER, tmp_path / "m"):
        assert "NEVA_METRICS_DIR" not in os.environ
    assert list(tmp_path.iterdir()) == []


def test_a_port_serves_what_is_asked_for_at_each_scrape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("NEVA_METRICS_PORT", str(port))
    numbers = iter((1, 2))
    collect = lambda: [Sample(of_workers.SHARDS_IN_WORK, next(numbers))]  # noqa: E731
    with serving_metrics(Exporter.WORKER, tmp_path / "m", collect):
        assert os.environ["NEVA_METRICS_DIR"] == str(tmp_path / "m")
        for expected in ("1.0", "2.0"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                assert f"neva_shards_in_work {expected}" in answer.read().decode()
    assert "NEVA_METRICS_DIR" not in os.environ


def test_a_port_that_is_taken_stops_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("", 0), family=socket.AF_INET) as taken:
        monkeypatch.setenv("NEVA_METRICS_PORT", str(taken.getsockname()[1]))
        with serving_metrics(Exporter.WORKER, tmp_path / "m"):
            assert "NEVA_METRICS_DIR" not in os.environ
