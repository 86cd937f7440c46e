"""Patches: JSON merge patch (RFC 7386), JSON patch (RFC 6902), and the strategic merge."""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch

from tests.kube.emulator.errors import ApiError, bad_request

# Lists of the built-in kinds that are maps in truth, by the key of their items. `finalizers` and
# the like are sets. Everything else is replaced as a whole.
LIST_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
    "conditions": "type",
    "ownerReferences": "uid",
    "ports": "port",
    "hostAliases": "ip",
}
SET_LISTS = {"finalizers"}


def merge(target: Any, patch: Any) -> Any:
    """`target` with a JSON merge patch applied; neither is changed."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def json_patch(target: Any, operations: Any) -> Any:
    """`target` with a JSON patch applied. Raises ApiError 422 where it doesn't fit."""
    try:
        return jsonpatch.apply_patch(copy.deepcopy(target), operations)
    except jsonpatch.InvalidJsonPatch as error:
        raise bad_request(f"invalid JSON patch: {error}") from error
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        message = f"the server rejected our request due to an error in our request: {error}"
        raise ApiError(422, "Invalid", message) from error


def strategic_merge(target: Any, patch: Any, field: str = "") -> Any:
    """Like `merge`, but lists with a known key are merged by it, and `$patch` is heeded."""
    if isinstance(patch, list):
        return _merge_list(target if isinstance(target, list) else [], patch, field)
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {name: value for name, value in patch.items() if name != "$patch"}
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if name.startswith("$deleteFromPrimitiveList/"):
            field_name = name.partition("/")[2]
            result[field_name] = [v for v in result.get(field_name, []) if v not in value]
        elif name.startswith("$"):
            continue  # $setElementOrder and $retainKeys: order isn't kept here
        elif value is None:
            result.pop(name, None)
        else:
            result[name] = strategic_merge(result.get(name), value, name)
    return result


def _merge_list(target: list[Any], patch: list[Any], field: str) -> list[Any]:
    if field in SET_LISTS:
        return target + [value for value in patch if value not in target]
    key = LIST_KEYS.get(field)
    if key is None or not all(isinstance(item, dict) and key in item for item in patch):
        return patch
    result = {item.get(key): item for item in target}
    for item in patch:
        if item.get("$patch") == "delete":
            result.pop(item[key], None)
        else:
            result[item[key]] = strategic_merge(result.get(item[key]), item)
    return list(result.values())
