"""What the API server demands of a CRD's schema, as far as it can be checked without one.

Rules: "Specifying a structural schema" and "Validation rules" of the Kubernetes documentation of
custom resources.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

_TYPES = {"array", "boolean", "integer", "number", "object", "string"}
# JSONSchemaProps of apiextensions.k8s.io/v1, less what structural schemas forbid or we don't use.
_KEYWORDS = {
    "additionalProperties",
    "anyOf",
    "default",
    "description",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "nullable",
    "pattern",
    "properties",
    "required",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
}
_INT_OR_STRING_ARMS = [{"type": "integer"}, {"type": "string"}]
_FORMATS = {"int32", "int64", "date-time"}


def problems(schema: Schema, path: str = "") -> Iterator[str]:
    """What is wrong with a schema, as `path: words`."""
    for keyword in set(schema) - _KEYWORDS:
        yield f"{path}: the keyword {keyword} is not allowed"
    kind = schema.get("type")
    is_int_or_string = schema.get("x-kubernetes-int-or-string", False)
    if is_int_or_string:
        if kind is not None or schema.get("anyOf") != _INT_OR_STRING_ARMS:
            yield f"{path}: an int-or-string has no type and exactly two arms"
    elif "anyOf" in schema:
        yield f"{path}: anyOf is for int-or-string alone"
    elif kind is None and not schema.get("x-kubernetes-preserve-unknown-fields"):
        yield f"{path}: no type"
    elif kind not in (None, *_TYPES):
        yield f"{path}: the type {kind} is none"
    if "properties" in schema and "additionalProperties" in schema:
        yield f"{path}: properties and additionalProperties exclude each other"
    if kind == "object" and not {
        "properties",
        "additionalProperties",
        "x-kubernetes-preserve-unknown-fields",
    } & set(schema):
        yield f"{path}: an object that can hold nothing"
    if kind == "array" and "items" not in schema:
        yield f"{path}: an array without items"
    if schema.get("format") not in (None, *_FORMATS):
        yield f"{path}: the format {schema['format']} is ignored"
    for bound in ("exclusiveMinimum", "exclusiveMaximum"):
        if not isinstance(schema.get(bound, False), bool):
            yield f"{path}: {bound} is a boolean"
    if set(schema.get("required", ())) - set(schema.get("properties", ())):
        yield f"{path}: requires what it doesn't have"
    if not path:
        yield from _metadata_problems(schema)
    yield from _default_problems(schema, path)
    yield from _list_problems(schema, path)
    for name, inner in _children(schema):
        yield from problems(inner, f"{path}.{name}")


def _metadata_problems(root: Schema) -> Iterator[str]:
    """Of metadata only names may be restricted, and nothing else may be said, no description."""
    metadata = root.get("properties", {}).get("metadata", {})
    for keyword in set(metadata) - {"type", "properties"}:
        yield f".metadata: the keyword {keyword} is not allowed here"
    for name in set(metadata.get("properties", {})) - {"name", "generateName"}:
        yield f".metadata.{name}: only names can be restricted"


def _default_problems(schema: Schema, path: str) -> Iterator[str]:
    if "default" in schema and schema["default"] is None:
        yield f"{path}: null is no default"
    if schema.get("nullable") and "enum" in schema:
        yield f"{path}: null is never one of an enum"
    if "default" in schema and path.startswith((".metadata", ".status")):
        yield f"{path}: nobody should fill this in"


def _list_problems(schema: Schema, path: str) -> Iterator[str]:
    if schema.get("x-kubernetes-list-type") == "map":
        keys = schema.get("x-kubernetes-list-map-keys", [])
        item = schema["items"]
        for key in keys:
            if key not in item.get("required", ()) and "default" not in item["properties"][key]:
                yield f"{path}: the key {key} is neither required nor defaulted"
        if not keys:
            yield f"{path}: a list-map without keys"


def unbounded(schema: Schema, path: str = "") -> Iterator[str]:
    """Paths of strings, lists and maps without an upper bound, whose rules cost without end."""
    kind = schema.get("type")
    bounded_by = {"string": ("maxLength", "enum", "format"), "array": ("maxItems",)}
    if schema.get("x-kubernetes-int-or-string"):
        bounded_by, kind = {"": ("maxLength",)}, ""
    if kind == "object" and "additionalProperties" in schema:
        bounded_by = {"object": ("maxProperties",)}
    wanted = bounded_by.get(kind or "-")
    if wanted and not set(wanted) & set(schema):
        yield path
    for name, inner in _children(schema):
        yield from unbounded(inner, f"{path}.{name}")


def walk(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every schema node with its path."""
    yield path, schema
    for name, inner in _children(schema):
        yield from walk(inner, f"{path}.{name}")


def _children(schema: Schema) -> Iterator[tuple[str, Schema]]:
    yield from schema.get("properties", {}).items()
    if isinstance(schema.get("additionalProperties"), dict):
        yield "*", schema["additionalProperties"]
    if "items" in schema:
        yield "[]", schema["items"]
