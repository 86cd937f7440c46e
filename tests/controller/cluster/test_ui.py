"""The live view of a cluster's jobs, over the API server's HTTP."""

from __future__ import annotations

from starlette.testclient import TestClient

from controller.ui.app import make_app
from controller.ui.cli import _source
from tests.controller.cluster.conftest import User, condition


def test_a_user_sees_the_jobs_of_the_kubeconfigs_namespace(user: User) -> None:
    user.make("kitchen")
    user.make("garage", "file:///etc/")
    queued = condition("Queued", "Unschedulable", "no node has 4 GPUs")
    rows = {"total": 100, "done": 40, "failed": 2}
    user.tell("kitchen", phase="Queued", rows=rows, conditions=[queued])
    user.emulator.requests.clear()

    client = TestClient(make_app(_source([], [], everywhere=False)))
    page = client.get("/").text
    assert "40 of 100" in page
    assert "Unschedulable: no node has 4 GPUs" in page
    assert 'href="?run=default%2Fgarage"' in page
    assert "is not on S3" in client.get("/?run=default/garage").text
    assert client.get("/?run=default/attic").status_code == 404

    asked = {request.verb for request in user.emulator.requests.all()}
    assert asked == {"list"}, "which is all that the chart grants"


def test_another_namespace_has_jobs_of_its_own(user: User) -> None:
    user.make("kitchen")
    assert "There are no jobs" in TestClient(make_app(_source([], ["other"], False))).get("/").text
    assert "kitchen" in TestClient(make_app(_source([], [], everywhere=True))).get("/").text
