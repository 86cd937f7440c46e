"""The rubric: for each category, the judge's role word and its instructions.

The file has the structure of LLaVA's `rule.json` (category -> role, prompt), as JSON or YAML.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import orjson
import yaml

from neva.errors import ConfigError

_PREFIX = "llava_bench_"
_FALLBACK = "default"


@dataclass(frozen=True, slots=True)
class Rule:
    """How one category is judged.

    Attributes:
        name: its key in the rule file, recorded with every review.
        role: what the two answerers are called in the message.
    """

    name: str
    role: str
    prompt: str


@dataclass(frozen=True, slots=True)
class Rules:
    """A rule file's content."""

    rules: Mapping[str, Rule]
    digest: str

    def find(self, category: str) -> Rule | None:
        """The rule of a category: llava-bench's own first, `default` last."""
        for name in (_PREFIX + category, category, _FALLBACK):
            if name in self.rules:
                return self.rules[name]
        return None


def parse_rules(data: bytes, source: str) -> Rules:
    """Read a rule file.

    Raises:
        ConfigError: with every wrong entry named.
    """
    try:
        # YAML in UTF-8 reads JSON too.
        content = yaml.safe_load(data.decode("utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: neither JSON nor YAML: {error}") from error
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{source}: expected categories, each with role and prompt")
    rules: dict[str, Rule] = {}
    problems: list[str] = []
    for name, entry in content.items():
        role = entry.get("role", "Assistant") if isinstance(entry, dict) else None
        prompt = entry.get("prompt") if isinstance(entry, dict) else None
        if not isinstance(role, str) or not isinstance(prompt, str) or not prompt.strip():
            problems.append(f"{name}: needs a prompt, and a role that is a text")
        elif not role.replace(" ", "").isalnum():
            problems.append(f"{name}: the role {role!r} must be letters, digits and spaces")
        else:
            rules[str(name)] = Rule(str(name), role, prompt)
    if problems:
        raise ConfigError("\n  ".join([f"{source}: {len(problems)} wrong", *problems]))
    return Rules(rules, _digest(rules))


def default_rules(name: str = "rules.yaml") -> Rules:
    """One of the project's own rubrics, under `conf/judge`."""
    installed = Path(str(resources.files("neva"))) / "conf"
    checkout = Path(__file__).resolve().parent.parent / "conf"
    for folder in (installed, checkout):
        path = folder / "judge" / name
        if path.is_file():
            return parse_rules(path.read_bytes(), f"conf/judge/{name}")
    raise ConfigError(f"conf/judge/{name} is missing from this installation")


def _digest(rules: Mapping[str, Rule]) -> str:
    content = {name: [rule.role, rule.prompt] for name, rule in rules.items()}
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()
