"""How commands say to a person what went wrong."""

from __future__ import annotations

from rich.console import Console

from neva.errors import NevaError


def tell_error(console: Console, error: NevaError, code: int) -> int:
    """Print the error as one line; returns `code`."""
    console.print(f"[red]error[/] ({error.reason}): ", end="")
    console.print(error.message, markup=False)
    return code
