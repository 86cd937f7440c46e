"""A job in a queue of Kueue's, whose controller is played: quota, admission, preemption."""

from __future__ import annotations

from typing import Any

import kubernetes
import pytest

from tests.kube.kubelet import Kubelet
from tests.operator.bench import Bench, Obj
from tests.operator.test_course import check_answers

pytestmark = [pytest.mark.e2e, pytest.mark.operator, pytest.mark.timeout(600)]

KUEUE = ("kueue.x-k8s.io", "v1beta2")
FULL = "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu"


@pytest.fixture
def queued(bench: Bench) -> Bench:
    """A bench whose operator reads Workloads, and watches the whole cluster."""
    if bench.cluster.is_real:
        pytest.skip("a real cluster has a Kueue of its own, or none")
    bench.stop_operator()
    bench.config = {"cluster": {"kueue": True}, "namespaces": []}
    bench.start_operator()
    return bench


class Kueue:
    """What Kueue does about one worker Job."""

    def __init__(self, bench: Bench, job: Obj) -> None:
        self._namespace = bench.namespace
        self._custom = kubernetes.client.CustomObjectsApi(bench.client)
        self._batch = kubernetes.client.BatchV1Api(bench.client)
        self._job = job["metadata"]
        self._name = f"job-{self._job['name']}"

    def tell(self, *conditions: Obj) -> None:
        """Make the Workload, or change its conditions."""
        owner = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            **{key: self._job[key] for key in ("name", "uid")},
        }
        body = {
            "apiVersion": "/".join(KUEUE),
            "kind": "Workload",
            "metadata": {"name": self._name, "ownerReferences": [owner]},
            "spec": {},
        }
        args: tuple[Any, ...] = (*KUEUE, self._namespace, "workloads")
        if self._name not in self._names():
            self._custom.create_namespaced_custom_object(*args, body)
        self._custom.patch_namespaced_custom_object_status(
            *args, self._name, {"status": {"conditions": list(conditions)}}
        )

    def set_suspended(self, suspended: bool, node_selector: dict[str, str] | None = None) -> None:
        """Start or stop the Job; where its pods go may be said while it is suspended."""
        if node_selector is not None:
            template = {"spec": {"nodeSelector": node_selector}}
            self._patch({"spec": {"template": template}})
        self._patch({"spec": {"suspend": suspended}})

    def _patch(self, body: Obj) -> None:
        self._batch.patch_namespaced_job(self._job["name"], self._namespace, body)

    def _names(self) -> set[str]:
        found = self._custom.list_namespaced_custom_object(*KUEUE, self._namespace, "workloads")
        return {item["metadata"]["name"] for item in found["items"]}


def condition(kind: str, status: str, reason: str, message: str = "") -> Obj:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def test_a_job_waits_for_quota_runs_when_admitted_and_waits_again_when_preempted(
    queued: Bench, kubelet: Kubelet
) -> None:
    workers = {"queueName": "gpu-queue", "gpusPerWorker": 0, "replicas": 1}
    queued.apply(queued.manifest(workers=workers))

    def told(*words: str) -> bool:
        found = queued.condition("kitchen", "Queued")
        said = found.get("message", "")
        return found.get("reason") == "WaitingForQuota" and all(word in said for word in words)

    queued.wait("that it is Kueue's turn", lambda: told("Kueue has not admitted"))
    [job] = [c for c in queued.children() if c["metadata"]["name"] == "kitchen-workers-1"]
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpu-queue"
    assert queued.pods("worker") == []

    kueue = Kueue(queued, job)
    kueue.tell(condition("QuotaReserved", "False", "Pending", FULL))
    queued.wait("Kueue's own words", lambda: told(FULL))

    kueue.tell(
        condition("QuotaReserved", "True", "QuotaReserved"),
        condition("Admitted", "True", "Admitted"),
    )
    # Kueue adds the labels of the flavor's nodes.
    kubelet.node.labels["flavor"] = "spot"
    selector = {**job["spec"]["template"]["spec"]["nodeSelector"], "flavor": "spot"}
    kueue.set_suspended(False, selector)
    queued.wait("a worker", lambda: queued.running("worker"))
    assert queued.pods("worker")[0]["spec"]["nodeSelector"] == selector
    queued.wait_phase("kitchen", "Running")

    kueue.set_suspended(True)
    kueue.tell(condition("QuotaReserved", "False", "Pending", "Preempted by a higher priority"))
    queued.wait("no worker is left", lambda: not queued.pods("worker"))
    queued.wait("that it was preempted", lambda: told("Preempted by a higher priority"))

    kueue.set_suspended(False)
    assert queued.wait_phase("kitchen", "Succeeded", "Failed")["phase"] == "Succeeded"
    check_answers(queued, "kitchen")
