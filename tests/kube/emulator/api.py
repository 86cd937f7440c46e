"""The verbs of the API on the store: create, replace, patch, apply, delete.

Every method returns the object that the client gets, or raises ApiError. Nothing here knows HTTP.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from tests.kube.emulator import apply as ssa
from tests.kube.emulator import builtin, patching
from tests.kube.emulator.custom import custom_schema
from tests.kube.emulator.errors import (
    ApiError,
    bad_request,
    conflict,
    invalid,
    not_found,
    stale,
)
from tests.kube.emulator.resources import Obj, Registry, ResourceType
from tests.kube.emulator.store import Key, Store, now_text, owner_references

_SERVER_OWNED = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "name",
    "namespace",
    "resourceVersion",
)
_STRICT = "Strict"
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
# Kubernetes has a namespace's elsewhere, in its spec; to clients it is the same.
NAMESPACE, CRD = "kubernetes", "customresourcecleanup.apiextensions.k8s.io"
_CONTAINERS = {"namespaces.": NAMESPACE, "customresourcedefinitions.apiextensions.k8s.io": CRD}


@dataclass(frozen=True, slots=True)
class Caller:
    """How a write was asked for.

    Attributes:
        manager: owner of the fields that it sets.
        validation: Strict refuses unknown fields; everything else drops them.
    """

    manager: str
    validation: str = ""
    dry_run: bool = False
    force: bool = False


class Api:
    """All verbs; `resources` grows with every CRD that is created."""

    def __init__(self, store: Store, resources: Registry) -> None:
        self.store = store
        self.resources = resources
        self._ownership: dict[str, ssa.Ownership] = {}

    def get(self, kind: ResourceType, key: Key) -> Obj:
        obj = self.store.get(key)
        if obj is None:
            raise not_found(kind, key.name)
        return obj

    def create(self, kind: ResourceType, namespace: str | None, obj: Obj, caller: Caller) -> Obj:
        """POST."""
        metadata = dict(obj.get("metadata") or {})
        if not metadata.get("name"):
            if not metadata.get("generateName"):
                cause = {
                    "reason": "FieldValueRequired",
                    "message": "Required value: name or generateName is required",
                    "field": "metadata.name",
                }
                raise invalid(kind, "", [cause])
            metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        return self._create(kind, namespace, {**obj, "metadata": metadata}, caller, "Update")

    def replace(
        self, kind: ResourceType, key: Key, obj: Obj, caller: Caller, subresource: str | None
    ) -> Obj:
        """PUT."""
        old = self.get(kind, key)
        return self._write(kind, key, old, obj, caller, subresource)

    def patch(
        self,
        kind: ResourceType,
        key: Key,
        patch: Any,
        content_type: str,
        caller: Caller,
        subresource: str | None,
    ) -> Obj:
        """PATCH of every kind but apply."""
        old = self.get(kind, key)
        if content_type == "application/json-patch+json":
            new = patching.json_patch(old, patch)
        elif content_type == "application/merge-patch+json":
            new = patching.merge(old, patch)
        elif content_type == "application/strategic-merge-patch+json":
            if kind.crd_version is not None:
                message = "the body of the request was in an unknown format"
                raise ApiError(415, "UnsupportedMediaType", message)
            new = patching.strategic_merge(old, patch)
        else:
            raise ApiError(415, "UnsupportedMediaType", f"no patch: {content_type}")
        return self._write(kind, key, old, new, caller, subresource)

    def apply(
        self,
        kind: ResourceType,
        key: Key,
        applied: Obj,
        caller: Caller,
        subresource: str | None,
    ) -> tuple[Obj, bool]:
        """Server-side apply; returns the object and whether it is new."""
        if not caller.manager:
            raise bad_request("PatchOptions.meta.k8s.io is invalid: fieldManager: Required value")
        old = self.store.get(key)
        _check_identity(key, applied)
        if old is None:
            if subresource:
                raise not_found(kind, key.name)
            if applied.get("metadata", {}).get("uid"):
                raise conflict(kind, key.name, "uid mismatch: the object doesn't exist")
            applied = {**applied, "metadata": {**applied.get("metadata", {}), "name": key.name}}
            return self._create(kind, key.namespace, applied, caller, "Apply"), True
        if uid := applied.get("metadata", {}).get("uid"):
            _check_uid(kind, key, old, uid)
        version = applied.get("metadata", {}).get("resourceVersion")
        if version and version != old["metadata"]["resourceVersion"]:
            raise stale(kind, key.name)
        lists = ssa.ListTypes(built_in=kind.crd_version is None)
        manager = ssa.Manager(caller.manager, "Apply")
        if subresource == "status":
            applied = {k: v for k, v in applied.items() if k in ("status", "apiVersion", "kind")}
        elif kind.has_status:
            applied = {k: v for k, v in applied.items() if k != "status"}
        ownership = self._ownership.get(old["metadata"]["uid"], {})
        found = ssa.conflicts(ownership, manager, old, applied, lists)
        if found and not caller.force:
            words = f"Apply failed with {len(found)} conflict{'s' if len(found) > 1 else ''}: "
            raise ApiError(409, "Conflict", words + "; ".join(map(str, found)))
        new, ownership = ssa.apply(ownership, manager, old, applied, lists)
        written = self._write(kind, key, old, new, caller, subresource, ownership)
        return written, False

    def delete(
        self, kind: ResourceType, key: Key, options: Obj | None = None, dry_run: bool = False
    ) -> Obj:
        """DELETE: at once, or marked when finalizers or a running pod stand against it."""
        options = options or {}
        obj = self.get(kind, key)
        wanted = options.get("preconditions") or {}
        if uid := wanted.get("uid"):
            _check_uid(kind, key, obj, uid)
        version = wanted.get("resourceVersion")
        if version and version != obj["metadata"]["resourceVersion"]:
            raise stale(kind, key.name)
        if dry_run:
            return obj
        metadata = dict(obj["metadata"])
        finalizers = list(metadata.get("finalizers") or ())
        policy = options.get("propagationPolicy")
        if options.get("orphanDependents"):
            policy = "Orphan"
        if container := _CONTAINERS.get(kind.storage_name):
            finalizers = list(dict.fromkeys([*finalizers, container]))
        if policy == "Foreground" and FOREGROUND not in finalizers:
            finalizers.append(FOREGROUND)
        if policy == "Orphan" and ORPHAN not in finalizers:
            finalizers.append(ORPHAN)
        grace_s = _grace_s(kind, obj, options)
        if not finalizers and not grace_s:
            return self._remove(kind, key)
        already = metadata.get("deletionTimestamp")
        is_held_alike = finalizers == list(metadata.get("finalizers") or ())
        if already and is_held_alike and grace_s >= metadata["deletionGracePeriodSeconds"]:
            return obj
        metadata |= {"deletionTimestamp": already or now_text()}
        metadata["deletionGracePeriodSeconds"] = grace_s
        if finalizers:
            metadata["finalizers"] = finalizers
        if not already:
            metadata["generation"] = metadata.get("generation", 1) + 1
        return self.store.replace(key, {**obj, "metadata": metadata})

    def finish(self, kind: ResourceType, key: Key, finalizer: str) -> None:
        """Take a finalizer off, as the garbage collector does; gone with the last one."""
        obj = self.store.get(key)
        if obj is None:
            return
        finalizers = [f for f in obj["metadata"].get("finalizers") or () if f != finalizer]
        metadata = {**obj["metadata"], "finalizers": finalizers}
        self._store_or_remove(kind, key, {**obj, "metadata": metadata})

    def _create(
        self,
        kind: ResourceType,
        namespace: str | None,
        obj: Obj,
        caller: Caller,
        operation: str,
    ) -> Obj:
        metadata = {
            name: value
            for name, value in (obj.get("metadata") or {}).items()
            if name not in _SERVER_OWNED and name != "managedFields"
        }
        metadata["name"] = name = obj["metadata"]["name"]
        if kind.namespaced:
            given = obj["metadata"].get("namespace")
            if given not in (None, namespace):
                raise bad_request("the namespace of the object doesn't match the request's")
            metadata["namespace"] = namespace
            self._check_namespace(namespace)
        if obj["metadata"].get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        key = Key(kind.storage_name, namespace if kind.namespaced else None, name)
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now_text(), "generation": 1}
        new = {"apiVersion": kind.api_version, "kind": kind.kind, **obj, "metadata": metadata}
        _check_kind(kind, new)
        if kind.has_status:
            new.pop("status", None)
        new = self._admitted(kind, new, None, caller)
        new = builtin.with_uid(kind, new)
        if self.store.get(key) is not None:
            details = {"name": name, "group": kind.group, "kind": kind.plural}
            message = f'{kind.plural}.{kind.group} "{name}" already exists'
            raise ApiError(409, "AlreadyExists", message.replace('. "', ' "'), details)
        if caller.dry_run:
            return new
        self._own(kind, metadata["uid"], caller.manager, operation, obj)
        created = self.store.add(key, new)
        if kind.plural == "customresourcedefinitions":
            self.resources.add_crd(created)
        return created

    def _write(
        self,
        kind: ResourceType,
        key: Key,
        old: Obj,
        new: Obj,
        caller: Caller,
        subresource: str | None,
        ownership: ssa.Ownership | None = None,
    ) -> Obj:
        """Store `new` in place of `old`; `ownership` is who owns what then, if that is known."""
        _check_identity(key, new)
        _check_kind(kind, new)
        given = new.get("metadata") or {}
        version = given.get("resourceVersion")
        if version and version != old["metadata"]["resourceVersion"]:
            raise stale(kind, key.name)
        if given.get("uid") not in (None, old["metadata"]["uid"]):
            _check_uid(kind, key, old, given["uid"])
        new = _merged_by_subresource(kind, old, new, subresource)
        new = self._admitted(kind, new, old, caller)
        new["metadata"] = _with_server_owned(new["metadata"], old["metadata"])
        if new == old:
            self._remember(old, ownership)
            return old
        if _spec_of(new) != _spec_of(old):
            new["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
        if caller.dry_run:
            return new
        if ownership is None:
            lists = ssa.ListTypes(built_in=kind.crd_version is None)
            before = self._ownership.get(old["metadata"]["uid"], {})
            manager = ssa.Manager(caller.manager, "Update")
            ownership = ssa.after_update(before, manager, old, new, lists)
        self._remember(old, ownership)
        written = self._store_or_remove(kind, key, new)
        if kind.plural == "customresourcedefinitions":
            self.resources.add_crd(written)
        return written

    def _admitted(self, kind: ResourceType, new: Obj, old: Obj | None, caller: Caller) -> Obj:
        if kind.crd_version is None:
            return builtin.admit(kind, new, old)
        schema = custom_schema(kind)
        if caller.validation == _STRICT and (unknown := schema.unknown_fields(new)):
            told = ", ".join(f'unknown field "{path}"' for path in unknown)
            raise bad_request(f"strict decoding error: {told}")
        new = schema.admit(new)
        if causes := schema.problems(new, old):
            raise invalid(kind, new["metadata"]["name"], causes)
        return new

    def _store_or_remove(self, kind: ResourceType, key: Key, new: Obj) -> Obj:
        metadata = new["metadata"]
        if "finalizers" in metadata and not metadata["finalizers"]:
            new = {**new, "metadata": {k: v for k, v in metadata.items() if k != "finalizers"}}
        deleting = metadata.get("deletionTimestamp") and not metadata.get("finalizers")
        if deleting and not metadata.get("deletionGracePeriodSeconds"):
            self.store.replace(key, new)
            return self._remove(kind, key)
        return self.store.replace(key, new)

    def _remove(self, kind: ResourceType, key: Key) -> Obj:
        removed = self.store.remove(key)
        self._ownership.pop(removed["metadata"]["uid"], None)
        if kind.plural == "customresourcedefinitions":
            self.resources.remove_crd(removed)
        return removed

    def _check_namespace(self, namespace: str | None) -> None:
        found = self.store.get(Key("namespaces.", None, str(namespace)))
        if found is None:
            raise ApiError(404, "NotFound", f'namespaces "{namespace}" not found')
        if found["metadata"].get("deletionTimestamp"):
            message = f"unable to create new content in namespace {namespace} because it is being "
            raise ApiError(403, "Forbidden", message + "terminated")

    def _own(self, kind: ResourceType, uid: str, manager: str, operation: str, obj: Obj) -> None:
        lists = ssa.ListTypes(built_in=kind.crd_version is None)
        if kind.has_status:
            obj = {name: value for name, value in obj.items() if name != "status"}
        owner = ssa.Manager(manager, operation)
        self._ownership[uid] = {owner: ssa.fields_of(obj, lists)}

    def _remember(self, obj: Obj, ownership: ssa.Ownership | None) -> None:
        if ownership is not None:
            self._ownership[obj["metadata"]["uid"]] = ownership


def _merged_by_subresource(kind: ResourceType, old: Obj, new: Obj, subresource: str | None) -> Obj:
    """The main endpoint can't change the status, and /status nothing else."""
    if subresource == "status":
        result = {**old, "metadata": old["metadata"]}
        result.pop("status", None)
        return {**result, "status": new["status"]} if new.get("status") is not None else result
    result = dict(new)
    if kind.has_status:
        result.pop("status", None)
        if "status" in old:
            result["status"] = old["status"]
    return result


