"""Server-side apply: who owns which field, what a manager dropped, who is in whose way.

A field is the path to a leaf: keys of maps, and for lists that are maps in truth the item's key as
`("name", "worker")`. An item of a set is `("=", value)`. Other lists are leaves as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.kube.emulator.patching import LIST_KEYS, SET_LISTS
from tests.kube.emulator.resources import Obj

Path = tuple[Any, ...]
_MISSING = object()

# What identifies the object, or is the server's own.
_NOT_OWNED = {
    ("apiVersion",),
    ("kind",),
    *(
        ("metadata", name)
        for name in (
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "managedFields",
            "selfLink",
        )
    ),
}


@dataclass(frozen=True, slots=True)
class Manager:
    """Somebody who writes fields: a name, and whether it applies (`Apply`) or else (`Update`)."""

    name: str
    operation: str


Ownership = dict[Manager, frozenset[Path]]


@dataclass(frozen=True, slots=True)
class Conflict:
    """A field that another manager set to another value."""

    manager: str
    path: Path

    def __str__(self) -> str:
        steps = [
            f"[{step[0]}={step[1]!r}]" if isinstance(step, tuple) else f".{step}"
            for step in self.path
        ]
        return f'conflict with "{self.manager}": {"".join(steps)}'


class ListTypes:
    """Which lists are maps or sets: by field name, for a built-in kind or a custom resource."""

    def __init__(self, built_in: bool) -> None:
        always = {name: LIST_KEYS[name] for name in ("conditions", "ownerReferences")}
        self._keys = LIST_KEYS if built_in else always

    def key(self, field: str, items: list[Any]) -> str | None:
        key = self._keys.get(field)
        if key and all(isinstance(item, dict) and key in item for item in items):
            return key
        return None

    def is_set(self, field: str) -> bool:
        return field in SET_LISTS


def fields_of(obj: Any, lists: ListTypes) -> frozenset[Path]:
    """Paths of everything that can be owned in `obj`."""
    return frozenset(path for path in _leaves(obj, (), lists) if path[:2] not in _NOT_OWNED)


def _leaves(value: Any, path: Path, lists: ListTypes) -> Iterator[Path]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, (*path, name), lists)
    elif isinstance(value, list) and value and lists.is_set(str(path[-1])):
        for item in value:
            yield (*path, ("=", item))
    elif isinstance(value, list) and value and (key := lists.key(str(path[-1]), value)):
        for item in value:
            yield from _leaves(item, (*path, (key, item[key])), lists)
    elif path and path[:1] not in _NOT_OWNED:
        yield path


def value_at(obj: Any, path: Path) -> Any:
    """The value of a field; a sentinel that equals nothing else where there is none."""
    for step in path:
        if isinstance(step, tuple):
            found = [
                item
                for item in (obj if isinstance(obj, list) else ())
                if (item if step[0] == "=" else item.get(step[0])) == step[1]
            ]
            obj = found[0] if found else _MISSING
        else:
            obj = obj.get(step, _MISSING) if isinstance(obj, dict) else _MISSING
        if obj is _MISSING:
            return _MISSING
    return obj


def changed_fields(old: Obj, new: Obj, lists: ListTypes) -> frozenset[Path]:
    """Paths whose value is new or another, and those that are gone."""
    before, after = fields_of(old, lists), fields_of(new, lists)
    kept = {path for path in before & after if value_at(old, path) == value_at(new, path)}
    return (before | after) - kept


def after_update(
    ownership: Ownership, manager: Manager, old: Obj, new: Obj, lists: ListTypes
) -> Ownership:
    """Who owns what once `manager` changed `old` to `new` by a PUT or a PATCH."""
    changed = changed_fields(old, new, lists)
    there = fields_of(new, lists)
    result = {owner: (fields - changed) & there for owner, fields in ownership.items()}
    result[manager] = result.get(manager, frozenset()) | (changed & there)
    return {owner: fields for owner, fields in result.items() if fields}


def conflicts(
    ownership: Ownership, manager: Manager, live: Obj, applied: Obj, lists: ListTypes
) -> list[Conflict]:
    """What stands in the way of applying `applied` without force."""
    found = []
    for path in sorted(fields_of(applied, lists), key=str):
        if value_at(live, path) == value_at(applied, path):
            continue
        found += [
            Conflict(owner.name, path)
            for owner, fields in ownership.items()
            if owner != manager and path in fields
        ]
    return found


def apply(
    ownership: Ownership, manager: Manager, live: Obj, applied: Obj, lists: ListTypes
) -> tuple[Obj, Ownership]:
    """`live` with `applied` merged in, less what the manager owned alone and dropped.

    Conflicts are taken over; call `conflicts` before to refuse them.
    """
    wanted = fields_of(applied, lists)
    others = {owner: fields for owner, fields in ownership.items() if owner != manager}
    owned_by_others = frozenset().union(*others.values()) if others else frozenset()
    merged = _merge(live, applied, "", lists)
    dropped = ownership.get(manager, frozenset()) - wanted - owned_by_others
    for path in sorted(dropped, key=_keys_last):
        merged = _without(merged, path)
    taken = {path for path in wanted if value_at(live, path) != value_at(applied, path)}
    result = {owner: fields - taken for owner, fields in others.items()}
    result[manager] = wanted
    return merged, {owner: fields for owner, fields in result.items() if fields}


def _keys_last(path: Path) -> tuple[bool, int]:
    """Items are found by their keys, so these go last, inner ones first."""
    is_key = len(path) > 1 and isinstance(path[-2], tuple) and path[-2][0] == path[-1]
    return is_key, -len(path)


def _merge(live: Any, applied: Any, field: str, lists: ListTypes) -> Any:
    if isinstance(applied, dict):
        result = dict(live) if isinstance(live, dict) else {}
        for name, value in applied.items():
            result[name] = _merge(result.get(name), value, name, lists)
        return result
    if isinstance(applied, list) and isinstance(live, list):
        if lists.is_set(field):
            return live + [value for value in applied if value not in live]
        if key := lists.key(field, [*live, *applied]):
            items = {item[key]: item for item in live}
            for item in applied:
                items[item[key]] = _merge(items.get(item[key]), item, "", lists)
            return list(items.values())
    return applied


def _without(obj: Any, path: Path) -> Any:
    """`obj` without the field; a map or item that becomes empty by it goes, too."""
    step, rest = path[0], path[1:]
    if isinstance(step, tuple):
        items = obj if isinstance(obj, list) else []
        result = []
        for item in items:
            if (item if step[0] == "=" else item.get(step[0])) != step[1]:
                result.append(item)
            elif rest and (left := _without(item, rest)):
                result.append(left)
        return result
    if not isinstance(obj, dict) or step not in obj:
        return obj
    result = {name: value for name, value in obj.items() if name != step}
    if rest and (left := _without(obj[step], rest)) not in ({}, []):
        result[step] = left
    return result
