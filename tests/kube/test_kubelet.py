"""Jobs and pods on the test kubelet: real processes, on the emulator and on a real cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest

from tests.kube.fixtures import Cluster
from tests.kube.http import batch_job
from tests.kube.kubelet import Kubelet
from tests.kube.waiting import eventually

GPU = "nvidia.com/gpu"
# A real Job controller waits before it tries again, and its garbage collector takes its time.
PATIENCE_S = 150.0


class Bench:
    """One namespace with a kubelet."""

    def __init__(self, cluster: Cluster, namespace: str, kubelet: Kubelet, client: Any) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.kubelet = kubelet
        self.core = kubernetes.client.CoreV1Api(client)
        self.batch = kubernetes.client.BatchV1Api(client)

    def run(self, job: dict[str, Any]) -> None:
        self.batch.create_namespaced_job(self.namespace, job)

    def pods(self) -> list[Any]:
        return list(self.core.list_namespaced_pod(self.namespace).items)

    def pod(self, phase: str) -> Any:
        """The first pod in `phase`, waited for."""

        def found() -> Any:
            return next((p for p in self.pods() if p.status.phase == phase), None)

        return eventually(found, f"a pod that is {phase}", PATIENCE_S)

    def ended(self, name: str) -> Any:
        """The status of a Job that is Complete or Failed, waited for."""

        def status() -> Any:
            found = self.batch.read_namespaced_job(name, self.namespace).status
            kinds = {c.type for c in found.conditions or () if c.status == "True"}
            return found if kinds & {"Complete", "Failed"} else None

        return eventually(status, f"the end of {name}", PATIENCE_S)

    def waiting(self) -> Any:
        """Why the only pod's container doesn't run, waited for."""

        def found() -> Any:
            for pod in self.pods():
                for status in pod.status.container_statuses or ():
                    if status.state.waiting is not None:
                        return status.state.waiting
            return None

        return eventually(found, "a waiting container", PATIENCE_S)

    def log(self, pod: Any) -> str:
        return self.kubelet.log(self.namespace, pod.metadata.name, "main")


@pytest.fixture
def bench(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Bench]:
    kubelet = cluster.kubelet(tmp_path / "kubelet")
    kubelet.start()
    with cluster.client() as client:
        yield Bench(cluster, namespace, kubelet, client)
    kubelet.stop()


def with_container(job: dict[str, Any], **fields: Any) -> dict[str, Any]:
    job["spec"]["template"]["spec"]["containers"][0].update(fields)
    return job


def shell(name: str, script: str, **spec: Any) -> dict[str, Any]:
    return batch_job(name, "sh", "-c", script, **spec)


def test_a_pod_runs_with_its_secrets_volumes_and_message(bench: Bench) -> None:
    secret = {"metadata": {"name": "s"}, "stringData": {"KEY": "opened"}}
    bench.core.create_namespaced_secret(bench.namespace, secret)
    script = 'echo "$KEY $WHO"; echo kept > $HOME/x; printf done > $NEVA_TERMINATION_LOG'
    job = with_container(
        shell("a", script),
        envFrom=[{"secretRef": {"name": "s"}}],
        env=[
            {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "HOME", "value": "/tmp"},
        ],
        volumeMounts=[{"name": "tmp", "mountPath": "/tmp"}],
    )
    job["spec"]["template"]["spec"]["volumes"] = [{"name": "tmp", "emptyDir": {}}]
    bench.run(job)
    assert bench.ended("a").succeeded == 1
    (pod,) = bench.pods()
    assert bench.log(pod) == f"opened {bench.namespace}\n"
    assert pod.status.container_statuses[0].state.terminated.message == "done"
    if not bench.cluster.is_real:  # a real API server asks the node for it, and ours doesn't listen
        read = bench.core.read_namespaced_pod_log(pod.metadata.name, bench.namespace)
        assert read == bench.log(pod)


def test_a_failing_job_ends_at_its_limit_with_the_logs_end_as_message(bench: Bench) -> None:
    job = with_container(
        shell("a", "echo BadConfig: no; exit 3", backoffLimit=0),
        terminationMessagePolicy="FallbackToLogsOnError",
    )
    bench.run(job)
    status = bench.ended("a")
    assert status.failed == 1
    assert status.conditions[-1].reason == "BackoffLimitExceeded"
    terminated = bench.pods()[0].status.container_statuses[0].state.terminated
    assert (terminated.exit_code, terminated.message) == (3, "BadConfig: no\n")


def test_an_exit_code_of_the_policy_fails_the_job(bench: Bench) -> None:
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [64]}}
    bench.run(shell("a", "exit 64", podFailurePolicy={"rules": [rule]}))
    failed = [c for c in bench.ended("a").conditions if c.type == "Failed"]
    assert failed[0].reason == "PodFailurePolicy"


def test_a_deleted_pod_is_told_to_stop_and_replaced(bench: Bench) -> None:
    script = 'trap "echo told; exit 0" TERM; echo ready; while :; do sleep 0.05; done'
    bench.run(shell("a", script, parallelism=1))
    first = bench.pod("Running")
    eventually(lambda: bench.log(first) == "ready\n", "its trap")
    bench.core.delete_namespaced_pod(first.metadata.name, bench.namespace)
    eventually(lambda: bench.log(first) == "ready\ntold\n", "the signal")
    eventually(
        lambda: first.metadata.name not in [p.metadata.name for p in bench.pods()], "its end"
    )


def test_a_pod_that_does_not_stop_is_killed_after_its_grace(bench: Bench) -> None:
    job = shell("a", 'trap "" TERM; echo ready; while :; do sleep 0.05; done')
    job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 1
    bench.run(job)
    pod = bench.pod("Running")
    eventually(lambda: bench.log(pod) == "ready\n", "its trap")
    pid = bench.kubelet.pid(pod.metadata.name)
    assert pid is not None
    bench.batch.delete_namespaced_job("a", bench.namespace, propagation_policy="Background")
    eventually(lambda: bench.pods() == [], "the end of the pod", PATIENCE_S)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_killed_pod_counts_as_failed_and_another_takes_over(bench: Bench) -> None:
    # The second one finds what the first one left.
    bench.run(shell("a", "sleep 60", parallelism=1, backoffLimit=1))
    pod = bench.pod("Running")
    pid = bench.kubelet.pid(pod.metadata.name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    failed = bench.pod("Failed")
    assert failed.status.container_statuses[0].state.terminated.exit_code == 137
    assert bench.pod("Running").metadata.name != pod.metadata.name


def test_suspension_frees_the_pods_and_parallelism_can_change(bench: Bench) -> None:
    bench.run(shell("a", "sleep 60", parallelism=1))
    bench.pod("Running")
    bench.batch.patch_namespaced_job("a", bench.namespace, {"spec": {"suspend": True}})
    eventually(lambda: bench.pods() == [], "the end of the pods", PATIENCE_S)
    bench.batch.patch_namespaced_job(
        "a", bench.namespace, {"spec": {"suspend": False, "parallelism": 2}}
    )
    eventually(
        lambda: [p.status.phase for p in bench.pods()] == ["Running"] * 2, "two pods", PATIENCE_S
    )


def test_a_missing_secret_is_waited_for_and_said(bench: Bench) -> None:
    bench.run(with_container(shell("a", "true"), envFrom=[{"secretRef": {"name": "s"}}]))
    waiting = bench.waiting()
    assert waiting.reason == "CreateContainerConfigError"
    assert waiting.message == 'secret "s" not found'
    bench.core.create_namespaced_secret(bench.namespace, {"metadata": {"name": "s"}})
    assert bench.ended("a").succeeded == 1


def test_an_image_that_cannot_be_pulled_is_said(bench: Bench) -> None:
    bench.kubelet.unavailable_images.add("none")
    bench.run(shell("a", "true"))
    assert bench.waiting().reason == "ImagePullBackOff"
    bench.kubelet.unavailable_images.clear()
    assert bench.ended("a").succeeded == 1


def test_a_pod_waits_for_gpus_and_the_scheduler_says_so(bench: Bench) -> None:
    if bench.cluster.is_real:
        pytest.skip("a real scheduler may know of other nodes")
    bench.kubelet.node.capacity[GPU] = 1
    bench.run(with_container(shell("a", "true"), resources={"limits": {GPU: "2"}}))

    def events() -> list[str]:
        found = bench.core.list_namespaced_event(bench.namespace).items
        return [event.message for event in found if event.reason == "FailedScheduling"]

    (message,) = eventually(events, "the scheduler's word")
    assert message == f"0/1 nodes are available: 1 Insufficient {GPU}."
    (condition,) = bench.pods()[0].status.conditions
    assert (condition.type, condition.reason) == ("PodScheduled", "Unschedulable")
    bench.kubelet.node.capacity[GPU] = 2
    assert bench.ended("a").succeeded == 1


def test_a_finished_job_goes_with_its_pods_when_its_time_is_over(bench: Bench) -> None:
    bench.run(shell("a", "true", ttlSecondsAfterFinished=0))
    eventually(
        lambda: not bench.batch.list_namespaced_job(bench.namespace).items,
        "the end of the Job",
        PATIENCE_S,
    )
    eventually(lambda: bench.pods() == [], "the end of its pods", PATIENCE_S)
