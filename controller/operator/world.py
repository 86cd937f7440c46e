"""What the watches told, by job. Thread-safe; holds raw objects and gives planner's views.

Objects come in through watches and as answers to the operator's own writes, in any order: an older
one never replaces a newer one. Resource versions of one kind grow, which the API has promised
since 1.35; versions that are no numbers are taken as they come.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.operator.read import (
    is_owned_by,
    owner_of,
    read_child,
    read_job,
    read_pod,
    read_workload,
)
from controller.operator.seen import ChildSeen, JobSeen, PodSeen, WorkloadSeen

Json = Mapping[str, Any]
Key = tuple[str, str]
"""Namespace and name of a job."""


@dataclass
class _Objects:
    """Objects of one kind, by name within their job."""

    bodies: dict[Key, dict[str, Json]] = field(default_factory=dict)

    def put(self, key: Key, body: Json) -> None:
        held = self.bodies.setdefault(key, {})
        name = body["metadata"]["name"]
        if name not in held or not _is_older(body, held[name]):
            held[name] = body

    def drop(self, key: Key, name: str, uid: str | None = None) -> None:
        held = self.bodies.get(key, {})
        if name in held and uid in (None, held[name]["metadata"]["uid"]):
            del held[name]
            if not held:
                del self.bodies[key]

    def of(self, key: Key) -> list[Json]:
        return list(self.bodies.get(key, {}).values())

    def names(self) -> set[tuple[Key, str]]:
        return {(key, name) for key, held in self.bodies.items() for name in held}


class World:
    """The caches. `changed` is called with the job's key after every change."""

    def __init__(self, changed: Callable[[Key], None]) -> None:
        self._changed = changed
        self._lock = threading.Lock()
        self._jobs: dict[Key, Json] = {}
        self._children = _Objects()
        self._pods = _Objects()
        self._workloads: dict[str, WorkloadSeen] = {}
        self._keys_of_children: dict[str, Key] = {}

    # In

    def put_job(self, body: Json, *, deleted: bool = False) -> None:
        metadata = body["metadata"]
        key = (metadata["namespace"], metadata["name"])
        # The answer to taking the last finalizer off may come after the watch told the deletion.
        deleted = deleted or bool(
            metadata.get("deletionTimestamp") and not metadata.get("finalizers")
        )
        with self._lock:
            held = self._jobs.get(key)
            same = held is not None and held["metadata"]["uid"] == body["metadata"]["uid"]
            if deleted:
                if same:
                    del self._jobs[key]
            elif held is None or not (same and _is_older(body, held)):
                self._jobs[key] = body
        self._changed(key)

    def drop_job(self, key: Key) -> None:
        with self._lock:
            self._jobs.pop(key, None)

    def put_child(self, body: Json, *, deleted: bool = False) -> None:
        self._put(self._children, body, deleted)
        if (key := owner_of(body)) is not None:
            with self._lock:
                self._keys_of_children[body["metadata"]["uid"]] = key
                if deleted:
                    del self._keys_of_children[body["metadata"]["uid"]]

    def put_pod(self, body: Json, *, deleted: bool = False) -> None:
        self._put(self._pods, body, deleted)

    def put_workload(self, body: Json, *, deleted: bool = False) -> None:
        workload = read_workload(body)
        if workload is None:
            return
        with self._lock:
            if deleted:
                self._workloads.pop(workload.child_uid, None)
            else:
                self._workloads[workload.child_uid] = workload
            key = self._keys_of_children.get(workload.child_uid)
        if key is not None:
            self._changed(key)

    def replace_children(self, key: Key, bodies: Iterable[Json]) -> None:
        """What the API server says now about one job's children."""
        with self._lock:
            self._children.bodies.pop(key, None)
            for body in bodies:
                self._children.put(key, body)

    def replace_pods(self, key: Key, bodies: Iterable[Json]) -> None:
        with self._lock:
            self._pods.bodies.pop(key, None)
            for body in bodies:
                self._pods.put(key, body)

    def held(self, kind: str) -> set[tuple[Key, str]]:
        """What is held of a kind (`children` or `pods`), to be compared with a listing."""
        with self._lock:
            return (self._children if kind == "children" else self._pods).names()

    def job_bodies(self) -> dict[Key, Json]:
        with self._lock:
            return dict(self._jobs)

    def pod_bodies(self) -> list[Json]:
        with self._lock:
            return [body for held in self._pods.bodies.values() for body in held.values()]

    def held_jobs(self) -> set[Key]:
        with self._lock:
            return set(self._jobs)

    def drop(self, kind: str, key: Key, name: str) -> None:
        """Forget an object that a listing didn't have."""
        with self._lock:
            (self._children if kind == "children" else self._pods).drop(key, name)
        self._changed(key)

    def _put(self, objects: _Objects, body: Json, deleted: bool) -> None:
        key = owner_of(body)
        if key is None:
            return
        with self._lock:
            if deleted:
                objects.drop(key, body["metadata"]["name"], body["metadata"]["uid"])
            else:
                objects.put(key, body)
        self._changed(key)

    # Out

    def job_body(self, key: Key) -> Json | None:
        with self._lock:
            return self._jobs.get(key)

    def view(
        self, key: Key
    ) -> (
        tuple[JobSeen, tuple[ChildSeen, ...], tuple[PodSeen, ...], tuple[WorkloadSeen, ...]] | None
    ):
        """Everything held about one job; None when there is no such job."""
        with self._lock:
            body = self._jobs.get(key)
            if body is None:
                return None
            jobs, pods = self._children.of(key), self._pods.of(key)
            workloads = dict(self._workloads)
        job = read_job(body)
        own = [child for child in jobs if is_owned_by(child, job.uid)]
        children = tuple(c for c in map(read_child, own) if c is not None)
        seen_pods = tuple(p for p in map(read_pod, pods) if p is not None)
        admitted = tuple(workloads[c.uid] for c in children if c.uid in workloads)
        return job, children, seen_pods, admitted


def _is_older(body: Json, held: Json) -> bool:
    if body["metadata"]["uid"] != held["metadata"]["uid"]:
        return False
    new, old = body["metadata"]["resourceVersion"], held["metadata"]["resourceVersion"]
    return bool(new.isdecimal() and old.isdecimal() and int(new) < int(old))
