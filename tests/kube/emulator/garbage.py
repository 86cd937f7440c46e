"""The garbage collector and the end of namespaces: what goes when something else is gone."""

from __future__ import annotations

from tests.kube.emulator.api import CRD, FOREGROUND, NAMESPACE, ORPHAN, Api
from tests.kube.emulator.resources import Obj, ResourceType
from tests.kube.emulator.store import Change, Key, owner_references

_CRDS = "customresourcedefinitions.apiextensions.k8s.io"
_BACKGROUND = {"propagationPolicy": "Background"}


class GarbageCollector:
    """Looks at changes after they were answered; `collect` does what follows from them."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._store = api.store
        self._pending: list[Change] = []
        self._store.on_change.append(self._pending.append)

    @property
    def has_work(self) -> bool:
        return bool(self._pending)

    def collect(self) -> None:
        """Work off all changes, and those that this makes."""
        while self._pending:
            self._look_at(self._pending.pop(0))

    def _look_at(self, change: Change) -> None:
        metadata = change.obj["metadata"]
        for container in self._closing_containers(change.key):
            self._finish_empty(container)
        if change.type == "DELETED":
            for key in self._store.dependents(metadata["uid"]):
                self._drop_if_ownerless(key)
            for owner in owner_references(change.obj):
                self._finish_foreground(owner["uid"])
            return
        if owner_references(change.obj):
            self._drop_if_ownerless(change.key)
        if metadata.get("deletionTimestamp"):
            finalizers = metadata.get("finalizers") or ()
            if ORPHAN in finalizers:
                self._orphan(change)
            if FOREGROUND in finalizers:
                for key in self._store.dependents(metadata["uid"]):
                    self._delete(key, {"propagationPolicy": "Foreground"})
                self._finish_foreground(metadata["uid"])
            if NAMESPACE in finalizers or CRD in finalizers:
                for key in self._inside(change.obj):
                    self._delete(key, _BACKGROUND)

    def _drop_if_ownerless(self, key: Key) -> None:
        obj = self._store.get(key)
        if obj is None or obj["metadata"].get("deletionTimestamp"):
            return
        owners = owner_references(obj)
        if owners and all(self._store.key_of_uid(owner["uid"]) is None for owner in owners):
            self._delete(key, _BACKGROUND)

    def _finish_foreground(self, uid: str) -> None:
        """The owner goes when no dependent that blocks it is left."""
        key = self._store.key_of_uid(uid)
        owner = self._store.get(key) if key else None
        if key is None or owner is None or not owner["metadata"].get("deletionTimestamp"):
            return
        if FOREGROUND not in (owner["metadata"].get("finalizers") or ()):
            return
        dependents = [self._store.get(dependent) for dependent in self._store.dependents(uid)]
        if not any(obj is not None and _blocks(obj, uid) for obj in dependents):
            self._api.finish(self._kind(owner), key, FOREGROUND)

    def _orphan(self, change: Change) -> None:
        uid = change.obj["metadata"]["uid"]
        for key in self._store.dependents(uid):
            obj = self._store.get(key)
            if obj is None:
                continue
            left = [owner for owner in owner_references(obj) if owner["uid"] != uid]
            metadata = {**obj["metadata"], "ownerReferences": left}
            if not left:
                del metadata["ownerReferences"]
            self._store.replace(key, {**obj, "metadata": metadata})
        self._api.finish(self._kind(change.obj), change.key, ORPHAN)

    def _closing_containers(self, key: Key) -> list[Obj]:
        """Namespace and CRD of what is at `key`, or itself, if they are being deleted."""
        candidates = [
            Key("namespaces.", None, key.namespace or key.name),
            Key(_CRDS, None, key.name if key.resource == _CRDS else key.resource),
        ]
        found = [self._store.get(candidate) for candidate in candidates]
        return [obj for obj in found if obj and obj["metadata"].get("deletionTimestamp")]

    def _finish_empty(self, container: Obj) -> None:
        if self._inside(container):
            return
        kind = self._kind(container)
        key = Key(kind.storage_name, None, container["metadata"]["name"])
        for finalizer in (NAMESPACE, CRD):
            if finalizer in (container["metadata"].get("finalizers") or ()):
                self._api.finish(kind, key, finalizer)

    def _inside(self, container: Obj) -> list[Key]:
        """Keys of everything in a namespace, or of a CRD's kind."""
        name = container["metadata"]["name"]
        if container["kind"] == "Namespace":
            resources = {kind.storage_name for kind in self._api.resources.namespaced()}
            where: str | None = name
        else:
            resources, where = {name}, None
        return [
            Key(resource, obj["metadata"].get("namespace"), obj["metadata"]["name"])
            for resource in sorted(resources)
            for obj in self._store.all(resource, where)
        ]

    def _delete(self, key: Key, options: Obj) -> None:
        obj = self._store.get(key)
        if obj is not None:
            self._api.delete(self._kind(obj), key, options)

    def _kind(self, obj: Obj) -> ResourceType:
        kind = self._api.resources.by_kind(obj["apiVersion"], obj["kind"])
        if kind is None:
            raise LookupError(f"{obj['apiVersion']} {obj['kind']} is not served any more")
        return kind


def _blocks(obj: Obj, uid: str) -> bool:
    return any(
        owner["uid"] == uid and owner.get("blockOwnerDeletion") for owner in owner_references(obj)
    )
