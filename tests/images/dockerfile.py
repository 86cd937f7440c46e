"""Enough of a Dockerfile parser for rules about ours and for running its steps elsewhere."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
_VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, its lines joined."""

    name: str
    words: str

    @property
    def as_list(self) -> list[str]:
        """The words of a JSON form, or else split as a shell does."""
        if self.words.startswith("["):
            parsed: list[str] = json.loads(self.words)
            return parsed
        return shlex.split(self.words)


@dataclass(slots=True)
class Stage:
    """From one FROM to the next."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[Instruction]:
        return [item for item in self.instructions if item.name == name]


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """Stages by name, and the arguments before the first."""

    arguments: dict[str, str]
    stages: dict[str, Stage]


def parse(text: str) -> Dockerfile:
    """Read a Dockerfile without heredocs and escape directives."""
    joined = re.sub(r"(?m)^\s*#.*\n", "", text)
    joined = re.sub(r"[ \t]*\\\n[ \t]*", " ", joined)
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, words = line.partition(" ")
        words = words.strip()
        if name == "FROM":
            base, _, alias = words.partition(" AS ")
            stage = Stage(alias, _VARIABLE.sub(lambda match: arguments[match[1]], base))
            stages[alias] = stage
        elif stage is None:
            key, _, value = words.partition("=")
            arguments[key] = value
        else:
            stage.instructions.append(Instruction(name, words))
    return Dockerfile(arguments, stages)


def ours() -> Dockerfile:
    return parse((REPOSITORY / "Dockerfile").read_text(encoding="utf-8"))
