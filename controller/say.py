"""How commands speak to a person, and to a program."""

from __future__ import annotations

from enum import StrEnum

from rich.console import Console

from neva.errors import NevaError


class Format(StrEnum):
    """How a command prints what it found."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


def tell_error(console: Console, error: NevaError, code: int) -> int:
    """Print the error as one line; returns `code`."""
    console.print(f"[red]error[/] ({error.reason}): ", end="")
    console.print(error.message, markup=False)
    return code
