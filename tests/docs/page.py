"""The shell blocks of a page, and what it says that they print."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# The visible sign, in the page's source, that a block is not run as it stands.
STAND_IN = "<!-- The test's environment steps in for this block. -->"
WILD = "…"
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """One block of commands.

    Attributes:
        line: of the page, where it begins.
        shown: what the page says it prints; None where it does not say.
        stands_in: the test's environment takes its place.
    """

    line: int
    commands: str
    shown: str | None
    stands_in: bool


def shell_blocks(page: Path) -> list[Block]:
    """Every `sh` block in order, with the `text` block that follows it directly, if one does."""
    text = page.read_text(encoding="utf-8")
    fences = list(_FENCE.finditer(text))
    blocks = []
    for fence, following in zip(fences, [*fences[1:], None], strict=True):
        if fence[1] != "sh":
            continue
        shown = None
        if following is not None and following[1] == "text":
            between = text[fence.end() : following.start()]
            shown = following[2] if not between.strip() else None
        before = text[: fence.start()].rstrip().rpartition("\n")[2]
        line = text.count("\n", 0, fence.start()) + 1
        blocks.append(Block(line, fence[2], shown, before == STAND_IN))
    return blocks


def matches(shown: str, printed: str) -> bool:
    """Whether `printed` is what the page shows.

    `…` alone on a line stands for any lines, or none; within a line for any characters of it.
    """
    pattern = ""
    for line in shown.rstrip("\n").split("\n"):
        if line == WILD:
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += r"[^\n]*?".join(map(re.escape, line.split(WILD))) + r"[ ]*\n"
    return re.fullmatch(pattern, printed.rstrip("\n") + "\n") is not None
