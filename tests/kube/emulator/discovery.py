"""Discovery: groups, versions and resources, and as much OpenAPI as kubectl needs."""

from __future__ import annotations

from tests.kube.emulator.resources import Obj, Registry, ResourceType

_VERBS = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
]
_PATCH_TYPES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)

_STRINGS = {"type": "object", "additionalProperties": {"type": "string", "default": ""}}
_OBJECT_META = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": _STRINGS,
        "annotations": _STRINGS,
    },
}

VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.0-emulator",
    "platform": "linux/amd64",
}


def answer(resources: Registry, path: str) -> Obj | None:
    """The document at a discovery path without its slashes; None where there is none."""
    parts = path.split("/")
    match parts:
        case ["version"]:
            return VERSION
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["api", version]:
            return _resource_list(resources, "", version)
        case ["apis"]:
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": _groups(resources)}
        case ["apis", group]:
            found = [g for g in _groups(resources) if g["name"] == group]
            return {"kind": "APIGroup", "apiVersion": "v1", **found[0]} if found else None
        case ["apis", group, version]:
            return _resource_list(resources, group, version)
        case ["openapi", "v3"]:
            return _openapi_index(resources)
        case ["openapi", "v3", "api", version]:
            return _openapi(resources, "", version)
        case ["openapi", "v3", "apis", group, version]:
            return _openapi(resources, group, version)
    return None


def _groups(resources: Registry) -> list[Obj]:
    groups: dict[str, list[Obj]] = {}
    for group, version in resources.group_versions():
        entry = {"groupVersion": f"{group}/{version}", "version": version}
        groups.setdefault(group, []).append(entry)
    return [
        {"name": group, "versions": versions, "preferredVersion": versions[0]}
        for group, versions in groups.items()
    ]


def _resource_list(resources: Registry, group: str, version: str) -> Obj | None:
    kinds = resources.of(group, version)
    if not kinds:
        return None
    entries = []
    for kind in kinds:
        entries.append(
            {
                "name": kind.plural,
                "singularName": kind.kind.lower(),
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": _VERBS,
                "shortNames": list(kind.short_names),
                "categories": list(kind.categories),
            }
        )
        entries += [
            {
                "name": f"{kind.plural}/{subresource}",
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": ["get", "patch", "update"],
            }
            for subresource in kind.subresources
        ]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": kinds[0].api_version,
        "resources": entries,
    }


def _openapi_index(resources: Registry) -> Obj:
    paths = ["api/v1", *(f"apis/{g}/{v}" for g, v in resources.group_versions())]
    return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}"} for path in paths}}


def _openapi(resources: Registry, group: str, version: str) -> Obj | None:
    """Enough for `kubectl apply` (field validation is the server's) and `kubectl explain`."""
    kinds = resources.of(group, version)
    if not kinds:
        return None
    prefix = f"/apis/{group}/{version}" if group else f"/api/{version}"
    paths, schemas = {}, {}
    for kind in kinds:
        gvk = {"group": group, "version": version, "kind": kind.kind}
        name = f"{group or 'core'}.{version}.{kind.kind}"
        schemas[name] = {**_schema(kind), "x-kubernetes-group-version-kind": [gvk]}
        scope = "/namespaces/{namespace}" if kind.namespaced else ""
        reference = {"$ref": f"#/components/schemas/{name}"}
        answer_body = {"content": {"application/json": {"schema": reference}}}
        common = {"x-kubernetes-group-version-kind": gvk, "responses": {"200": answer_body}}
        paths[f"{prefix}{scope}/{kind.plural}/{{name}}"] = {
            "get": {**common, "x-kubernetes-action": "get"},
            "patch": {
                **common,
                "x-kubernetes-action": "patch",
                "parameters": [
                    {"name": name, "in": "query", "schema": {"type": "string"}}
                    for name in ("dryRun", "fieldManager", "fieldValidation", "force")
                ],
                "requestBody": {"content": {t: {"schema": {}} for t in _patch_types(kind)}},
            },
        }
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36.0"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _patch_types(kind: ResourceType) -> tuple[str, ...]:
    """kubectl looks here before it sends a strategic patch."""
    return _PATCH_TYPES if kind.crd_version is None else _PATCH_TYPES[:-1]


def _schema(kind: ResourceType) -> Obj:
    if kind.crd_version is None:
        return {"type": "object"}
    schema: Obj = kind.crd_version["schema"]["openAPIV3Schema"]
    return {**schema, "properties": {**schema["properties"], "metadata": _OBJECT_META}}
