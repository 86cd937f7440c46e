"""A kubelet for tests: pods' commands run as processes of this machine.

Against the emulator it also plays the scheduler and the Job controller. Against a real API server
(`plays_controllers=False`) it registers a node of its own, binds pods to it where no scheduler
does, and leaves Jobs to the cluster.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
from pathlib import Path

import requests

from tests.kube.kubelet.client import Client, Obj, pod_path
from tests.kube.kubelet.environment import ConfigMissing, decoded
from tests.kube.kubelet.job_controller import JobController
from tests.kube.kubelet.jobs import has_ended
from tests.kube.kubelet.node import Node
from tests.kube.kubelet.pod import LocalPod, container_status

__all__ = ["Kubelet", "LocalPod", "Node"]

_POLL_S = 0.1
_log = logging.getLogger(__name__)


class Kubelet:
    """Runs until stopped, in a thread of its own.

    Attributes:
        node: what the pods are placed on; tests may change its capacity and labels.
        unavailable_images: images that can't be pulled.

    Args:
        environment: variables of every pod's process, below the pod's own.
        namespace_prefix: pods of other namespaces are nobody's business here.
        seed: of the pods' names.
    """

    def __init__(
        self,
        kubeconfig: Path,
        folder: Path,
        *,
        log_folder: Path | None = None,
        plays_controllers: bool = True,
        environment: dict[str, str] | None = None,
        node: Node | None = None,
        namespace_prefix: str = "",
        seed: int | None = None,
    ) -> None:
        self._client = Client(kubeconfig)
        self._folder = folder
        self._log_folder = log_folder or folder / "logs"
        self._log_folder.mkdir(parents=True, exist_ok=True)
        self._environment = {**base_environment(), **(environment or {})}
        self.node = node or Node()
        self.unavailable_images: set[str] = set()
        self._jobs = JobController(self._client, seed) if plays_controllers else None
        self._plays_controllers = plays_controllers
        self._namespace_prefix = namespace_prefix
        self._pods: dict[str, LocalPod] = {}
        self._waiting: dict[str, str] = {}  # pod uid -> what was last said of it
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)
        self._lock = threading.Lock()

    def start(self) -> None:
        if not self._plays_controllers:
            self.node.register(self._client)
        self._thread.start()

    def stop(self) -> None:
        """Kill all pods' processes and end; the API's objects stay."""
        self._stop.set()
        self._thread.join(timeout=60)
        with self._lock:
            for pod in self._pods.values():
                pod.kill()
        if not self._plays_controllers:
            self.node.unregister(self._client)
        self._client.close()

    def pid(self, pod_name: str) -> int | None:
        """The first process of a running pod, to be killed, say; None when it has none."""
        with self._lock:
            for pod in self._pods.values():
                if pod.pod["metadata"]["name"] == pod_name:
                    return pod.pid
        return None

    def log(self, namespace: str, pod_name: str, container: str) -> str:
        """What a container has printed; empty before it is started."""
        path = self._log_folder / f"{namespace}_{pod_name}_{container}.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def _run(self) -> None:
        while not self._stop.wait(_POLL_S):
            try:
                self._sync()
            except (OSError, requests.RequestException) as error:
                # The API server is away or faulty; a kubelet goes on trying.
                _log.warning("kubelet: %s", error)

    def _sync(self) -> None:
        pods = self._our_pods()
        if self._jobs is not None:
            self._jobs.sync(pods)
            pods = self._our_pods()
        else:
            self.node.beat(self._client)
        with self._lock:
            here = [pod for pod in pods if pod["spec"].get("nodeName") == self.node.name]
            self._drop_vanished({pod["metadata"]["uid"] for pod in here})
            for pod in here:
                self._sync_pod(pod)
            for pod in pods:
                if not pod["spec"].get("nodeName") and not has_ended(pod):
                    self._place(pod, here)

    def _our_pods(self) -> list[Obj]:
        pods = self._client.items("/api/v1/pods")
        prefix = self._namespace_prefix
        return [pod for pod in pods if pod["metadata"]["namespace"].startswith(prefix)]

    def _drop_vanished(self, uids: set[str]) -> None:
        for uid in set(self._pods) - uids:
            self._pods.pop(uid).kill()

    def _sync_pod(self, pod: Obj) -> None:
        metadata = pod["metadata"]
        local = self._pods.get(metadata["uid"])
        # What the API has is compared, too: a report may have been lost on its way.
        if local is not None and (local.advance() or _phase(pod) != local.status()["phase"]):
            self._report(pod, local.status())
            pod = {**pod, "status": local.status()}
        if "deletionTimestamp" in metadata:
            if local is not None and not local.has_ended:
                local.stop(float(metadata.get("deletionGracePeriodSeconds") or 0))
                return
            if not has_ended(pod):
                self._report(pod, {"phase": "Failed"})
            self._pods.pop(metadata["uid"], None)
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
            where = pod_path(metadata["namespace"], metadata["name"])
            if metadata.get("deletionGracePeriodSeconds") or not metadata.get("finalizers"):
                self._client.delete(where, options)
        elif local is None and not has_ended(pod):
            self._start(pod)

    def _start(self, pod: Obj) -> None:
        metadata = pod["metadata"]
        container = pod["spec"]["containers"][0]
        if container["image"] in self.unavailable_images:
            message = f'Back-off pulling image "{container["image"]}"'
            self._wait(pod, "ImagePullBackOff", message)
            return
        folder = self._folder / "pods" / metadata["uid"]
        folder.mkdir(parents=True, exist_ok=True)

        def lookup(kind: str, name: str) -> dict[str, str] | None:
            plural = f"{kind.lower()}s"
            found = self._client.get(f"/api/v1/namespaces/{metadata['namespace']}/{plural}/{name}")
            return None if found is None else decoded(kind, found)

        try:
            local = LocalPod(pod, folder, self._log_folder, self._environment, lookup)
        except ConfigMissing as error:
            self._wait(pod, "CreateContainerConfigError", str(error))
            return
        except OSError as error:
            status = {"exitCode": 128, "reason": "StartError", "message": str(error)}
            state = container_status(container, {"terminated": status})
            self._report(pod, {"phase": "Failed", "containerStatuses": [state]})
            return
        self._pods[metadata["uid"]] = local
        self._waiting.pop(metadata["uid"], None)
        self._report(pod, local.status())

    def _wait(self, pod: Obj, reason: str, message: str) -> None:
        """Say why a pod isn't started, once; it is tried again at every turn."""
        if self._waiting.get(pod["metadata"]["uid"]) == message:
            return
        self._waiting[pod["metadata"]["uid"]] = message
        container = pod["spec"]["containers"][0]
        state = container_status(container, {"waiting": {"reason": reason, "message": message}})
        self._report(pod, {"phase": "Pending", "containerStatuses": [state]})
        self._event(pod, "Failed", f"Error: {message}")

    def _place(self, pod: Obj, here: list[Obj]) -> None:
        """Bind a pod to our node if it fits; else say why not."""
        why = self.node.why_not(pod, [other for other in here if not has_ended(other)])
        metadata = pod["metadata"]
        if "deletionTimestamp" in metadata:
            return
        if why is None:
            body = {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
                "target": {"apiVersion": "v1", "kind": "Node", "name": self.node.name},
            }
            where = pod_path(metadata["namespace"], metadata["name"], "binding")
            self._client.create(where, body)
            here.append(pod)
        elif self._waiting.get(metadata["uid"]) != why:
            self._waiting[metadata["uid"]] = why
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": why,
            }
            self._report(pod, {"phase": "Pending", "conditions": [condition]})
            self._event(pod, "FailedScheduling", why)

    def _report(self, pod: Obj, status: Obj) -> None:
        metadata = pod["metadata"]
        patch = {"metadata": {"uid": metadata["uid"]}, "status": status}
        where = pod_path(metadata["namespace"], metadata["name"], "status")
        self._client.patch(where, patch)

    def _event(self, pod: Obj, reason: str, message: str) -> None:
        metadata = pod["metadata"]
        self._client.create(
            f"/api/v1/namespaces/{metadata['namespace']}/events",
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {
                    "generateName": f"{metadata['name']}.",
                    "namespace": metadata["namespace"],
                },
                "involvedObject": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": metadata["name"],
                    "namespace": metadata["namespace"],
                    "uid": metadata["uid"],
                },
                "type": "Warning",
                "reason": reason,
                "message": message,
                "source": {"component": "test-kubelet"},
            },
        )


def _phase(pod: Obj) -> str:
    return str((pod.get("status") or {}).get("phase"))


def base_environment() -> dict[str, str]:
    """What an image would bring: a PATH with `neva`, our code, one thread per process."""
    root = Path(__file__).parents[3]
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
        "PYTHONPATH": str(root),
        "LANG": "C.UTF-8",
        "TMPDIR": tempfile.gettempdir(),
        "OMP_NUM_THREADS": "1",
    }
