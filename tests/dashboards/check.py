"""Whether the chart's queries have data."""

from __future__ import annotations

from typing import Final

from neva.metrics.catalog import METRICS
from neva.reasons import Reason
from tests.dashboards.exported import TARGET, Exported
from tests.dashboards.queries import Query, Selector, queries, selectors

# Series that only trouble makes, or that stay at 0 without it; what is read of them is compared
# with the catalog.
RARE: Final = {
    "neva_rows_failed_total",
    "neva_rows_rejected_total",
    "neva_row_retries_total",
    "neva_shards_left_total",
    "neva_engine_deaths_total",
    "neva_store_request_retries_total",
    "neva_store_errors_total",
    "neva_judge_reviews_failed_total",
    "neva_job_trouble",
    "neva_operator_failed_pods",
}
_POD_LABELS: Final = {"job_namespace", "job_name", "role"}
_BY_NAME: Final = {metric.name: metric for metric in METRICS}


def without_data(exported: Exported, namespace: str, job: str) -> list[str]:
    """The queries that would show nothing, and why."""
    return [
        f"{query.where}: {problem}"
        for query in queries(namespace, job)
        for selector in selectors(query)
        if (problem := _problem(exported, query, selector))
    ]


def _problem(exported: Exported, query: Query, selector: Selector) -> str | None:
    if query.where.startswith("alert ") or selector.metric in RARE:
        # An alert may well have nothing to say, as long as it names what there is.
        return catalog_problem(selector)
    found = exported.found(selector)
    if not found:
        return f"no series {selector.metric}{dict((m[0], m[2]) for m in selector.matchers)}"
    lacking = {name for name in selector.needed if not any(name in one for one in found)}
    return f"{selector.metric} has no label {sorted(lacking)}" if lacking else None


def catalog_problem(selector: Selector) -> str | None:
    """What a selector reads that is not in the catalog of metrics."""
    if selector.metric == "up":
        return None
    metric = _BY_NAME.get(selector.metric)
    if metric is None:
        return f"{selector.metric} is no metric of ours"
    labels = {*metric.labels, *TARGET, *_POD_LABELS}
    used = {name for name, _, _ in selector.matchers} | selector.needed
    if not used <= labels:
        return f"{selector.metric} has no label {sorted(used - labels)}"
    for name, op, value in selector.matchers:
        known = metric.labels.get(name)
        if known and name == "reason":
            known = (*known, *Reason)  # more of them may come
        if known and op.endswith(".Equal") and value not in known:
            return f"{selector.metric}: {name} is never {value!r}"
    return None
