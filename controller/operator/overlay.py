"""Merges a user's pod template over ours, as Kubernetes' strategic merge patch would. Pure.

Objects merge by key, null removes a key, lists of named things merge by the key that names them
(containers, env, volumes by name, mounts by path, ports by number), every other list is replaced.
https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}


def overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` merged in; neither is changed."""
    merged = dict(base)
    for key, value in over.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            below = merged.get(key)
            merged[key] = overlay(below if isinstance(below, Mapping) else {}, value)
        elif isinstance(value, list) and key in _MERGE_KEYS:
            merged[key] = _overlay_list(merged.get(key) or [], value, _MERGE_KEYS[key])
        else:
            merged[key] = value
    return merged


def _overlay_list(base: list[Any], over: list[Any], name: str) -> list[Any]:
    merged = list(base)
    for item in over:
        named = isinstance(item, Mapping) and name in item
        places = [
            place
            for place, old in enumerate(merged)
            if named and isinstance(old, Mapping) and old.get(name) == item[name]
        ]
        if not places:
            merged.append(overlay({}, item) if isinstance(item, Mapping) else item)
            continue
        merged[places[0]] = overlay(merged[places[0]], item)
    return merged
