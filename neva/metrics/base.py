"""What a metric is, as plain data. Names and units follow Prometheus' conventions.

https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import product


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"


class Exporter(StrEnum):
    """A process with a port."""

    WORKER = "worker"
    PREPARE = "prepare"
    FINISH = "finish"
    OPERATOR = "operator"


EVERYWHERE = frozenset(Exporter)

LabelValues = tuple[str, ...]
ANY: LabelValues = ()  # of a label whose values are many, or not known before


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: as it is exported; a counter's ends in `_total`.
        unit: of a value, for people.
        labels: by name, with their values where these are few and known; else ANY. Of the label
            `reason` rarer ones may come; a counter has the known ones from the start.
        by: who exports it.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    by: frozenset[Exporter]
    labels: dict[str, LabelValues] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def known_series(self) -> list[LabelValues]:
        """The label values of the series to begin with; [] where they are not known before."""
        if not all(self.labels.values()):
            return []
        return list(product(*self.labels.values()))


def counter(
    name: str,
    unit: str,
    words: str,
    by: frozenset[Exporter],
    labels: dict[str, LabelValues] | None = None,
) -> Metric:
    return Metric(name, Kind.COUNTER, unit, words, by, labels or {})


def gauge(
    name: str,
    unit: str,
    words: str,
    by: frozenset[Exporter],
    labels: dict[str, LabelValues] | None = None,
) -> Metric:
    return Metric(name, Kind.GAUGE, unit, words, by, labels or {})


@dataclass(frozen=True, slots=True)
class Sample:
    """One value; `labels` in the order of the metric's."""

    metric: Metric
    value: float
    labels: LabelValues = ()
