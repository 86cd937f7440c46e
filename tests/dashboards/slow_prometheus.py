"""The chart's queries in a real Prometheus that has scraped a real run; `make test-dashboards`.

NEVA_TEST_EXPORTED names the folder that tests/operator/test_course.py left the run's metrics in,
NEVA_PROMETHEUS the one with the programs `prometheus` and `promtool`.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from neva.http_server import HttpServer
from neva.metrics.base import Sample
from neva.metrics.catalog import METRICS
from neva.metrics.export import metrics_text
from tests.dashboards.check import RARE
from tests.dashboards.exported import TARGET, Exported, Labels
from tests.dashboards.queries import JOB, Query, alerts, queries
from tests.support.processes import free_port

EXPORTED = Path(os.environ["NEVA_TEST_EXPORTED"])
PROGRAMS = Path(os.environ["NEVA_PROMETHEUS"])
NAMESPACE = (EXPORTED / "namespace").read_text(encoding="utf-8")
ALL = list(queries(NAMESPACE, JOB))
_WAIT_S = 120.0

# For each alert, series that must raise it and how long they last; `+` is an increase a minute.
_POD = f'job_namespace="{NAMESPACE}",job_name="{JOB}",pod="w"'
_JOB = f'job_namespace="{NAMESPACE}",job_name="{JOB}"'
_CONTROLLER = 'job="neva-neva-batch-controller",namespace="neva"'
FIRING: dict[str, tuple[dict[str, str], str]] = {
    "NevaBatchControllerDown": ({f"up{{{_CONTROLLER}}}": "0x60"}, "15m"),
    "NevaBatchNoLeader": ({f"neva_operator_leading{{{_CONTROLLER}}}": "0x60"}, "15m"),
    "NevaBatchTurnsFail": (
        {
            f"neva_operator_errors_total{{{_CONTROLLER}}}": "0+2x90",
            f"neva_operator_reconciles_total{{{_CONTROLLER}}}": "0+10x90",
        },
        "60m",
    ),
    "NevaBatchJobFailed": (
        {f'neva_operator_jobs{{{_CONTROLLER},phase="Failed"}}': "0x5 1x20"},
        "10m",
    ),
    "NevaBatchDropFolderFails": (
        {f'neva_drop_folder_failing{{{_CONTROLLER},folder="a/b"}}': "1x60"},
        "40m",
    ),
    "NevaBatchJobWaits": ({f'neva_job_phase{{{_JOB},phase="Queued"}}': "1x180"}, "130m"),
    "NevaBatchJobStandsStill": (
        {
            f'neva_job_phase{{{_JOB},phase="Running"}}': "1x90",
            f'neva_job_rows{{{_JOB},state="open"}}': "7x90",
        },
        "45m",
    ),
    "NevaBatchRowsFail": (
        {
            f'neva_job_rows{{{_JOB},state="failed"}}': "2x60",
            f'neva_job_rows{{{_JOB},state="answered"}}': "8x60",
        },
        "15m",
    ),
    "NevaBatchEngineDies": (
        {f'neva_engine_deaths_total{{{_POD},reason="EngineCrashed"}}': "0+1x60"},
        "30m",
    ),
    "NevaBatchEngineIdle": (
        {
            f'neva_engine_seconds_total{{{_POD},state="idle"}}': "0+40x90",
            f'neva_engine_seconds_total{{{_POD},state="busy"}}': "0+20x90",
        },
        "60m",
    ),
    "NevaBatchStoreFails": (
        {
            f'neva_store_errors_total{{{_POD},operation="read",reason="StoreDenied"}}': "0+6x60",
        },
        "25m",
    ),
    "NevaBatchJudgeFails": (
        {f'neva_judge_reviews_failed_total{{{_POD},reason="JudgeUnavailable"}}': "0+3x60"},
        "20m",
    ),
}


def rules_file(folder: Path) -> Path:
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "chart", "rules": alerts()}]}))
    return path


def page(trouble: int) -> str:
    """The run's metrics, and one series of each that only trouble makes, at this value."""
    rare: dict[str, dict[Labels, float]] = {}
    pod = {**TARGET, "job_namespace": NAMESPACE, "job_name": JOB}
    for metric in METRICS:
        if metric.name in RARE:
            labels = {"job_namespace": NAMESPACE, "job_name": JOB, "role": "worker"}
            values = tuple(labels.get(name, "OutOfMemory") for name in metric.labels)
            exported = Exported()
            exported.add(metrics_text(min(metric.by), [Sample(metric, trouble, values)]), pod)
            rare[metric.name] = exported.series[metric.name]
    return (EXPORTED / "page").read_text(encoding="utf-8") + Exported(rare).page()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Prometheus that has scraped the page a few times."""
    folder = tmp_path_factory.mktemp("prometheus")
    trouble = count(1)  # more at each scrape: panels show no reason that does not come
    server = HttpServer(0, {"/metrics": lambda: (200, page(next(trouble)))})
    server.start()
    target = {"job_name": "run", "honor_labels": True}
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [
            {**target, "static_configs": [{"targets": [f"127.0.0.1:{server.port}"]}]}
        ],
        "rule_files": [str(rules_file(folder))],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [PROGRAMS / "prometheus", f"--config.file={folder}/prometheus.yaml"]
    command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        deadline_s = time.monotonic() + _WAIT_S
        while not ask(url, "count_over_time(neva_operator_leading[1m]) > 3"):
            assert process.poll() is None and time.monotonic() < deadline_s
            time.sleep(0.5)
        yield url
        process.terminate()
    server.stop()


def ask(url: str, expression: str) -> list[Any]:
    query = urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(f"{url}/api/v1/query?{query}", timeout=10) as answer:
            found: list[Any] = json.load(answer)["data"]["result"]
            return found
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{expression}: {error.read().decode()}") from error
    except urllib.error.URLError:
        return []  # not up yet


@pytest.mark.parametrize("query", ALL, ids=lambda query: query.where)
def test_every_query_is_answered_and_every_panel_has_data(prometheus: str, query: Query) -> None:
    found = ask(prometheus, query.expression)
    if not query.where.startswith("alert "):
        assert found, query.expression


def test_the_rules_are_what_prometheus_expects(tmp_path: Path) -> None:
    subprocess.run([PROGRAMS / "promtool", "check", "rules", rules_file(tmp_path)], check=True)


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_each_alert_fires_when_it_should_and_not_before(tmp_path: Path, rule: Any) -> None:
    series, at = FIRING[rule["alert"]]
    test = {
        "rule_files": [str(rules_file(tmp_path))],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": k, "values": v} for k, v in series.items()],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{rule["alert"]}",alertstate="firing"}})',
                        "eval_time": when,
                        "exp_samples": samples,
                    }
                    for when, samples in (
                        ("1m", []),
                        (at, [{"labels": "{}", "value": 1}]),
                    )
                ],
            }
        ],
    }
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump(test))
    subprocess.run([PROGRAMS / "promtool", "test", "rules", path], check=True)
