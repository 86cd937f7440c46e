from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import yaml
from pydantic import BaseModel, Field

from controller.cli import _COMMANDS
from neva.settings import Settings
from neva.spec import VideoNevaJob
from tests.docs.cells import cell
from tests.docs.reference import FOLDER, PAGES, main
from tests.docs.schema import model_sections


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), "run: make reference"


def test_every_command_and_every_variable_has_a_place() -> None:
    commands = (FOLDER / "cli.md").read_text(encoding="utf-8")
    assert [name for name in _COMMANDS if f"## neva {name} {{" not in commands] == []
    variables = (FOLDER / "settings.md").read_text(encoding="utf-8")
    fields = [f"`NEVA_{name.upper()}`" for name in Settings.model_fields]
    assert [name for name in fields if name not in variables] == []


def test_all_pages_are_written(tmp_path: Path) -> None:
    main(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(PAGES)


def test_words_in_a_cell_are_text_and_code_stays_code() -> None:
    assert cell("<image> |\n  `<b>`") == "&lt;image> \\| `<b>`"


class _Inner(BaseModel):
    mode: Literal["a", "b"] = Field("a", description="One | other.")
    share: float | None = Field(None, gt=0, le=1)


class _Outer(BaseModel):
    name: str
    inner: _Inner = Field(default_factory=_Inner, description="The inside.")
    many: list[_Inner] = Field([], description="More.")


def test_a_model_becomes_a_section_for_each_block() -> None:
    outer, inner, many = model_sections(_Outer, "spec", stop_at=())
    assert outer.splitlines() == [
        "## spec { #spec }",
        "",
        "| key | | default | |",
        "|---|---|---|---|",
        "| `name` | string | required |  |",
        "| [`inner`](#spec-inner) |  |  | The inside. |",
        "| [`many`](#spec-many) |  | `[]` | More. |",
    ]
    assert inner.splitlines()[4:] == [
        '| `mode` | `a`, `b` | `"a"` | One \\| other. |',
        "| `share` | number above 0, to 1 |  |  |",
    ]
    assert many.startswith("## spec.many { #spec-many }")


def test_a_block_may_be_left_to_another_page() -> None:
    assert len(list(model_sections(_Outer, "spec", stop_at=("inner", "many")))) == 1


def test_the_example_of_a_job_is_one() -> None:
    page = (FOLDER / "job.md").read_text(encoding="utf-8")
    example = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    assert VideoNevaJob.model_validate(example).spec.judge is not None
