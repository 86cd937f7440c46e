"""The operator dies at every single write of a job's course, before it and after it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import kubernetes
import pytest

from controller.operator.api import ClientTransport
from tests.controller.operator.examples import raw_spec
from tests.controller.operator.played import (
    NUM_SHARDS,
    Cluster,
    CountingTransport,
    Killed,
    PlayedOperator,
    Truth,
)
from tests.kube.fixtures import running_cluster

MOST_TURNS = 40


class Course:
    """One job from its creation to its deletion on a fresh namespace of an emulated cluster."""

    def __init__(self, client: kubernetes.client.ApiClient, namespace: str) -> None:
        self.client = client
        self.key = (namespace, "kitchen")
        self.truth = Truth()
        self.cluster = Cluster(client, namespace, self.truth)
        self.ahead_s = 0.0
        self.transport = CountingTransport(ClientTransport(client))
        self.num_lives = 0

    def run(self, die_before: int | None = None, die_after: int | None = None) -> int:
        """Bring the job to its end and delete it; returns the number of writes it took."""
        self.transport.die_before, self.transport.die_after = die_before, die_after
        custom = kubernetes.client.CustomObjectsApi(self.client)
        where = ("neva-batch.dev", "v1alpha1", self.key[0], "videonevajobs")
        body = {
            "apiVersion": "neva-batch.dev/v1alpha1",
            "kind": "VideoNevaJob",
            "metadata": {"name": "kitchen", "namespace": self.key[0]},
            "spec": raw_spec(),
        }
        custom.create_namespaced_custom_object(*where, body)
        operator = self._new_operator()
        for _ in range(MOST_TURNS):
            operator = self._turn(operator)
            self.cluster.advance()
            found = custom.get_namespaced_custom_object(*where, "kitchen")
            if (found.get("status") or {}).get("phase") == "Succeeded":
                break
        else:
            raise AssertionError(f"no end: {found.get('status')}")
        assert self.truth.shards_done == NUM_SHARDS
        names = sorted(job["metadata"]["name"] for job in self.cluster.children())
        rounds = [f"kitchen-workers-{n}" for n in range(1, NUM_SHARDS + 1)]
        assert names == ["kitchen-finish", "kitchen-prepare", *rounds]
        custom.delete_namespaced_custom_object(*where, "kitchen")
        for _ in range(MOST_TURNS):
            operator = self._turn(operator)
            if not custom.list_namespaced_custom_object(*where)["items"]:
                break
        else:
            raise AssertionError("the job is never gone")
        assert self.cluster.children() == []
        assert self.cluster.most_unfinished_workers == 1
        assert self.truth.num_purges >= 1
        return self.transport.num_writes

    def _turn(self, operator: PlayedOperator) -> PlayedOperator:
        try:
            operator.turn()
        except Killed:
            operator = self._new_operator()
        self.cluster.watch_over()
        self.ahead_s += 40.0  # whatever is waited for has come
        return operator

    def _new_operator(self) -> PlayedOperator:
        self.num_lives += 1
        clock = lambda: time.time() + self.ahead_s  # noqa: E731
        return PlayedOperator(self.transport, self.truth, clock, self.key)

    def events(self) -> list[tuple[str, str]]:
        found = kubernetes.client.CoreV1Api(self.client).list_namespaced_event(self.key[0])
        return [(event.reason, event.message) for event in found.items]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kubernetes.client.ApiClient]:
    folder: Path = tmp_path_factory.mktemp("emulator")
    with running_cluster(folder) as cluster, cluster.client() as client:
        yield client


def new_course(client: kubernetes.client.ApiClient, name: str) -> Course:
    kubernetes.client.CoreV1Api(client).create_namespace({"metadata": {"name": name}})
    return Course(client, name)


@pytest.mark.timeout(600)
def test_every_cut_point_of_a_course_is_survived(client: kubernetes.client.ApiClient) -> None:
    undisturbed = new_course(client, "undisturbed")
    num_writes = undisturbed.run()
    assert undisturbed.num_lives == 1
    told = undisturbed.events()
    assert len(told) == len(set(told)) == 4
    for number in range(1, num_writes + 1):
        before = new_course(client, f"before-{number}")
        before.run(die_before=number)
        after = new_course(client, f"after-{number}")
        after.run(die_after=number)
        assert (before.num_lives, after.num_lives) == (2, 2), number
        for course in (before, after):
            events = course.events()
            assert len(events) == len(set(events)), f"an event was told twice: {events}"
