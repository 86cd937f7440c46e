"""The commands of `neva` as a page, from what their parsers know."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer.main

from controller.cli import app
from tests.docs.cells import cell


def commands_page() -> str:
    group: Any = typer.main.get_command(app)
    context = group.make_context("neva", [], resilient_parsing=True)
    names = group.list_commands(context)
    loaded = {name: _loaded(group.get_command(context, name)) for name in names}
    rows = ["| command | |", "|---|---|"]
    for name in names:
        words = group.get_command(context, name).help or ""
        rows.append(f"| [`neva {name}`](#neva-{name}) | {cell(words)} |")
    sections = [line for name in names for line in _sections(f"neva {name}", loaded[name])]
    return "\n".join([*rows, "", *sections]) + "\n"


def _loaded(command: Any) -> Any:
    """The command itself instead of its name and line."""
    return command._load() if hasattr(command, "_load") else command


def _sections(path: str, command: Any) -> Iterator[str]:
    context = command.make_context(path, [], resilient_parsing=True)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    yield f"## {path} {{ #{path.replace(' ', '-')} }}\n"
    yield f"```text\n{usage}\n```\n"
    if words := _prose(command):
        yield f"{words}\n"
    if rows := [_row(parameter, context) for parameter in command.params if _is_shown(parameter)]:
        yield "\n".join(["| | default | |", "|---|---|---|", *rows]) + "\n"
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield from _sections(f"{path} {name}", inner)


def _prose(command: Any) -> str:
    """The help as Markdown; what looks like HTML is text."""
    return inspect.cleandoc(command.help or "").replace("\b\n", "").replace("<", "&lt;")


def _is_shown(parameter: Any) -> bool:
    return not parameter.hidden and parameter.name != "help"


def _row(parameter: Any, context: Any) -> str:
    if parameter.param_type_name == "argument":
        name = f"`{parameter.metavar or parameter.name.upper()}`"
    else:
        name = ", ".join(f"`{word}`" for word in [*parameter.opts, *parameter.secondary_opts])
        if not parameter.is_flag:
            name += f" {cell(parameter.metavar or parameter.display_type(context))}"
    default = "required" if parameter.required else _default(parameter)
    return f"| {name} | {default} | {cell(parameter.help or '')} |"


def _default(parameter: Any) -> str:
    value = parameter.default
    if value in (None, False, [], ()) or callable(value):
        return ""
    return f"`{getattr(value, 'value', value)}`"
