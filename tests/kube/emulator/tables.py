"""Tables: what `kubectl get` prints of custom resources, by their printer columns."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.kube.emulator.resources import Obj, ResourceType

_DEFAULT_COLUMNS = [
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": ""}
]


def table(kind: ResourceType, objects: list[Obj], version: str) -> Obj:
    """A meta.k8s.io/v1 Table with one row per object."""
    columns = _DEFAULT_COLUMNS
    if kind.crd_version is not None:
        columns = kind.crd_version.get("additionalPrinterColumns") or columns
    name = {"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": [
            name,
            *(
                {
                    "name": column["name"],
                    "type": column["type"],
                    "format": column.get("format", ""),
                    "description": column.get("description", ""),
                    "priority": column.get("priority", 0),
                }
                for column in columns
            ),
        ],
        "rows": [
            {
                "cells": [obj["metadata"]["name"], *(_cell(obj, column) for column in columns)],
                "object": {
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": obj["metadata"],
                },
            }
            for obj in objects
        ],
    }


def _cell(obj: Obj, column: Obj) -> Any:
    value: Any = obj
    for name in column["jsonPath"].strip(".").split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if value is not None and column["type"] == "date":
        age = datetime.now(UTC) - datetime.fromisoformat(value)
        return _age(max(0, int(age.total_seconds())))
    return value


def _age(seconds: int) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
