"""Pydantic model -> structural OpenAPI v3 schema, as the API server takes it in a CRD.

What the API server wants otherwise than JSON Schema has it:
* no `$ref`, no `anyOf` with types, no `const`, `exclusiveMinimum` is a boolean;
* `additionalProperties` and `properties` exclude each other: unknown keys are pruned, or refused
  by strict field validation;
* null: the API server drops nulls of fields that are not `nullable`, so an optional field needs
  none. `nullable` stands only where null means something else than absence, and a nullable field
  can't have an `enum`, which refuses null even when it lists it: it gets a `pattern`.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from neva.spec_base import MAX_INT32

Schema = dict[str, Any]

_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING = "x-kubernetes-int-or-string"
_COPIED = (
    "description",
    "type",
    "format",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "minimum",
    "maximum",
    "default",
)


def structural_schema(model: type[BaseModel], *, with_defaults: bool = True) -> Schema:
    """The schema of one model, with everything it refers to inlined.

    Args:
        with_defaults: False for a status, which nobody but the operator fills in.
    """
    raw = model.model_json_schema(by_alias=True, mode="validation")
    return _Converter(raw.get("$defs", {}), with_defaults).convert(raw)


class _Converter:
    def __init__(self, definitions: dict[str, Schema], with_defaults: bool) -> None:
        self._definitions = definitions
        self._with_defaults = with_defaults

    def convert(self, raw: Schema) -> Schema:
        raw = self._resolved(raw)
        if "anyOf" in raw:
            return self._union(raw)
        if raw.get(_INT_OR_STRING):
            return _int_or_string(raw)
        schema = {key: raw[key] for key in _COPIED if key in raw}
        if not self._with_defaults or schema.get("default") in (None, [], {}):
            schema.pop("default", None)
        for bound in ("Minimum", "Maximum"):
            if f"exclusive{bound}" in raw:
                schema[bound.lower()] = raw[f"exclusive{bound}"]
                schema[f"exclusive{bound}"] = True
        kind = raw.get("type")
        if kind == "integer":
            _bound_integer(schema)
        elif kind == "array":
            schema["items"] = self.convert(raw["items"])
            schema["x-kubernetes-list-type"] = "atomic"
        elif kind == "object":
            self._object(raw, schema)
        elif kind not in ("string", "boolean", "number"):
            raise TypeError(f"no structural schema for {raw}")
        return schema

    def _resolved(self, raw: Schema) -> Schema:
        """`raw` with its $ref replaced by what it refers to; what stands beside it wins."""
        while "$ref" in raw:
            target = self._definitions[raw["$ref"].rpartition("/")[2]]
            raw = {**target, **{key: value for key, value in raw.items() if key != "$ref"}}
        return raw

    def _object(self, raw: Schema, schema: Schema) -> None:
        values = raw.get("additionalProperties")
        if "properties" in raw:
            schema["properties"] = {
                name: self._property(field) for name, field in raw["properties"].items()
            }
            if required := raw.get("required"):
                schema["required"] = required
        elif isinstance(values, dict):
            schema["additionalProperties"] = self.convert(values)
        else:
            schema[_PRESERVE] = True

    def _property(self, raw: Schema) -> Schema:
        schema = self.convert(raw)
        # An absent block is one full of defaults; {} makes the API server fill them in.
        has_fields = "properties" in schema and "required" not in schema
        if self._with_defaults and has_fields and "anyOf" not in raw:
            schema["default"] = {}
        return schema

    def _union(self, raw: Schema) -> Schema:
        members = [m for m in raw["anyOf"] if m.get("type") != "null"]
        outer = {key: value for key, value in raw.items() if key != "anyOf"}
        if len(members) == 1:
            schema = self.convert({**self._resolved(members[0]), **outer})
            if raw.get("default") is not None:
                schema["nullable"] = True
                if values := schema.pop("enum", None):
                    # `kubectl apply` drops nulls before the API server sees them: the word helps.
                    schema["pattern"] = f"^({'|'.join([*values, 'null'])})$"
                    schema["maxLength"] = max(map(len, [*values, "null"]))
            return schema
        if sorted(m["type"] for m in members) == ["boolean", "number"]:
            return _boolean_or_number(raw)
        raise TypeError(f"no structural schema for the union {raw}")


def _bound_integer(schema: Schema) -> None:
    if schema.get("maximum", MAX_INT32 + 1) > MAX_INT32:
        # The wire type is the bound: as a JSON number it could not be written exactly.
        schema.pop("maximum", None)
        schema.pop("exclusiveMaximum", None)
        schema["format"] = "int64"
    else:
        schema["format"] = "int32"


def _int_or_string(raw: Schema) -> Schema:
    schema: Schema = {key: raw[key] for key in ("description", "default") if key in raw}
    return {
        **schema,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "pattern": raw["pattern"],
        "maxLength": raw["maxLength"],
        "minimum": 0,
        _INT_OR_STRING: True,
    }


def _boolean_or_number(raw: Schema) -> Schema:
    """No type at all, and bounds that every string, list and map breaks.

    A structural schema can't say "boolean or number" by its types. A bound is only looked at for
    values of its own type, so no string can be both of 1 character at least and of 0 at most.
    """
    schema: Schema = {key: raw[key] for key in ("description", "default") if key in raw}
    bounds = {f"{end}{what}": 1 if end == "min" else 0 for what in _SIZES for end in ("min", "max")}
    return {**schema, **bounds, "minimum": 0, _PRESERVE: True}


_SIZES = ("Length", "Items", "Properties")
