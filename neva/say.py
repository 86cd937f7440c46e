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
from neva.reasons import Reason

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


def exit_code_of(error: NevaError, *, wrong: int = 2, failed: int = 1) -> int:
    """The exit code of an error.

    Args:
        wrong: of what must change before the same can do, whoever noticed it: the job's check, or
            the store.
        failed: of every other error of ours: the same again may do.
    """
    is_wrong = isinstance(error, ConfigError) or error.reason is Reason.INVALID_CONFIG
    return wrong if is_wrong else failed


@contextmanager
def errors_as_exit_codes(*, wrong: int = 2, failed: int = 1) -> Iterator[None]:
    """Tell what is raised in the block, and end the command with `exit_code_of` it."""
    try:
        yield
    except NevaError as error:
        code = exit_code_of(error, wrong=wrong, failed=failed)
        raise typer.Exit(tell_error(error, code)) from error
