"""Every metric there is. docs/reference/metrics.md is made from it."""

from __future__ import annotations

from typing import Final

from neva.metrics import of_operator, of_pods, of_workers
from neva.metrics.base import Metric

METRICS: Final[tuple[Metric, ...]] = tuple(
    value
    for module in (of_workers, of_pods, of_operator)
    for value in vars(module).values()
    if isinstance(value, Metric)
)
