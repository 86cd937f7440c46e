"""Every reason is explained, documented, counted and tested."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from enum import StrEnum
from functools import cache

import pytest

from neva import condition_help, reason_help
from neva.condition_help import CONDITION_HELP
from neva.conditions import ConditionReason
from neva.metrics import of_operator, of_pods, of_workers
from neva.metrics.base import Exporter, Kind, Metric, Sample
from neva.metrics.catalog import METRICS
from neva.metrics.export import metrics_text
from neva.reason_help import REASON_HELP
from neva.reasons import Reason
from tests.chart.rendering import REPOSITORY
from tests.docs.observing import NOTHING

ALL = [*Reason, *ConditionReason]
# Where a reason of each group is counted.
COUNTED: list[tuple[dict[Reason, reason_help.Help], Metric, tuple[str, ...]]] = [
    (reason_help.LINES, of_pods.ROWS_REJECTED, ()),
    (reason_help.ROWS, of_workers.ROWS_FAILED, ()),
    (reason_help.RUNS, of_operator.OPERATOR_PODS_FAILED, ("worker",)),
    (reason_help.REVIEWS, of_pods.JUDGE_FAILED, ()),
]


def test_every_reason_is_explained_once() -> None:
    assert set(REASON_HELP) == set(Reason)
    assert len(REASON_HELP) == sum(len(group) for group, _, _ in COUNTED)
    assert set(CONDITION_HELP) == set(ConditionReason)
    constants = {name: value for name, value in vars(condition_help).items() if name.isupper()}
    assert len(constants.pop("CONDITION_HELP")) == sum(len(group) for group in constants.values())
    for words in (*REASON_HELP.values(), *CONDITION_HELP.values()):
        assert words.meaning.endswith(".")
        assert not words.remedy or words.remedy.endswith(".")
        assert "|" not in words.meaning + words.remedy, "it goes into a table"


def test_every_reason_is_in_a_table_of_the_reference_with_meaning_and_way_out() -> None:
    text = (REPOSITORY / "docs" / "reference" / "reasons.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    told = sorted((name, meaning, remedy) for name, meaning, remedy in rows)
    helps = [*REASON_HELP.items(), *CONDITION_HELP.items()]
    assert told == sorted(
        (str(reason), words.meaning, words.remedy or NOTHING) for reason, words in helps
    )


@pytest.mark.parametrize(("group", "metric", "before"), COUNTED)
def test_every_reason_of_a_group_is_a_label_value(
    group: dict[Reason, reason_help.Help], metric: Metric, before: tuple[str, ...]
) -> None:
    assert list(metric.labels)[-1] == "reason"
    (exporter,) = metric.by
    page = metrics_text(exporter, [Sample(metric, 1, (*before, reason)) for reason in group])
    for reason in group:
        assert re.search(rf'{metric.name}{{[^}}]*reason="{reason}"[^}}]*}} 1\.0', page)
    assert isinstance(exporter, Exporter)


@pytest.mark.parametrize(
    "metric", [one for one in METRICS if one.kind is Kind.COUNTER and "reason" in one.labels]
)
def test_counters_by_reason_begin_at_zero(metric: Metric) -> None:
    known = metric.labels["reason"]
    assert known and set(known) <= set(Reason) and len(known) == len(set(known))
    for exporter in metric.by:
        page = metrics_text(exporter, [])
        for reason in known:
            assert re.search(rf'{metric.name}{{[^}}]*reason="{reason}"}} 0\.0', page)


@pytest.mark.parametrize("exporter", list(Exporter))
def test_a_page_begins_with_few_series(exporter: Exporter) -> None:
    lines = metrics_text(exporter, []).splitlines()
    assert len([line for line in lines if not line.startswith("#")]) <= 80


@pytest.mark.parametrize("reason", ALL)
def test_every_reason_is_a_known_value_of_a_metric(reason: StrEnum) -> None:
    conditions = (of_operator.JOB_CONDITION, of_operator.FOLDER_CONDITION)
    looked_at = METRICS if isinstance(reason, Reason) else conditions
    assert [m.name for m in looked_at if reason in m.labels.get("reason", ())]


@pytest.mark.parametrize("reason", ALL)
def test_every_reason_is_provoked_and_asserted_by_a_test(reason: StrEnum) -> None:
    assert (type(reason).__name__, reason.name) in _asserted(), "no test asserts that constant"


def test_a_mention_is_no_assertion() -> None:
    source = """
from neva.conditions import ConditionReason as Why
from neva.reasons import Reason
# Reason.DRAINED
NAMED = Reason.CANCELLED
def test_it():
    '''Reason.SUSPENDED'''
    do(Reason.INVALID_JSON)
    assert found == [Why.JUDGED], "not Reason.STORE_DENIED"
"""
    assert set(_asserted_in(ast.parse(source))) == {("ConditionReason", "JUDGED")}


@cache
def _asserted() -> frozenset[tuple[str, str]]:
    """(enumeration, constant) of all tests but the ones of the whole list."""
    general = {"test_reasons.py", "test_job_metrics.py"}
    paths = [p for p in (REPOSITORY / "tests").rglob("test_*.py") if p.name not in general]
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in paths)
    return frozenset(found for tree in trees for found in _asserted_in(tree))


def _asserted_in(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Constants in what is asserted, and in the parameters of tests, which assert them."""
    names = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            inside: list[ast.expr] = [node.test]
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            inside = [d for d in node.decorator_list if "parametrize" in ast.unparse(d)]
        else:
            continue
        for each in (found for root in inside for found in ast.walk(root)):
            if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name):
                yield names.get(each.value.id, each.value.id), each.attr