def _with_server_owned(new: Obj, old: Obj) -> Obj:
    kept = {name: old[name] for name in _SERVER_OWNED if name in old}
    result = {n: v for n, v in new.items() if n not in _SERVER_OWNED and n != "managedFields"}
    # Both ways of saying "none" are one.
    empty = ("finalizers", "ownerReferences", "labels", "annotations")
    result = {n: v for n, v in result.items() if n not in empty or v}
    return {**kept, **result}


def _spec_of(obj: Obj) -> Obj:
    return {name: value for name, value in obj.items() if name not in ("metadata", "status")}


def _check_identity(key: Key, obj: Obj) -> None:
    name = (obj.get("metadata") or {}).get("name")
    if name not in (None, key.name):
        raise bad_request(f"the name of the object ({name}) does not match the URL ({key.name})")


def _check_kind(kind: ResourceType, obj: Obj) -> None:
    given = (obj.get("apiVersion", kind.api_version), obj.get("kind", kind.kind))
    if given != (kind.api_version, kind.kind):
        raise bad_request(f"the API version or kind in the data ({given}) does not match the URL")


def _check_uid(kind: ResourceType, key: Key, obj: Obj, uid: str) -> None:
    if uid != obj["metadata"]["uid"]:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: "
        raise conflict(kind, key.name, why + obj["metadata"]["uid"])


def _grace_s(kind: ResourceType, obj: Obj, options: Obj) -> int:
    """Seconds that a pod has to stop; 0 when nobody has to stop it."""
    if (kind.group, kind.plural) != ("", "pods"):
        return 0
    phase = (obj.get("status") or {}).get("phase")
    if not obj["spec"].get("nodeName") or phase in ("Succeeded", "Failed"):
        return 0
    wanted = options.get("gracePeriodSeconds")
    return int(obj["spec"]["terminationGracePeriodSeconds"] if wanted is None else wanted)


def is_owned_by(obj: Obj, uid: str) -> bool:
    return any(owner["uid"] == uid for owner in owner_references(obj))
