"""How commands speak to a person, and to a program."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any

import typer

from neva.errors import ConfigError, NevaError

DEBUG_VARIABLE = "NEVA_DEBUG"


class Format(StrEnum):
    """How a command prints what it found."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


FormatOption = Annotated[
    Format, typer.Option("-o", "--output-format", help="How to print it: for people or programs.")
]


def rendered(data: Any, form: Format) -> str:
    """Plain data as JSON or YAML."""
    if form is Format.JSON:
        import orjson

        return orjson.dumps(data, option=orjson.OPT_INDENT_2).decode()
    import yaml

    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True)).rstrip()


def rendered_line(data: Any, form: Format) -> str:
    """Of several documents one: a line of JSON, or a document of a YAML stream."""
    if form is Format.JSON:
        import orjson

        return orjson.dumps(data).decode()
    return f"---\n{rendered(data, form)}"


def tell(data: Any, form: Format) -> None:
    """Print a command's one document where one was asked for; stdout then holds nothing else."""
    if form is not Format.TEXT:
        typer.echo(rendered(data, form))


def is_debugging() -> bool:
    """Whether errors come with their traceback: `neva --debug`."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0", "false")


def tell_error(error: NevaError, code: int) -> int:
    """Print the error on stderr, as one line and whatever its message adds; returns `code`."""
    if is_debugging():
        typer.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    typer.secho("error", fg=typer.colors.RED, err=True, nl=False)
    typer.echo(f" ({error.reason}): {error.message}", err=True)
    return code


@contextmanager
def errors_as_exit_codes(*, wrong: int = 2, failed: int = 1) -> Iterator[None]:
    """Tell what is raised in the block, and end the command.

    Args:
        wrong: exit code of a ConfigError: what was asked for must change.
        failed: of every other error of ours: the same again may do.
    """
    try:
        yield
    except ConfigError as error:
        raise typer.Exit(tell_error(error, wrong)) from error
    except NevaError as error:
        raise typer.Exit(tell_error(error, failed)) from error
