"""What the API server does to custom resources by their CRD's schema.

In this order: unknown fields (pruned, or refused when the client asks for strict validation), nulls
(dropped where they mean nothing), defaults, the schema's own rules, CEL rules.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Any

import cel
import jsonschema

from tests.kube.emulator.resources import Obj, ResourceType

Schema = dict[str, Any]
Cause = dict[str, str]

_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING = "x-kubernetes-int-or-string"
_REASON_OF_VALIDATOR = {"required": "FieldValueRequired", "enum": "FieldValueNotSupported"}

_formats = jsonschema.FormatChecker(formats=())


@_formats.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


class CustomSchema:
    """The schema of one version of a CRD, ready to be used."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._validator = jsonschema.Draft4Validator(json_schema(schema), format_checker=_formats)

    def unknown_fields(self, obj: Obj) -> list[str]:
        """Paths of fields that the schema doesn't have."""
        return [path for path, _ in self._unknown(obj)]

    def admit(self, obj: Obj) -> Obj:
        """`obj` without unknown fields and idle nulls, with defaults."""
        obj = copy.deepcopy(obj)
        for _, remove in self._unknown(obj):
            remove()
        _drop_nulls(obj, self._schema)
        _fill_in_defaults(obj, self._schema)
        return obj

    def problems(self, obj: Obj, old: Obj | None) -> list[Cause]:
        """Why the API server refuses `obj`; CEL rules only run on what fits the schema."""
        found = [_cause(error) for error in self._validator.iter_errors(obj)]
        return found or list(_broken_rules(obj, old, self._schema, ""))

    def _unknown(self, obj: Obj) -> list[tuple[str, Any]]:
        properties = self._schema.get("properties", {})
        found = []
        for name in set(obj) - {"apiVersion", "kind", "metadata"}:
            if name in properties:
                found += list(_unknown(obj[name], properties[name], name))
            else:
                found.append((name, _remover(obj, name)))
        return sorted(found, key=lambda item: item[0])


def custom_schema(kind: ResourceType) -> CustomSchema:
    """The schema of a custom resource's type."""
    assert kind.crd_version is not None
    return _cached(_Identity(kind.crd_version["schema"]["openAPIV3Schema"]))


class _Identity:
    """A schema as the key of a cache: by identity, and kept alive."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.schema is other.schema

    def __hash__(self) -> int:
        return id(self.schema)


@cache
def _cached(key: _Identity) -> CustomSchema:
    return CustomSchema(key.schema)


def json_schema(schema: Schema) -> Schema:
    """A structural schema as JSON Schema draft 4, which has boolean exclusive bounds, too."""
    result = {
        key: value
        for key, value in schema.items()
        if not key.startswith("x-") and key not in ("default", "nullable", "description")
    }
    if "properties" in schema:
        result["properties"] = {n: json_schema(s) for n, s in schema["properties"].items()}
    if isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = json_schema(schema["additionalProperties"])
    if "items" in schema:
        result["items"] = json_schema(schema["items"])
    if schema.get("nullable") and "type" in schema:
        result["type"] = [schema["type"], "null"]
    return result


def _unknown(value: Any, schema: Schema, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from _unknown(item, schema["items"], f"{path}[{index}]")
    if not isinstance(value, dict):
        return
    properties = schema.get("properties", {})
    values = schema.get("additionalProperties")
    for name in list(value):
        if name in properties:
            yield from _unknown(value[name], properties[name], f"{path}.{name}")
        elif isinstance(values, dict):
            yield from _unknown(value[name], values, f"{path}.{name}")
        elif not schema.get(_PRESERVE) and not values:
            yield f"{path}.{name}", _remover(value, name)


def _remover(parent: Obj, name: str) -> Any:
    return lambda: parent.pop(name)


def _drop_nulls(value: Any, schema: Schema) -> None:
    if isinstance(value, list) and "items" in schema:
        for item in value:
            _drop_nulls(item, schema["items"])
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if name not in value:
                continue
            if value[name] is None and not inner.get("nullable"):
                del value[name]
            else:
                _drop_nulls(value[name], inner)


def _fill_in_defaults(value: Any, schema: Schema) -> None:
    if isinstance(value, list) and "items" in schema:
        for item in value:
            _fill_in_defaults(item, schema["items"])
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if name not in value and "default" in inner:
                value[name] = copy.deepcopy(inner["default"])
            if name in value:
                _fill_in_defaults(value[name], inner)
        if isinstance(schema.get("additionalProperties"), dict):
            for item in value.values():
                _fill_in_defaults(item, schema["additionalProperties"])


def _cause(error: jsonschema.ValidationError) -> Cause:
    path = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path
    ).lstrip(".")
    validator = str(error.validator)
    if validator == "required":
        # One error per missing name, each with its words only.
        missing = error.message.split("'")[1]
        return {
            "reason": "FieldValueRequired",
            "message": "Required value",
            "field": f"{path}.{missing}".lstrip("."),
        }
    reason = _REASON_OF_VALIDATOR.get(validator, "FieldValueInvalid")
    words = "Unsupported value" if validator == "enum" else "Invalid value"
    message = f"{words}: {error.instance!r}: {error.message}"
    return {"reason": reason, "message": message, "field": path or "<nil>"}


def _broken_rules(value: Any, old: Any, schema: Schema, path: str) -> Iterator[Cause]:
    """The CEL rules of a block and of all below it that don't hold."""
    rules = schema.get("x-kubernetes-validations", ())
    # Converting the values is the costly part: once for all rules of a block.
    context = cel.Context(variables={"self": value, "oldSelf": old}) if rules else None
    for rule in rules:
        is_transition = "oldSelf" in rule["rule"]
        if is_transition and old is None:
            continue
        if not _holds(rule["rule"], context):
            field = f"{path}{rule.get('fieldPath', '')}".lstrip(".")
            message = f"Invalid value: {rule['message']}"
            reason = rule.get("reason", "FieldValueInvalid")
            yield {"reason": reason, "message": message, "field": field}
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if name in value and name != "metadata":
                before = old.get(name) if isinstance(old, dict) else None
                yield from _broken_rules(value[name], before, inner, f"{path}.{name}")
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from _broken_rules(item, None, schema["items"], f"{path}[{index}]")


def _holds(expression: str, context: Any) -> bool:
    """Whether a CEL rule holds; a rule that can't be evaluated doesn't, as on the API server."""
    try:
        return _program(expression).execute(context) is True
    except (RuntimeError, TypeError, ValueError):
        return False


@cache
def _program(expression: str) -> Any:
    return cel.compile(expression)
