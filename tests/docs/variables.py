"""The settings as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from neva.settings import Settings
from tests.docs.cells import cell
from tests.docs.schema import kind_words

_PREFIX = "NEVA_"
# Defaults that are the machine's.
_NAMED = {"cache_dir": "`~/.cache/neva-batch`", "scratch_dir": "the temporary folder"}


def settings_table() -> str:
    schema = Settings.model_json_schema()
    rows = ["| variable | | default | |", "|---|---|---|---|"]
    for name, field in schema["properties"].items():
        kind = kind_words(field, schema.get("$defs", {}))
        words = cell(field.get("description", ""))
        rows.append(f"| `{_PREFIX}{name.upper()}` | {kind} | {_default(name)} | {words} |")
    return "\n".join(rows)


def _default(name: str) -> str:
    if name in _NAMED:
        return _NAMED[name]
    value: Any = Settings.model_fields[name].get_default(call_default_factory=True)
    if value is None:
        return ""
    return f"`{json.dumps(str(value) if isinstance(value, Path) else value)}`"
