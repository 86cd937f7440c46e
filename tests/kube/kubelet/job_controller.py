"""The Job controller's hands: looks at Jobs and pods, does what `jobs.plan` says.

Not used against a real cluster, which has its own.
"""

from __future__ import annotations

import copy
import random
from datetime import UTC, datetime

from tests.kube.kubelet.client import Client, job_path, pod_path
from tests.kube.kubelet.jobs import TRACKING, Obj, has_ended, plan

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class JobController:
    """One pass over all Jobs per `sync`.

    Args:
        seed: of the pods' random names.
    """

    def __init__(self, client: Client, seed: int | None = None) -> None:
        self._client = client
        self._random = random.Random(seed)
        self._counted: dict[str, set[str]] = {}  # Job uid -> uids of pods in its status

    def sync(self, pods: list[Obj]) -> None:
        """Bring every Job one step on; `pods` are all pods of the cluster."""
        jobs = self._client.items("/apis/batch/v1/jobs")
        by_owner: dict[str, list[Obj]] = {}
        for pod in pods:
            if uid := _controller_uid(pod):
                by_owner.setdefault(uid, []).append(pod)
        for job in jobs:
            mine = by_owner.pop(job["metadata"]["uid"], [])
            if "deletionTimestamp" in job["metadata"]:
                self._release(mine)
            else:
                self._sync(job, mine)
        for orphans in by_owner.values():
            self._release(orphans)

    def _sync(self, job: Obj, pods: list[Obj]) -> None:
        metadata = job["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        self._end_unscheduled([pod for pod in pods if not has_ended(pod)])
        counted = self._counted.setdefault(metadata["uid"], set())
        step = plan(job, pods, counted, datetime.now(UTC))
        if step.status != (job.get("status") or {}):
            patch = {"metadata": {"uid": metadata["uid"]}, "status": _merge_patch(job, step.status)}
            if self._client.patch(job_path(namespace, name, "status"), patch) is None:
                return  # changed or gone: next time
        counted |= set(step.count)
        self._release([pod for pod in pods if pod["metadata"]["uid"] in step.count])
        for pod_name in step.delete:
            self._client.delete(pod_path(namespace, pod_name))
        for _ in range(step.num_new_pods):
            self._client.create(pod_path(namespace), self._new_pod(job))
        if step.delete_job:
            options = {"propagationPolicy": "Background"}
            self._client.delete(job_path(namespace, name), options)

    def _new_pod(self, job: Obj) -> Obj:
        metadata = job["metadata"]
        template = copy.deepcopy(job["spec"]["template"])
        suffix = "".join(self._random.choices(_ALPHABET, k=5))
        owner = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": metadata["name"],
            "uid": metadata["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **(template.get("metadata") or {}),
                "name": f"{metadata['name'][:57]}-{suffix}",
                "namespace": metadata["namespace"],
                "finalizers": [TRACKING],
                "ownerReferences": [owner],
            },
            "spec": template["spec"],
        }

    def _end_unscheduled(self, pods: list[Obj]) -> None:
        """Pods that are deleted before they have a node end at once: nobody has to stop them."""
        for pod in pods:
            if "deletionTimestamp" in pod["metadata"] and not pod["spec"].get("nodeName"):
                where = pod_path(pod["metadata"]["namespace"], pod["metadata"]["name"], "status")
                self._client.patch(where, {"status": {"phase": "Failed"}})

    def _release(self, pods: list[Obj]) -> None:
        for pod in pods:
            metadata = pod["metadata"]
            if TRACKING in (metadata.get("finalizers") or ()):
                left = [f for f in metadata["finalizers"] if f != TRACKING]
                where = pod_path(metadata["namespace"], metadata["name"])
                patch = {"metadata": {"uid": metadata["uid"], "finalizers": left}}
                self._client.patch(where, patch)


def _merge_patch(job: Obj, status: Obj) -> Obj:
    gone = set(job.get("status") or {}) - set(status)
    return {**status, **dict.fromkeys(gone)}


def _controller_uid(pod: Obj) -> str | None:
    for owner in pod["metadata"].get("ownerReferences") or ():
        if owner.get("controller") and owner["kind"] == "Job":
            return str(owner["uid"])
    return None
