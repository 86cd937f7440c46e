"""What a container's process gets: its environment, its volumes as folders, its command line.

There is no root file system to mount into: a volume is a folder of this machine, and paths below
its mount path are rewritten to it in variables and arguments.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

Obj = dict[str, Any]
# (kind, name) -> data of a Secret (decoded) or ConfigMap; None where there is none.
Lookup = Callable[[str, str], dict[str, str] | None]

_REFERENCE = re.compile(r"\$(?:(\$)|\(([^)]*)\))")
_LABEL_REFERENCE = re.compile(r"^metadata\.(labels|annotations)\['([^']+)'\]$")


class ConfigMissing(Exception):
    """A Secret, ConfigMap or key that a container needs isn't there."""


def container_environment(container: Obj, pod: Obj, lookup: Lookup) -> dict[str, str]:
    """The variables of envFrom and env, with references resolved; later ones win.

    Raises:
        ConfigMissing: in the kubelet's words.
    """
    variables: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        variables |= _all_of(source, lookup)
    for entry in container.get("env") or ():
        if "valueFrom" in entry:
            value = _value_from(entry["valueFrom"], pod, lookup)
            if value is None:
                continue
        else:
            value = expand(entry.get("value") or "", variables)
        variables[entry["name"]] = value
    return variables


def expand(text: str, variables: dict[str, str]) -> str:
    """$(NAME) replaced by its value, or left where there is none; $$ is a dollar."""

    def value(found: re.Match[str]) -> str:
        dollar, name = found.groups()
        return dollar or variables.get(name, found.group())

    return _REFERENCE.sub(value, text)


def command_line(container: Obj, variables: dict[str, str]) -> list[str]:
    """`command` and `args` with references replaced."""
    words = [*(container.get("command") or ()), *(container.get("args") or ())]
    return [expand(word, variables) for word in words]


def make_volumes(pod: Obj, folder: Path, lookup: Lookup) -> dict[str, Path]:
    """The pod's volumes by name, as folders below `folder`. Raises ConfigMissing."""
    volumes = {}
    for volume in pod["spec"].get("volumes") or ():
        path = folder / "volumes" / volume["name"]
        path.mkdir(parents=True, exist_ok=True)
        volumes[volume["name"]] = path
        for name, content in _files_of(volume, lookup).items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text(content, encoding="utf-8")
    return volumes


def mounted(container: Obj, volumes: dict[str, Path]) -> dict[str, Path]:
    """Mount path -> folder, longest path first, so that the innermost mount wins."""
    found = {
        mount["mountPath"].rstrip("/"): volumes[mount["name"]] / mount.get("subPath", "")
        for mount in container.get("volumeMounts") or ()
        if mount["mountPath"] != "/dev/shm"
    }
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


def rewritten(text: str, mounts: dict[str, Path]) -> str:
    """A path below a mount as this machine has it; any other text unchanged."""
    for path, folder in mounts.items():
        if text == path or text.startswith(f"{path}/"):
            return str(folder) + text[len(path) :]
    return text


def _all_of(source: Obj, lookup: Lookup) -> dict[str, str]:
    kind = "Secret" if "secretRef" in source else "ConfigMap"
    reference = source.get("secretRef") or source["configMapRef"]
    data = _data(kind, reference, lookup)
    return {f"{source.get('prefix', '')}{name}": value for name, value in (data or {}).items()}


def _value_from(source: Obj, pod: Obj, lookup: Lookup) -> str | None:
    if "fieldRef" in source:
        return _field(source["fieldRef"]["fieldPath"], pod)
    if "resourceFieldRef" in source:
        return _resource(source["resourceFieldRef"], pod)
    kind = "Secret" if "secretKeyRef" in source else "ConfigMap"
    reference = source.get("secretKeyRef") or source["configMapKeyRef"]
    data = _data(kind, reference, lookup)
    if data is None:
        return None
    if reference["key"] not in data:
        if reference.get("optional"):
            return None
        where = f"{pod['metadata']['namespace']}/{reference['name']}"
        raise ConfigMissing(f"couldn't find key {reference['key']} in {kind} {where}")
    return data[reference["key"]]


def _data(kind: str, reference: Obj, lookup: Lookup) -> dict[str, str] | None:
    data = lookup(kind, reference["name"])
    if data is None and not reference.get("optional"):
        raise ConfigMissing(f'{kind.lower()} "{reference["name"]}" not found')
    return data


def _field(path: str, pod: Obj) -> str:
    if found := _LABEL_REFERENCE.match(path):
        block, name = found.groups()
        return str((pod["metadata"].get(block) or {}).get(name, ""))
    value: Any = pod
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if value is None and path in ("status.podIP", "status.hostIP"):
        return "127.0.0.1"
    return "" if value is None else str(value)


def _resource(reference: Obj, pod: Obj) -> str:
    block, _, name = reference["resource"].partition(".")
    containers = pod["spec"]["containers"]
    wanted = reference.get("containerName", containers[0]["name"])
    container = next(c for c in containers if c["name"] == wanted)
    return str((container.get("resources") or {}).get(block, {}).get(name, "0"))


def _files_of(volume: Obj, lookup: Lookup) -> dict[str, str]:
    """File name -> content of a configMap, secret or projected volume; none of an emptyDir."""
    if projected := volume.get("projected"):
        files: dict[str, str] = {}
        for source in projected.get("sources") or ():
            if "serviceAccountToken" not in source and "downwardAPI" not in source:
                files |= _files_of(source, lookup)
        return files
    if "secret" in volume:
        source = volume["secret"]
        reference = {"name": source.get("secretName") or source.get("name"), **source}
        data = _data("Secret", reference, lookup)
    elif "configMap" in volume:
        source = volume["configMap"]
        data = _data("ConfigMap", source, lookup)
    else:
        return {}
    items = source.get("items")
    if items is None or data is None:
        return data or {}
    return {item["path"]: data[item["key"]] for item in items if item["key"] in data}


def decoded(kind: str, obj: Obj) -> dict[str, str]:
    """The data of a Secret or ConfigMap as text."""
    data = obj.get("data") or {}
    if kind == "Secret":
        return {name: base64.b64decode(value).decode() for name, value in data.items()}
    return dict(data)
