"""Write the table of values into the chart's README: `python -m tests.chart.readme`.

The words are the comments `# -- …` in values.yaml, as helm-docs reads them; a test fails when the
README is not what this writes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import yaml

from tests.chart.rendering import CHART_FOLDER

README: Final = CHART_FOLDER / "README.md"
_BEGIN, _END = "<!-- values: begin -->", "<!-- values: end -->"


@dataclass(frozen=True, slots=True)
class Value:
    """One row: a dotted key, its default as JSON, and its comment."""

    key: str
    default: str
    words: str


def documented_values(text: str) -> Iterator[Value]:
    """Every key of values.yaml that has a comment, and every other one that has no keys below.

    A key without a comment of its own has empty words.
    """
    lines = text.splitlines()
    yield from _below(yaml.compose(text, Loader=yaml.SafeLoader), "", lines)


def _below(node: yaml.MappingNode, prefix: str, lines: list[str]) -> Iterator[Value]:
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        words = _comment_above(key.start_mark.line, lines)
        if words or not (isinstance(value, yaml.MappingNode) and value.value):
            default = yaml.SafeLoader("").construct_document(value)
            yield Value(name, json.dumps(default), words)
        else:
            yield from _below(value, f"{name}.", lines)


def _comment_above(line: int, lines: list[str]) -> str:
    words: list[str] = []
    for above in reversed(lines[:line]):
        text = above.strip()
        if not text.startswith("#"):
            return ""
        words.insert(0, text.removeprefix("#").strip())
        if words[0].startswith("-- "):
            return " ".join(words).removeprefix("-- ")
    return ""


def values_table(text: str) -> str:
    rows = ["| key | default | |", "|---|---|---|"]
    for value in documented_values(text):
        words = value.words.replace("|", "\\|")
        rows.append(f"| `{value.key}` | `{value.default}` | {words} |")
    return "\n".join(rows)


def with_table(readme: str, values: str) -> str:
    """`readme` with the table between its marks."""
    pattern = re.compile(f"{_BEGIN}.*{_END}", re.DOTALL)
    if not pattern.search(readme):
        raise ValueError(f"the README has no {_BEGIN} and {_END}")
    return pattern.sub(lambda _: f"{_BEGIN}\n{values_table(values)}\n{_END}", readme)


def main() -> int:
    values = (CHART_FOLDER / "values.yaml").read_text(encoding="utf-8")
    written = with_table(README.read_text(encoding="utf-8"), values)
    README.write_text(written, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
