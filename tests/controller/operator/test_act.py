"""What is checked right before something is done, over HTTP against an emulated cluster."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import kubernetes
import pytest

from controller.operator.act import Actor, Stale
from controller.operator.actions import (
    CreateChild,
    DeleteChild,
    ScaleWorkers,
    SetFinalizer,
    TellEvent,
    WriteStatus,
)
from controller.operator.api import ApiError, ClientTransport, KubeApi
from controller.operator.names import FINALIZER, Role
from controller.operator.seen import JobSeen
from controller.operator.world import Key, World
from tests.controller.operator.examples import NOW_S, raw_spec
from tests.controller.operator.played import CONFIG, PlayedRuns, Truth
from tests.kube.fixtures import running_cluster

WHERE = ("neva-batch.dev", "v1alpha1")


class Scene:
    """One job in a namespace of its own."""

    def __init__(self, client: kubernetes.client.ApiClient) -> None:
        self.namespace = f"ns-{uuid.uuid4().hex[:8]}"
        kubernetes.client.CoreV1Api(client).create_namespace({"metadata": {"name": self.namespace}})
        self.custom = kubernetes.client.CustomObjectsApi(client)
        self.api = KubeApi(ClientTransport(client))
        self.world = World(lambda key: None)
        self.actor = Actor(self.api, self.world, PlayedRuns(Truth(), lambda: NOW_S), CONFIG)
        self.make()

    @property
    def key(self) -> Key:
        return self.namespace, "kitchen"

    def make(self) -> None:
        body = {
            "apiVersion": "/".join(WHERE),
            "kind": "VideoNevaJob",
            "metadata": {"name": "kitchen", "namespace": self.namespace},
            "spec": raw_spec(),
        }
        self.world.put_job(
            self.custom.create_namespaced_custom_object(
                *WHERE, self.namespace, "videonevajobs", body
            )
        )

    def job(self) -> JobSeen:
        view = self.world.view(self.key)
        assert view is not None
        return view[0]

    def do(self, action: Any, job: JobSeen | None = None) -> None:
        self.actor.do(action, job or self.job(), NOW_S)

    def stored(self) -> dict[str, Any]:
        found = self.api.get_job(*self.key)
        assert found is not None
        return found

    def children(self) -> list[str]:
        bodies = self.api.list_children(self.namespace, "neva-batch.dev/job=kitchen")
        return sorted(body["metadata"]["name"] for body in bodies)

    def patch(self, body: dict[str, Any]) -> None:
        self.custom.patch_namespaced_custom_object(
            *WHERE, self.namespace, "videonevajobs", "kitchen", body
        )

    def delete(self) -> None:
        self.custom.delete_namespaced_custom_object(
            *WHERE, self.namespace, "videonevajobs", "kitchen"
        )


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kubernetes.client.ApiClient]:
    with running_cluster(tmp_path_factory.mktemp("emulator")) as cluster, cluster.client() as made:
        yield made


@pytest.fixture
def scene(client: kubernetes.client.ApiClient) -> Scene:
    return Scene(client)


def test_a_child_is_made_once(scene: Scene) -> None:
    scene.do(CreateChild(Role.PREPARE))
    with pytest.raises(Stale):
        scene.do(CreateChild(Role.PREPARE))
    assert scene.children() == ["kitchen-prepare"]


def test_no_second_worker_job_while_one_is_unfinished(scene: Scene) -> None:
    scene.do(CreateChild(Role.WORKER, 1))
    with pytest.raises(Stale):
        scene.do(CreateChild(Role.WORKER, 2))
    assert scene.children() == ["kitchen-workers-1"]


def test_nothing_is_made_for_a_job_that_is_being_deleted(scene: Scene) -> None:
    scene.do(SetFinalizer(True))
    old = scene.job()
    scene.delete()
    with pytest.raises(Stale):
        scene.do(CreateChild(Role.PREPARE), old)
    assert scene.children() == []
    assert scene.job().deleted_s is not None, "the world knows better now"


def test_nothing_is_made_for_a_job_that_is_gone_or_another(scene: Scene) -> None:
    old = scene.job()
    scene.delete()
    with pytest.raises(Stale):
        scene.do(CreateChild(Role.PREPARE), old)
    assert scene.world.view(scene.key) is None
    scene.make()
    with pytest.raises(Stale):
        scene.do(CreateChild(Role.PREPARE), old)
    assert scene.children() == []


def test_nothing_is_made_for_a_job_that_was_suspended(scene: Scene) -> None:
    old = scene.job()
    scene.patch({"spec": {"suspend": True}})
    with pytest.raises(Stale):
        scene.do(CreateChild(Role.WORKER, 1), old)
    assert scene.children() == []


def test_a_child_of_an_earlier_job_of_the_same_name_goes_first(scene: Scene) -> None:
    scene.do(CreateChild(Role.PREPARE), None)
    other = replace(scene.job(), uid="another")
    body = {**scene.stored()}
    body["metadata"] = {**body["metadata"], "uid": "another"}
    (old,) = scene.api.list_children(scene.namespace, "neva-batch.dev/job=kitchen")
    assert old["metadata"]["ownerReferences"][0]["uid"] != other.uid
    scene.world.put_job(body)
    view = scene.world.view(scene.key)
    assert view is not None
    assert view[1] == (), "it is nobody's child here"


def test_a_status_planned_on_an_old_job_is_not_written(scene: Scene) -> None:
    old = scene.job()
    scene.patch({"metadata": {"labels": {"team": "a"}}})
    with pytest.raises(Stale):
        scene.do(WriteStatus({"phase": "Preparing"}), old)
    assert not scene.stored().get("status")
    scene.do(WriteStatus({"phase": "Preparing"}))
    assert scene.stored()["status"]["phase"] == "Preparing"


def test_a_status_that_is_dropped_from_ours_goes_and_anothers_stays(scene: Scene) -> None:
    compared = {
        "type": "Compared",
        "status": "True",
        "reason": "GatePassed",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    path = (
        f"/apis/neva-batch.dev/v1alpha1/namespaces/{scene.namespace}/videonevajobs/kitchen/status"
    )
    scene.api._call(
        "PATCH",
        f"{path}?fieldManager=nightly",
        {
            "apiVersion": "/".join(WHERE),
            "kind": "VideoNevaJob",
            "metadata": {"name": "kitchen"},
            "status": {"conditions": [compared]},
        },
        "application/apply-patch+yaml",
    )
    scene.actor.refresh(scene.job())
    scene.do(WriteStatus({"phase": "Running", "eta": "5m"}))
    scene.do(WriteStatus({"phase": "Finishing"}))
    status = scene.stored()["status"]
    assert "eta" not in status
    assert [c["type"] for c in status["conditions"]] == ["Compared"]


def test_the_finalizer_joins_others_and_leaves_when_no_child_is_left(scene: Scene) -> None:
    scene.patch({"metadata": {"finalizers": ["example.com/theirs"]}})
    scene.actor.refresh(scene.job())
    scene.do(SetFinalizer(True))
    assert scene.stored()["metadata"]["finalizers"] == ["example.com/theirs", FINALIZER]
    scene.do(CreateChild(Role.PREPARE))
    with pytest.raises(Stale):
        scene.do(SetFinalizer(False))
    assert FINALIZER in scene.stored()["metadata"]["finalizers"]
    assert scene.children() == [], "it was deleted on the way"
    scene.do(SetFinalizer(False))
    assert scene.stored()["metadata"]["finalizers"] == ["example.com/theirs"]


def test_workers_are_scaled_and_nothing_else_of_their_job_changes(scene: Scene) -> None:
    scene.do(CreateChild(Role.WORKER, 1, 1))
    (before,) = scene.api.list_children(scene.namespace, "neva-batch.dev/job=kitchen")
    scene.do(ScaleWorkers("kitchen-workers-1", 3, 5))
    (after,) = scene.api.list_children(scene.namespace, "neva-batch.dev/job=kitchen")
    assert after["spec"] == {**before["spec"], "parallelism": 3}
    assert after["metadata"]["annotations"]["neva-batch.dev/replicas"] == "5"
    with pytest.raises(Stale):
        scene.do(ScaleWorkers("kitchen-workers-9", 3, 5))


def test_another_child_of_the_same_name_is_not_deleted(scene: Scene) -> None:
    scene.do(CreateChild(Role.WORKER, 1))
    scene.do(DeleteChild("kitchen-workers-1", "11111111-1111-1111-1111-111111111111"))
    assert scene.children() == ["kitchen-workers-1"]
    scene.do(DeleteChild("nobody", "x"))


def test_the_same_event_is_told_once(scene: Scene) -> None:
    event = TellEvent("kitchen.abc", "Preparing", "Preparing: now", warning=False)
    scene.do(event)
    scene.do(event)
    told = list(scene.api.list_events_of(scene.namespace, scene.job().uid))
    assert [e["message"] for e in told] == ["Preparing: now"]


def test_what_the_api_server_refuses_is_told(scene: Scene) -> None:
    with pytest.raises(ApiError) as caught:
        scene.do(WriteStatus({"phase": "Dancing"}))
    assert caught.value.status == 422
    assert "Dancing" in caught.value.message
