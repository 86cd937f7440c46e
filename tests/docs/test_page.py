from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.page import STAND_IN, Block, matches, shell_blocks


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a\n", "a\nb\n", False),
        ("a\nb\n", "a\n", False),
        ("a … c\n", "a b c\n", True),
        ("a … c\n", "a b\nc\n", False),
        ("…\nz\n", "x\ny\nz\n", True),
        ("…\nz\n", "z\n", True),
        ("…\nz\n", "x\ny\n", False),
        ("a.c\n", "abc\n", False),
    ],
)
def test_a_wildcard_stands_for_a_part_of_a_line_or_for_lines(
    shown: str, printed: str, same: bool
) -> None:
    assert matches(shown, printed) is same


def test_blocks_are_found_with_what_they_print(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        f"# Page\n\n{STAND_IN}\n```sh\ninstall\n```\n\n```sh\necho a\n```\n\n```text\na\n```\n\n"
        "```sh\necho b\n```\n\nProse.\n\n```text\nnot of b\n```\n\n```yaml\na: 1\n```\n"
    )
    assert shell_blocks(page) == [
        Block(4, "install\n", None, True),
        Block(8, "echo a\n", "a\n", False),
        Block(16, "echo b\n", None, False),
    ]
