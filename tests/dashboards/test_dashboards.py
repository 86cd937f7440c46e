"""The chart's queries, without a run: syntax, names, labels, links."""

from __future__ import annotations

import pytest

from neva.metrics.catalog import METRICS
from tests.chart.rendering import REPOSITORY, only, render
from tests.dashboards.check import RARE, catalog_problem
from tests.dashboards.exported import Exported, pod_target
from tests.dashboards.queries import RUNBOOKS, Query, alerts, dashboards, queries, selectors

ALL = list(queries())


@pytest.mark.parametrize("query", ALL, ids=lambda query: query.where)
def test_a_query_reads_only_what_there_is(query: Query) -> None:
    read = selectors(query)
    assert read
    assert [problem for one in read if (problem := catalog_problem(one))] == []


def test_the_check_is_able_to_fail() -> None:
    for expression, words in (
        ("sum(neva_rows_anwered_total)", "no metric"),
        ("sum by (colour) (neva_rows_answered_total)", "colour"),
        ('neva_shards_total{outcome="comitted"}', "comitted"),
    ):
        (read,) = selectors(Query("test", expression))
        assert words in (catalog_problem(read) or "")
        assert Exported().found(read) == []


def test_what_is_rare_is_a_metric() -> None:
    assert {metric.name for metric in METRICS} >= RARE


def test_most_metrics_are_shown_somewhere() -> None:
    shown = {one.metric for query in ALL for one in selectors(query)}
    assert {metric.name for metric in METRICS} - shown == {
        "neva_build_info",
        "neva_drop_folder_condition",
        "neva_rows_rejected_total",
    }


def test_panels_are_laid_out_without_overlap_and_have_ids_of_their_own() -> None:
    for board in dashboards().values():
        places = [panel["gridPos"] for panel in board["panels"]]
        cells = [
            (x, y)
            for place in places
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert len(cells) == len(set(cells))
        assert max(x for x, _ in cells) < 24
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
    assert len({board["uid"] for board in dashboards().values()}) == len(dashboards()) == 2


def test_each_alert_links_to_its_section_of_the_runbooks() -> None:
    text = (REPOSITORY / "docs" / "reference" / "alerts.md").read_text(encoding="utf-8")
    sections = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert sections == sorted({rule["alert"] for rule in alerts()})
    for rule in alerts():
        page, _, section = rule["annotations"]["runbook_url"].partition("#")
        assert page == RUNBOOKS
        assert section == rule["alert"].lower()
        body = text.split(f"## {rule['alert']}\n")[1].split("\n## ")[0]
        assert "**What to do.**" in body, rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_alerts_without_a_place_for_runbooks_have_no_link() -> None:
    values = {"metrics": {"prometheusRule": {"enabled": True}}}
    rules = only(render(values), "PrometheusRule")["spec"]["groups"][0]["rules"]
    assert [sorted(rule["annotations"]) for rule in rules] == [["description", "summary"]] * len(
        alerts()
    )


def test_pods_series_get_the_labels_that_the_operator_gives_jobs() -> None:
    labels = {"neva-batch.dev/job": "kitchen", "neva-batch.dev/role": "worker"}
    target = pod_target("team", labels)
    assert (target["job_namespace"], target["job_name"]) == ("team", "kitchen")
    assert target["role"] == "worker"
