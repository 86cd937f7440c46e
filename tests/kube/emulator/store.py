"""The objects and their history.

A stored object is never changed in place: every change stores a new one, so that lists, watches and
the history may share them. Every change has a resourceVersion of its own, one higher than the last.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

from tests.kube.emulator.resources import Obj

_FIRST_VERSION = 1000


class Key(NamedTuple):
    """Where an object is: `resource` is a ResourceType's storage_name."""

    resource: str
    namespace: str | None
    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the history: ADDED, MODIFIED or DELETED, the object after it and before."""

    version: int
    type: str
    key: Key
    obj: Obj
    old: Obj | None


def now_text() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Gone(Exception):
    """The history doesn't reach back so far (410)."""


class Store:
    """All objects. To be used from one thread: the event loop's."""

    def __init__(self, history: int = 20_000) -> None:
        self._objects: dict[str, dict[tuple[str | None, str], Obj]] = {}
        self._by_uid: dict[str, Key] = {}
        self._dependents: dict[str, set[Key]] = {}
        self._changes: deque[Change] = deque(maxlen=history)
        self._version = _FIRST_VERSION
        self._changed = asyncio.Event()
        self.on_change: list[Callable[[Change], None]] = []

    @property
    def version(self) -> int:
        """resourceVersion of the latest change."""
        return self._version

    def get(self, key: Key) -> Obj | None:
        return self._objects.get(key.resource, {}).get((key.namespace, key.name))

    def all(self, resource: str, namespace: str | None = None) -> Iterator[Obj]:
        """All objects of a resource in the order of their creation, or those of one namespace."""
        for (where, _), obj in self._objects.get(resource, {}).items():
            if namespace is None or where == namespace:
                yield obj

    def key_of_uid(self, uid: str) -> Key | None:
        return self._by_uid.get(uid)

    def dependents(self, uid: str) -> list[Key]:
        """Keys of the objects that name `uid` as an owner."""
        return sorted(self._dependents.get(uid, ()), key=str)

    def add(self, key: Key, obj: Obj) -> Obj:
        """Store a new object, which has a uid; gives it its resourceVersion."""
        self._by_uid[obj["metadata"]["uid"]] = key
        self._index_owners(key, None, obj)
        return self._record("ADDED", key, obj, None)

    def replace(self, key: Key, obj: Obj) -> Obj:
        """Store a changed object."""
        old = self.get(key)
        self._index_owners(key, old, obj)
        return self._record("MODIFIED", key, obj, old)

    def remove(self, key: Key) -> Obj:
        """Forget an object for good; returns it with the version of its removal."""
        obj = self._objects[key.resource].pop((key.namespace, key.name))
        del self._by_uid[obj["metadata"]["uid"]]
        self._index_owners(key, obj, None)
        return self._record("DELETED", key, obj, obj)

    def changes_after(self, version: int) -> list[Change]:
        """The history after `version`. Raises Gone when it doesn't reach back so far."""
        first = self._version - len(self._changes)
        if version < first:
            raise Gone(f"too old resource version: {version} ({first})")
        return list(islice(self._changes, version - first, None))

    async def wait_for_change(self, version: int, timeout_s: float) -> None:
        """Return when there are changes after `version`, or the time is over."""
        if self._version > version:
            return
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        except TimeoutError:
            return

    def forget_history(self) -> None:
        """As compaction does: watches from older versions get 410."""
        self._changes.clear()

    def _record(self, kind: str, key: Key, obj: Obj, old: Obj | None) -> Obj:
        self._version += 1
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self._version)}}
        if kind != "DELETED":
            self._objects.setdefault(key.resource, {})[key.namespace, key.name] = obj
        change = Change(self._version, kind, key, obj, old)
        self._changes.append(change)
        self._changed.set()
        self._changed = asyncio.Event()
        for listener in self.on_change:
            listener(change)
        return obj

    def _index_owners(self, key: Key, old: Obj | None, new: Obj | None) -> None:
        before, after = owner_uids(old), owner_uids(new)
        for uid in before - after:
            self._dependents[uid].discard(key)
        for uid in after - before:
            self._dependents.setdefault(uid, set()).add(key)


def owner_uids(obj: Obj | None) -> set[str]:
    return {owner["uid"] for owner in owner_references(obj)}


def owner_references(obj: Obj | None) -> list[Obj]:
    return (obj or {"metadata": {}})["metadata"].get("ownerReferences") or []
