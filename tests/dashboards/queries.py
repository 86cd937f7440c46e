"""Every PromQL expression of the chart, and what each reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser as promql

from tests.chart.rendering import CHART_FOLDER, only, render

NAMESPACE, JOB = "team", "kitchen"
RUNBOOKS = "https://docs.example.com/alerts/"
_VALUES = {
    "metrics": {
        "prometheusRule": {"enabled": True, "runbookUrl": RUNBOOKS},
        "podMonitor": {"enabled": True},
    }
}
_LABEL_VALUES = re.compile(r"label_values\((.+), *(\w+)\)")
AggModifierType = promql.AggModifierType


@dataclass(frozen=True)
class Query:
    """One expression, its variables replaced, and where it stands."""

    where: str
    expression: str


@dataclass(frozen=True)
class Selector:
    """What a query reads: series of a metric with such labels."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]  # label, operator, value
    needed: frozenset[str]  # labels that the query groups or joins by


def pod_monitor() -> dict[str, Any]:
    return dict(only(render(_VALUES), "PodMonitor")["spec"])


def alerts() -> list[dict[str, Any]]:
    (group,) = only(render(_VALUES), "PrometheusRule")["spec"]["groups"]
    return list(group["rules"])


def dashboards() -> dict[str, dict[str, Any]]:
    folder = CHART_FOLDER / "files" / "dashboards"
    return {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in folder.glob("*.json")}


def queries(namespace: str = NAMESPACE, job: str = JOB) -> Iterator[Query]:
    """All of them; the variables stand for this job and for any scrape job."""
    for rule in alerts():
        yield Query(f"alert {rule['alert']}", rule["expr"])
    for name, board in dashboards().items():
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                found = _LABEL_VALUES.fullmatch(variable["query"])
                assert found, variable["query"]
                expression = f"count by ({found[2]}) ({_filled(found[1], namespace, job)})"
                yield Query(f"{name}: variable {variable['name']}", expression)
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                expression = _filled(target["expr"], namespace, job)
                yield Query(f"{name}: {panel['title']}", expression)


def _filled(expression: str, namespace: str, job: str) -> str:
    variables = {"job_namespace": namespace, "job_name": job, "job": ".*"}
    intervals = {"__rate_interval": "1m", "__range": "1h"}
    return re.sub(r"\$(\w+)", lambda m: {**variables, **intervals}[m[1]], expression)


def selectors(query: Query) -> list[Selector]:
    """What a query reads."""
    return list(_read(promql.parse(query.expression), frozenset()))


def _read(node: Any, needed: frozenset[str]) -> Iterator[Selector]:
    match node:
        case promql.VectorSelector():
            matchers = tuple((m.name, str(m.op), m.value) for m in node.matchers.matchers)
            yield Selector(node.name, matchers, needed)
        case promql.MatrixSelector():
            yield from _read(node.vector_selector, needed)
        case promql.AggregateExpr():
            modifier = node.modifier
            assert modifier is None or modifier.type == AggModifierType.By, "by, not without"
            # What a sum does not keep, nothing above it can need.
            yield from _read(node.expr, frozenset(modifier.labels if modifier else ()))
        case promql.BinaryExpr():
            matching = node.modifier.matching if node.modifier else None
            more = frozenset(matching.labels) if matching else frozenset()
            yield from _read(node.lhs, needed | more)
            yield from _read(node.rhs, more)
        case promql.Call():
            for argument in node.args:
                yield from _read(argument, needed)
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            yield from _read(node.expr, needed)
        case _:
            assert isinstance(node, promql.NumberLiteral | promql.StringLiteral), node
