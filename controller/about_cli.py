"""The commands `version` and `completion`."""

from __future__ import annotations

import platform
from enum import StrEnum
from importlib import metadata
from typing import Annotated

import typer
from typer._completion_shared import get_completion_script

from neva.say import Format, FormatOption, rendered

version_app = typer.Typer(add_completion=False)
completion_app = typer.Typer(add_completion=False)

_PROJECT = "neva-batch"
# What answers, or who is asked, depends on.
_LIBRARIES = ("torch", "megatron-core", "transformers", "av", "decord", "openai", "kubernetes")


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@version_app.command()
def version(form: FormatOption = Format.TEXT) -> None:
    """Say which version this is, and of the libraries that matter."""
    if form is Format.TEXT:
        typer.echo(version_words())
        return
    found = {name: installed for name in _LIBRARIES if (installed := _version(name)) is not None}
    facts = {"version": _version(_PROJECT), "python": platform.python_version(), "libraries": found}
    typer.echo(rendered(facts, form))


@completion_app.command()
def completion(
    shell: Annotated[Shell, typer.Argument(help="Whose script; `source <(neva completion bash)`.")],
) -> None:
    """Print the script that completes commands and options; --install-completion installs it."""
    script = get_completion_script(
        prog_name="neva", complete_var="_NEVA_COMPLETE", shell=shell.value
    )
    typer.echo(script)


def version_words() -> str:
    return f"{_PROJECT} {_version(_PROJECT)} (Python {platform.python_version()})"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
