"""Every reason is explained, documented, counted and tested."""

from __future__ import annotations

import re
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


@pytest.mark.parametrize("reason", ALL)
def test_every_reason_is_documented(reason: StrEnum) -> None:
    text = (REPOSITORY / "docs" / "reference" / "reasons.md").read_text(encoding="utf-8")
    assert f"| `{reason}` |" in text


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
def test_every_reason_is_what_some_test_expects(reason: StrEnum) -> None:
    constant = rf"\b{type(reason).__name__}\.{reason.name}\b"
    assert re.search(rf"{constant}|\b{reason}\b", _tests()), "no test mentions it"


@cache
def _tests() -> str:
    """All tests but the ones of the whole list."""
    general = {"test_reasons.py", "test_job_metrics.py"}
    paths = (REPOSITORY / "tests").rglob("*.py")
    return "\n".join(p.read_text(encoding="utf-8") for p in paths if p.name not in general)
