"""Series as Prometheus would have them: what was exported, with the labels of its target."""

from __future__ import annotations

import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from tests.dashboards.queries import Selector, pod_monitor

# What the Prometheus operator gives every series.
TARGET = {name: "any" for name in ("namespace", "pod", "container", "endpoint", "job", "instance")}
Labels = tuple[tuple[str, str], ...]


@dataclass
class Exported:
    """Last values by metric and labels."""

    series: dict[str, dict[Labels, float]] = field(default_factory=dict)

    def add(self, text: str, target: Mapping[str, str]) -> None:
        """A page, scraped from a target with these labels."""
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = tuple(sorted({**target, **sample.labels}.items()))
                self.series.setdefault(sample.name, {})[labels] = sample.value
        self.series.setdefault("up", {})[tuple(sorted(target.items()))] = 1.0

    def found(self, selector: Selector) -> list[dict[str, str]]:
        """Labels of the series that a selector selects."""
        series = self.series.get(selector.metric, {})
        return [
            labels
            for labels in map(dict, series)
            if all(
                _matches(labels.get(name, ""), op, value) for name, op, value in selector.matchers
            )
        ]

    def total(self, metric: str, **labels: str) -> float:
        """Sum over the series of a metric that have these labels."""
        wanted = labels.items()
        series = self.series.get(metric, {})
        return sum(value for found, value in series.items() if wanted <= dict(found).items())

    def page(self) -> str:
        """All of it again, the target's labels included, for a Prometheus that honours labels."""
        lines = []
        for name, series in self.series.items():
            if name != "up":
                for labels, value in series.items():
                    inside = ",".join(f'{k}="{_escaped(v)}"' for k, v in labels)
                    lines.append(f"{name}{{{inside}}} {value}")
        return "\n".join(lines) + "\n"


def _matches(label: str, op: str, value: str) -> bool:
    match op.rpartition(".")[2]:
        case "Equal":
            return label == value
        case "NotEqual":
            return label != value
        case "Re":
            return re.fullmatch(value, label) is not None
        case "NotRe":
            return re.fullmatch(value, label) is None
    raise AssertionError(op)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def pod_target(namespace: str, pod_labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that the chart's PodMonitor gives a pod's series."""
    (endpoint,) = pod_monitor()["podMetricsEndpoints"]
    meta = {"__meta_kubernetes_namespace": namespace}
    for name, value in pod_labels.items():
        meta[f"__meta_kubernetes_pod_label_{re.sub(r'[^a-zA-Z0-9_]', '_', name)}"] = value
    target = {**TARGET, "namespace": namespace}
    for rule in endpoint["relabelings"]:
        assert set(rule) == {"sourceLabels", "targetLabel"}, "only what is done here"
        target[rule["targetLabel"]] = ";".join(meta[name] for name in rule["sourceLabels"])
    return target


@contextmanager
def scraping(urls: Mapping[str, str], interval_s: float = 0.2) -> Iterator[dict[str, list[str]]]:
    """Read pages again and again while the block runs.

    Yields by the name of the URL every page that was unlike the one before.
    """
    pages: dict[str, list[str]] = {name: [] for name in urls}
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(interval_s):
            for name, url in urls.items():
                page = _get(url)
                if page and page not in pages[name][-1:]:
                    pages[name].append(page)

    thread = threading.Thread(target=run, name="scraping", daemon=True)
    thread.start()
    try:
        yield pages
    finally:
        stop.set()
        thread.join()


def _get(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None  # nobody serves there now
