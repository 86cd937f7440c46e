from __future__ import annotations

import re

import pytest

from tests.chart.readme import README, documented_values, values_table, with_table
from tests.chart.rendering import CHART_FOLDER, REPOSITORY

_VALUES = (CHART_FOLDER / "values.yaml").read_text(encoding="utf-8")


def test_the_readme_is_what_the_values_say() -> None:
    readme = README.read_text(encoding="utf-8")
    assert with_table(readme, _VALUES) == readme, "run: python -m tests.chart.readme"


def test_every_value_has_a_comment() -> None:
    assert [value.key for value in documented_values(_VALUES) if not value.words] == []


def test_comments_become_rows() -> None:
    text = "a:\n  # -- First\n  # line | more.\n  b: 1\n  c: {}\n# -- Whole.\nd: {e: [2]}\n"
    assert values_table(text).splitlines()[2:] == [
        "| `a.b` | `1` | First line \\| more. |",
        "| `a.c` | `{}` |  |",
        '| `d` | `{"e": [2]}` | Whole. |',
    ]


def test_a_readme_without_marks_is_an_error() -> None:
    with pytest.raises(ValueError, match="begin"):
        with_table("nothing", _VALUES)


def test_files_that_the_readme_names_exist() -> None:
    named = re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8"))
    assert named
    assert [name for name in named if not (CHART_FOLDER / name).exists()] == []
    assert (REPOSITORY / "conf" / "examples").is_dir()
