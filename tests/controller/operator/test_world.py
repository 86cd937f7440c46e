"""What the caches hold, whatever order things are told in."""

from __future__ import annotations

from typing import Any

import kubernetes
import pytest

from controller.operator.api import ClientTransport, KubeApi
from controller.operator.service import Service
from controller.operator.world import Key, World
from tests.controller.operator.examples import raw_spec
from tests.controller.operator.played import CONFIG, PlayedRuns, Truth
from tests.kube.fixtures import Cluster

KEY = ("team", "kitchen")


def job_body(version: int, uid: str = "u1", **metadata: Any) -> dict[str, Any]:
    fixed = {"namespace": "team", "name": "kitchen", "uid": uid, "resourceVersion": str(version)}
    return {"metadata": {**fixed, **metadata}, "spec": raw_spec()}


def child_body(
    version: int, owner: str = "u1", uid: str = "c1", role: str = "worker", **status: Any
) -> dict[str, Any]:
    labels = {
        "neva-batch.dev/job": "kitchen",
        "neva-batch.dev/role": role,
        "neva-batch.dev/round": "1",
    }
    return {
        "metadata": {
            "namespace": "team",
            "name": "kitchen-workers-1",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": labels,
            "ownerReferences": [{"uid": owner}],
        },
        "status": status,
    }


class Watched:
    def __init__(self) -> None:
        self.changes: list[Key] = []
        self.world = World(self.changes.append)

    def children(self) -> list[tuple[str, int]]:
        view = self.world.view(KEY)
        assert view is not None
        return [(child.uid, child.num_failed_pods) for child in view[1]]


def test_an_older_object_never_replaces_a_newer_one() -> None:
    watched = Watched()
    watched.world.put_job(job_body(5, generation=2))
    watched.world.put_job(job_body(4, generation=1))
    watched.world.put_child(child_body(9, failed=2))
    watched.world.put_child(child_body(8, failed=1))
    view = watched.world.view(KEY)
    assert view is not None
    assert (view[0].generation, watched.children()) == (2, [("c1", 2)])
    assert watched.changes == [KEY] * 4


def test_a_deletion_told_late_does_not_take_the_successor() -> None:
    watched = Watched()
    watched.world.put_job(job_body(7, uid="u2"))
    watched.world.put_child(child_body(9, owner="u2", uid="c2"))
    watched.world.put_job(job_body(6), deleted=True)
    watched.world.put_child(child_body(8), deleted=True)
    assert watched.children() == [("c2", 0)]
    watched.world.put_job(job_body(8, uid="u2"), deleted=True)
    assert watched.world.view(KEY) is None


def test_children_of_an_earlier_job_of_the_name_are_not_seen() -> None:
    watched = Watched()
    watched.world.put_job(job_body(7, uid="u2"))
    watched.world.put_child(child_body(3, owner="u1"))
    assert watched.children() == []


def test_kueues_words_find_their_job() -> None:
    watched = Watched()
    watched.world.put_job(job_body(1))
    watched.world.put_child(child_body(2))
    reserved = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": "full"}
    workload = {
        "metadata": {"name": "w", "ownerReferences": [{"kind": "Job", "uid": "c1"}]},
        "status": {"conditions": [reserved]},
    }
    watched.changes.clear()
    watched.world.put_workload(workload)
    assert watched.changes == [KEY]
    view = watched.world.view(KEY)
    assert view is not None
    assert [(w.admitted, w.message) for w in view[3]] == [(False, "full")]


def test_a_job_whose_last_finalizer_went_is_gone_whoever_tells_it_first() -> None:
    watched = Watched()
    going = job_body(6, deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["a"])
    gone = job_body(7, deletionTimestamp="2026-01-01T00:00:00Z")
    for told_first in (True, False):
        watched.world.put_job(going)
        assert watched.world.held_jobs() == {KEY}
        watched.world.put_job(gone, deleted=told_first)
        watched.world.put_job(gone, deleted=not told_first)
        assert watched.world.held_jobs() == set()


def test_objects_that_are_not_ours_are_ignored() -> None:
    watched = Watched()
    body = child_body(1)
    del body["metadata"]["labels"]["neva-batch.dev/job"]
    watched.world.put_child(body)
    watched.world.put_pod(body)
    assert watched.changes == []


def test_what_vanished_unseen_is_forgotten_by_a_listing(emulated_cluster: Cluster) -> None:
    with emulated_cluster.client() as client:
        api = KubeApi(ClientTransport(client))
        service = Service(CONFIG, api, PlayedRuns(Truth(), lambda: 0.0))
        world = service.world
        world.put_job(job_body(1))
        world.put_child(child_body(2))
        world.put_pod(child_body(3))
        kept = kubernetes.client.CustomObjectsApi(client).create_namespaced_custom_object(
            "neva-batch.dev",
            "v1alpha1",
            "default",
            "videonevajobs",
            {
                "apiVersion": "neva-batch.dev/v1alpha1",
                "kind": "VideoNevaJob",
                "metadata": {"name": "kept"},
                "spec": raw_spec(),
            },
        )
        world.put_job(kept)
        service.resync()
        assert world.held_jobs() == {("default", "kept")}
        assert world.held("children") == set()
        assert world.held("pods") == set()


@pytest.mark.parametrize("status", ["Failed", "Complete"])
def test_a_job_that_is_about_to_end_has_not_ended(status: str) -> None:
    """Real clusters say FailureTarget or SuccessCriteriaMet first, while pods still stop."""
    watched = Watched()
    watched.world.put_job(job_body(1))
    early = {"Failed": "FailureTarget", "Complete": "SuccessCriteriaMet"}[status]
    watched.world.put_child(child_body(2, conditions=[{"type": early, "status": "True"}]))
    view = watched.world.view(KEY)
    assert view is not None and not view[1][0].ended
    ended = [{"type": status, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    watched.world.put_child(child_body(3, conditions=ended))
    view = watched.world.view(KEY)
    assert view is not None and view[1][0].ended
