"""Words as they stand in a cell of a Markdown table."""

from __future__ import annotations

import re

_CODE = re.compile(r"(`[^`]*`)")


def cell(words: str) -> str:
    """On one line, with `|` and what looks like HTML taken as text; code stays as it is."""
    pieces = _CODE.split(" ".join(words.split()))
    pieces[::2] = [piece.replace("<", "&lt;") for piece in pieces[::2]]
    return "".join(pieces).replace("|", "\\|")
