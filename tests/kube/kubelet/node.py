"""The one node of the test kubelet: what fits on it, and its place in a real cluster."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.kube.kubelet.client import Client

Obj = dict[str, Any]

# Pods that are to run here ask for it: a real cluster's scheduler may know other nodes.
SELECTOR = {"neva-batch.dev/test-node": "true"}
_BEAT_INTERVAL_S = 10.0
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


@dataclass
class Node:
    """A node with resources that are counted (GPUs) and others that never run out."""

    name: str = "test-node"
    labels: dict[str, str] = field(default_factory=lambda: dict(SELECTOR))
    capacity: dict[str, int] = field(default_factory=lambda: {"nvidia.com/gpu": 64})
    _beaten_s: float = field(default=float("-inf"), repr=False)
    _told: dict[str, str] = field(default_factory=dict, repr=False)

    def why_not(self, pod: Obj, others: list[Obj]) -> str | None:
        """Why `pod` can't be placed here beside `others`, in the scheduler's words, if so."""
        selector = pod["spec"].get("nodeSelector") or {}
        if any(self.labels.get(name) != value for name, value in selector.items()):
            words = "1 node(s) didn't match Pod's node affinity/selector"
            return f"0/1 nodes are available: {words}."
        for resource, limit in self.capacity.items():
            used = sum(_wanted(other, resource) for other in others)
            if _wanted(pod, resource) and used + _wanted(pod, resource) > limit:
                return f"0/1 nodes are available: 1 Insufficient {resource}."
        return None

    def register(self, client: Client) -> None:
        """Make the node known to a real cluster."""
        labels = {"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux", **self.labels}
        metadata = {"name": self.name, "labels": labels}
        client.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": metadata})
        # The node controller taints what it hasn't seen ready yet.
        client.patch(f"/api/v1/nodes/{self.name}", {"spec": {"taints": None}})
        self.beat(client)

    def beat(self, client: Client) -> None:
        """Keep the cluster from taking the node for dead; cheap to call often."""
        self._tell_capacity(client)
        if time.monotonic() - self._beaten_s < _BEAT_INTERVAL_S:
            return
        self._beaten_s = time.monotonic()
        now = datetime.now(UTC)
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.name},
            "spec": {
                "holderIdentity": self.name,
                "leaseDurationSeconds": 40,
                "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            },
        }
        if client.patch(f"{_LEASES}/{self.name}", {"spec": lease["spec"]}) is None:
            client.create(_LEASES, lease)
        text = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "test kubelet",
            "lastHeartbeatTime": text,
            "lastTransitionTime": text,
        }
        client.patch(f"/api/v1/nodes/{self.name}/status", {"status": {"conditions": [ready]}})
        client.patch(f"/api/v1/nodes/{self.name}", {"spec": {"taints": None}})

    def _tell_capacity(self, client: Client) -> None:
        """A cluster's own scheduler places by what it was told, so a change is told at once."""
        amounts = {"cpu": "64", "memory": "256Gi", "pods": "500", "ephemeral-storage": "1Ti"}
        amounts |= {name: str(amount) for name, amount in self.capacity.items()}
        if amounts == self._told:
            return
        status = {"capacity": amounts, "allocatable": amounts}
        if client.patch(f"/api/v1/nodes/{self.name}/status", {"status": status}) is not None:
            self._told = amounts

    def unregister(self, client: Client) -> None:
        client.delete(f"/api/v1/nodes/{self.name}")
        client.delete(f"{_LEASES}/{self.name}")


def _wanted(pod: Obj, resource: str) -> int:
    total = 0
    for container in pod["spec"]["containers"]:
        limits = (container.get("resources") or {}).get("limits") or {}
        total += int(limits.get(resource, 0))
    return total
