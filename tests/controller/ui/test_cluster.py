"""Jobs of a cluster: one call lists them, and only outputs on S3 are opened."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from controller.operator.api import ApiError, KubeApi
from controller.ui.app import make_app
from controller.ui.cluster import ClusterJobs
from controller.ui.source import NoSuchJob
from neva.errors import ConfigError
from neva.store import open_store
from tests.controller.runs import MadeRun

Json = dict[str, Any]


def job(name: str, uri: str = "s3://eval/runs/x/", namespace: str = "eval", **status: Any) -> Json:
    created = f"2026-01-01T00:00:0{len(name) % 10}Z"
    return {
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created},
        "spec": {"output": {"uri": uri}},
        "status": status,
    }


class Cluster:
    """An API server that lists jobs, and refuses everything else."""

    def __init__(self, *jobs: Json) -> None:
        self.jobs = list(jobs)
        self.asked: list[str] = []
        self.away = False

    def __call__(self, method: str, path: str, body: Json | None, content_type: str | None) -> Json:
        assert method == "GET", "it only reads"
        self.asked.append(path.partition("?")[0])
        if self.away:
            raise ApiError(0, "connection refused")
        parts = path.partition("?")[0].split("/")
        place = parts[parts.index("namespaces") + 1] if "namespaces" in parts else None
        return {"items": [j for j in self.jobs if place in (None, j["metadata"]["namespace"])]}


def jobs_of(cluster: Cluster, namespaces: list[str] | None = None) -> ClusterJobs:
    return ClusterJobs(KubeApi(cluster), namespaces)


def test_a_line_says_what_kubectl_says() -> None:
    condition = {"type": "Queued", "reason": "Unschedulable", "message": "no node has 4 GPUs"}
    rows = {"total": 100, "done": 40, "failed": 2}
    cluster = Cluster(
        job("waits", phase="Queued", conditions=[condition]),
        job("runs!", phase="Running", rows=rows, rowsPerSecond="12.3", eta="5s", score="87.5"),
        job("new"),
    )
    lines = {line.name: line for line in jobs_of(cluster).lines(0.0)}
    assert lines["waits"].note == "Unschedulable: no node has 4 GPUs"
    runs = lines["runs!"]
    assert (runs.done, runs.total, runs.failed) == (40, 100, 2)
    assert (runs.rate, runs.left, runs.score) == ("12.3", "5s", "87.5")
    assert lines["new"].phase == "Pending"


def test_what_goes_on_comes_first_and_the_newest_before_older_ones() -> None:
    cluster = Cluster(
        job("a", phase="Succeeded"),
        job("bbb", phase="Running"),
        job("cc", phase="Failed"),
        job("dddd", phase="Queued"),
    )
    names = [line.name for line in jobs_of(cluster).lines(0.0)]
    assert names == ["dddd", "bbb", "cc", "a"]


def test_only_the_namespaces_that_were_named_are_asked_for() -> None:
    cluster = Cluster(job("one"), job("two", namespace="other"))
    jobs = jobs_of(cluster, ["other"])
    assert [line.id for line in jobs.lines(0.0)] == ["other/two"]
    assert cluster.asked == ["/apis/neva-batch.dev/v1alpha1/namespaces/other/videonevajobs"]
    with pytest.raises(NoSuchJob):
        jobs.line("eval/one")


def test_a_fresh_list_is_not_asked_for_again() -> None:
    cluster = Cluster(job("one"))
    jobs = jobs_of(cluster)
    jobs.lines(60.0)
    jobs.lines(60.0)
    assert len(cluster.asked) == 1


@pytest.mark.parametrize("uri", ["file:///etc/", "/etc/", "relative/", "http://x/"])
def test_files_of_this_machine_are_not_opened_because_a_job_names_them(uri: str) -> None:
    jobs = jobs_of(Cluster(job("one", uri)))
    with pytest.raises(ConfigError, match="not on S3"):
        jobs.reader("eval/one")
    page = TestClient(make_app(jobs)).get("/?run=eval/one").text
    assert "is not on S3" in page


def test_a_job_is_shown_in_full_from_its_output(s3_uri: str) -> None:
    uri = f"{s3_uri}runs/made/"
    run = MadeRun(open_store(uri))
    run.commit(0, failed="MediaUnreadable")
    condition = {"type": "Running", "reason": "WorkersFailing", "message": "3 pods failed"}
    cluster = Cluster(job("kitchen", uri, phase="Running", conditions=[condition]))
    page = TestClient(make_app(jobs_of(cluster))).get("/?run=eval/kitchen").text
    for words in ("4 of 10 rows", "MediaUnreadable", "Last answers", "WorkersFailing: 3 pods"):
        assert words in page


def test_an_api_server_that_is_away_leaves_the_last_list_and_says_so() -> None:
    cluster = Cluster(job("one", phase="Running"))
    jobs = jobs_of(cluster)
    client = TestClient(make_app(jobs, 0.0))
    assert "one" in client.get("/").text
    cluster.away = True
    assert client.get("/?run=eval/one").status_code == 200
    away = TestClient(make_app(jobs_of(cluster), 0.0)).get("/")
    assert "connection refused" in away.text
