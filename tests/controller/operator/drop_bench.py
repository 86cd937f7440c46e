"""A drop folder on an emulated cluster and a moto server, turned by hand, on clocks of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import kubernetes

from controller.operator.api import ClientTransport, Json, KubeApi
from controller.operator.drops import DropFolders
from controller.operator.world import World
from neva.store import Store, open_store
from tests.kube.fixtures import Cluster

GROUP = ("neva-batch.dev", "v1alpha1")
NAMESPACE, NAME = "default", "inbox"


@dataclass
class DropBench:
    """One folder and its controller; `turn` is one turn of it.

    Attributes:
        base: the bucket's URI, with a slash.
        now_s: both clocks of the controller; the store's is real.
        before_request: called before every request to the cluster.
    """

    cluster: Cluster
    base: str
    client: kubernetes.client.ApiClient
    now_s: float = 1_000_000.0
    before_request: Callable[[], None] = lambda: None
    controller: DropFolders = field(init=False)
    world: World = field(init=False)
    api: KubeApi = field(init=False)

    def __post_init__(self) -> None:
        self.inputs: Store = open_store(f"{self.base}in/")
        self.restart()

    def restart(self) -> None:
        """A new controller, which knows nothing."""
        transport = ClientTransport(self.client)

        def cuttable(*request: Any) -> Json:
            self.before_request()
            return transport(*request)

        self.api = KubeApi(cuttable)
        self.world = World(lambda key: self.controller.job_changed(key))
        self.controller = DropFolders(
            self.api, self.world, clock=lambda: self.now_s, monotonic=lambda: self.now_s
        )

    # The cluster

    @property
    def custom(self) -> kubernetes.client.CustomObjectsApi:
        return kubernetes.client.CustomObjectsApi(self.client)

    def make_folder(self, **spec: Any) -> Json:
        body = {
            "apiVersion": "/".join(GROUP),
            "kind": "DropFolder",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "spec": {
                "uri": f"{self.base}in/",
                "outputBase": f"{self.base}out/",
                "settleSeconds": 0,
                "template": {"spec": {"model": {"uri": "s3://models/m/"}}},
                **spec,
            },
        }
        return dict(
            self.custom.create_namespaced_custom_object(*GROUP, NAMESPACE, "dropfolders", body)
        )

    def change_folder(self, **spec: Any) -> None:
        self.custom.patch_namespaced_custom_object(
            *GROUP, NAMESPACE, "dropfolders", NAME, {"spec": spec}
        )

    def folder(self) -> Json:
        return dict(
            self.custom.get_namespaced_custom_object(*GROUP, NAMESPACE, "dropfolders", NAME)
        )

    def condition(self, kind: str) -> tuple[str, str]:
        conditions = (self.folder().get("status") or {}).get("conditions") or []
        return next((c["status"], c["reason"]) for c in conditions if c["type"] == kind)

    def jobs(self) -> dict[str, Json]:
        """By the key that each was made of."""
        found = self.custom.list_namespaced_custom_object(*GROUP, NAMESPACE, "videonevajobs")
        return {
            job["metadata"]["annotations"]["neva-batch.dev/drop-key"]: job for job in found["items"]
        }

    def end(self, key: str, phase: str = "Succeeded", conditions: tuple[Json, ...] = ()) -> str:
        """Have the job of a key end; returns its name."""
        job = self.jobs()[key]
        job["status"] = {"phase": phase, "conditions": list(conditions)}
        self.custom.replace_namespaced_custom_object_status(
            *GROUP, NAMESPACE, "videonevajobs", job["metadata"]["name"], job
        )
        return str(job["metadata"]["name"])

    def delete(self, name: str) -> None:
        self.custom.delete_namespaced_custom_object(*GROUP, NAMESPACE, "videonevajobs", name)

    # The controller

    def tell(self) -> None:
        """Tell the controller what watches would."""
        self.controller.put(self.folder())
        there = set()
        found = self.custom.list_namespaced_custom_object(*GROUP, NAMESPACE, "videonevajobs")
        for job in found["items"]:
            there.add((NAMESPACE, job["metadata"]["name"]))
            self.world.put_job(job)
        for key in self.world.held_jobs() - there:
            self.world.drop_job(key)
            self.controller.job_changed(key)

    def take(self) -> None:
        """What a thread of the controller does with the next key."""
        key = self.controller.queue.take(wait_s=0.0)
        assert key is not None
        self.controller.process(key)
        self.controller.queue.done(key)

    def process(self) -> None:
        self.controller.process((NAMESPACE, NAME))

    def turn(self, after_s: float = 30.0) -> None:
        """One turn, `after_s` seconds later."""
        self.now_s += after_s
        self.tell()
        self.process()

    def files(self) -> set[str]:
        return {item.key for item in self.inputs.list()}
