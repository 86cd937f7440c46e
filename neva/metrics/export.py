"""Hands the sums out in Prometheus' text format, over HTTP where a port is set."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import structlog

from neva.http_server import Answer, HttpServer
from neva.metrics import of_pods
from neva.metrics.base import Exporter, Kind, Metric, Sample
from neva.metrics.catalog import METRICS
from neva.metrics.counting import Sums, add_sums, count_files, own_sums, read_counts
from neva.process import is_alive
from neva.settings import settings

log = structlog.get_logger()

_FOLDER_VARIABLE = "NEVA_METRICS_DIR"
_BY_NAME = {metric.name: metric for metric in METRICS}

Collect = Callable[[], Iterable[Sample]]
"""What is asked for at each scrape."""


class PodSums:
    """What all processes of a pod have counted, dead ones included, so that it never shrinks.

    Args:
        folder: of their files; None: this process is the only one.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._of_the_dead: Sums = {}
        self._lock = threading.Lock()

    def __call__(self) -> list[Sample]:
        with self._lock:
            total = own_sums()
            if self._folder is not None:
                add_sums(total, self._of_others(self._folder))
        return [Sample(_BY_NAME[name], value, labels) for (name, labels), value in total.items()]

    def _of_others(self, folder: Path) -> Sums:
        files = count_files(folder)
        # Asked before reading: who is dead by then writes no more.
        dead = [path for pid, path in files if not is_alive(pid)]
        add_sums(self._of_the_dead, read_counts(dead))
        for path in dead:
            path.unlink(missing_ok=True)
        total = read_counts(path for _, path in files if path not in dead)
        add_sums(total, self._of_the_dead)
        return total


def metrics_text(exporter: Exporter, samples: Iterable[Sample]) -> str:
    """The page. Counters whose series are known beforehand are there from the start, with 0: the
    first count would be no increase otherwise.
    """
    # Imported here: it costs more than a command that serves nothing should pay.
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector

    found = _with_zeros(exporter, samples)

    class Families(Collector):
        def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
            for metric, values in found.items():
                kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
                family = kind(metric.name, metric.help, labels=list(metric.labels))
                for labels, value in sorted(values.items()):
                    family.add_metric(labels, value)
                yield family

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Families())
    return generate_latest(registry).decode()


def _with_zeros(
    exporter: Exporter, samples: Iterable[Sample]
) -> dict[Metric, dict[tuple[str, ...], float]]:
    found: dict[Metric, dict[tuple[str, ...], float]] = {
        metric: dict.fromkeys(metric.known_series, 0.0) if metric.kind is Kind.COUNTER else {}
        for metric in METRICS
        if exporter in metric.by
    }
    found[of_pods.BUILD_INFO] = {(version("neva-batch"),): 1.0}
    for sample in samples:
        found.setdefault(sample.metric, {})[sample.labels] = sample.value
    return {metric: values for metric, values in found.items() if values}


@contextmanager
def serving_metrics(exporter: Exporter, folder: Path, collect: Collect = tuple) -> Iterator[None]:
    """Serve /metrics while the block runs, if NEVA_METRICS_PORT is set; else do nothing.

    The processes started meanwhile leave their counts in `folder`, which is made, and is the
    caller's to delete. A port that can't be had is logged: work does not depend on it.
    """
    port = settings().metrics_port
    if port is None:
        yield
        return
    sums = PodSums(folder)

    def page() -> Answer:
        return 200, metrics_text(exporter, [*sums(), *collect()])

    try:
        server = HttpServer(port, {"/metrics": page})
    except OSError as error:
        log.error("metrics are not served", port=port, error=str(error))
        yield
        return
    folder.mkdir(exist_ok=True)
    before = os.environ.get(_FOLDER_VARIABLE)
    os.environ[_FOLDER_VARIABLE] = str(folder)
    server.start()
    log.info("metrics are served", port=server.port)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FOLDER_VARIABLE]
        else:
            os.environ[_FOLDER_VARIABLE] = before
        server.stop()
