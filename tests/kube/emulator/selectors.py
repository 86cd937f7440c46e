"""Label and field selectors of lists and watches."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.kube.emulator.resources import Obj

Matcher = Callable[[Obj], bool]

_SET_BASED = re.compile(r"^\s*(\S+)\s+(in|notin)\s*\(([^)]*)\)\s*$")
_TOP_LEVEL_COMMA = re.compile(r",(?![^(]*\))")


def matcher(label_selector: str | None, field_selector: str | None) -> Matcher:
    """Whether an object is selected. Raises ValueError for a selector that can't be read."""
    labels = [_label_term(term) for term in _terms(label_selector)]
    fields = [_field_term(term) for term in _terms(field_selector)]

    def matches(obj: Obj) -> bool:
        have = obj["metadata"].get("labels") or {}
        return all(term(have) for term in labels) and all(term(obj) for term in fields)

    return matches


def _terms(selector: str | None) -> list[str]:
    return [term.strip() for term in _TOP_LEVEL_COMMA.split(selector or "") if term.strip()]


def _label_term(term: str) -> Callable[[dict[str, str]], bool]:
    if found := _SET_BASED.match(term):
        key, operator, listed = found.groups()
        values = {value.strip() for value in listed.split(",")}
        if operator == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if "=" in term:
        key, equal, value = _equality(term)
        return lambda labels: (labels.get(key) == value) is equal
    if term.startswith("!"):
        return lambda labels: term[1:].strip() not in labels
    return lambda labels: term in labels


def _field_term(term: str) -> Matcher:
    path, equal, value = _equality(term)
    return lambda obj: (field_text(obj, path) == value) is equal


def _equality(term: str) -> tuple[str, bool, str]:
    for operator in ("!=", "==", "="):
        key, found, value = term.partition(operator)
        if found:
            return key.strip(), operator != "!=", value.strip()
    raise ValueError(f"unable to parse requirement: {term!r}")


def field_text(obj: Obj, path: str) -> str:
    """A field as selectors see it: absent is empty."""
    value: Any = obj
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
