"""A pydantic model as Markdown: a section for each block, a table of its keys."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from tests.docs.cells import cell

Schema = dict[str, Any]


def model_sections(
    model: type[BaseModel], path: str, *, stop_at: Sequence[str] = ()
) -> Iterator[str]:
    """Sections of the model and of every block in it, outer ones first.

    Args:
        stop_at: blocks, by their path below `path`, whose keys are not shown.
    """
    whole = model.model_json_schema(by_alias=True)
    skipped = {f"{path}.{name}" for name in stop_at}
    yield from _sections(whole, path, whole.get("$defs", {}), skipped)


def _sections(
    schema: Schema, path: str, definitions: dict[str, Schema], skipped: set[str]
) -> Iterator[str]:
    required = set(schema.get("required", ()))
    rows = ["| key | | default | |", "|---|---|---|---|"]
    blocks = []
    for name, raw in schema["properties"].items():
        field = _resolved(raw, definitions)
        inner = _block(field, definitions)
        key = f"`{name}`"
        if inner is not None and f"{path}.{name}" not in skipped:
            key = f"[`{name}`](#{_anchor(f'{path}.{name}')})"
            blocks.append((f"{path}.{name}", inner))
        default = "required" if name in required else _default(field)
        kind = "" if inner is not None else kind_words(field, definitions)
        words = cell(field.get("description", ""))
        rows.append(f"| {key} | {kind} | {default} | {words} |")
    yield f"## {path} {{ #{_anchor(path)} }}\n\n" + "\n".join(rows) + "\n"
    for inner_path, inner in blocks:
        yield from _sections(inner, inner_path, definitions, skipped)


def _anchor(path: str) -> str:
    return path.replace(".", "-").replace("[]", "").lower()


def _resolved(raw: Schema, definitions: dict[str, Schema]) -> Schema:
    while "$ref" in raw:
        target = definitions[raw["$ref"].rpartition("/")[2]]
        raw = {**target, **{key: value for key, value in raw.items() if key != "$ref"}}
    return raw


def _members(field: Schema, definitions: dict[str, Schema]) -> list[Schema]:
    members = [_resolved(member, definitions) for member in field.get("anyOf", [field])]
    return [member for member in members if member.get("type") != "null"]


def _block(field: Schema, definitions: dict[str, Schema]) -> Schema | None:
    """The keys of what is one block, or a list of blocks."""
    for member in _members(field, definitions):
        inner = _resolved(member.get("items", member), definitions)
        if "properties" in inner:
            return inner
    return None


def _default(field: Schema) -> str:
    if "default" not in field or field["default"] is None:
        return ""
    return f"`{json.dumps(field['default'], ensure_ascii=False)}`"


def kind_words(field: Schema, definitions: dict[str, Schema]) -> str:
    """Type and bounds in a few words."""
    return " or ".join(
        dict.fromkeys(_one_kind(member, definitions) for member in _members(field, definitions))
    )


def _one_kind(member: Schema, definitions: dict[str, Schema]) -> str:
    if "enum" in member:
        return ", ".join(f"`{value}`" for value in member["enum"])
    if "const" in member:
        return f"`{member['const']}`"
    if member.get("type") == "array":
        inner = _resolved(member.get("items", {}), definitions)
        return f"list of {_one_kind(inner, definitions)}"
    kind = str(member.get("type", "any"))
    return " ".join(filter(None, [kind, _bounds(member)]))


def _bounds(member: Schema) -> str:
    low, high = member.get("minimum"), member.get("maximum")
    above = member.get("exclusiveMinimum")
    if low is not None and high is not None:
        return f"{low} to {high}"
    if above is not None and high is not None:
        return f"above {above}, to {high}"
    if low is not None:
        return f"from {low}"
    if above is not None:
        return f"above {above}"
    return "" if high is None else f"up to {high}"
