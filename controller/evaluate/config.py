"""Reads a neva_inference.yaml with Hydra, overrides included; every complaint is in our words.

What an override means is Hydra's to say: `key=value` changes what is there, `+` adds, `++` does
either, `~` removes. Hydra's messages advise to add what was only misspelt, so ours replace them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from controller.evaluate.keys import KNOWN, unknown_key
from neva.errors import ConfigError
from neva.redact import without_secrets

DEFAULT_PATH = "conf"
DEFAULT_NAME = "neva_inference.yaml"


@dataclass(frozen=True, slots=True)
class ReadConfig:
    """A configuration with its overrides applied, as plain data; "???" is missing.

    Attributes:
        file: where it was read.
        notes: what was done otherwise than asked, for a person.
    """

    data: dict[str, Any]
    file: Path
    notes: tuple[str, ...]


def read_config(path: str, name: str, overrides: Sequence[str]) -> ReadConfig:
    """Compose the configuration `name` in the folder `path`, as Hydra does.

    Where `conf` is asked for and there is none, the one that is installed with us is taken.

    Raises:
        ConfigError: no such file, no YAML, or an override that can't be applied.
    """
    file, notes = _find(path, name)
    base = _compose(file, ())
    try:
        composed = _compose(file, overrides)
    except HydraException as error:
        words = without_secrets(_explained(error, overrides, base, file), overrides)
        raise ConfigError(words) from error
    notes += [
        f"{word.partition('=')[0]}: not used, nothing of Hydra's is written"
        for word in overrides
        if word.lstrip("+~").startswith(("hydra.", "hydra/"))
    ]
    try:
        data = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        words = without_secrets(_first_line(error), overrides)
        raise ConfigError(f"{file}: {words}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{file} holds no mapping")
    return ReadConfig({str(key): value for key, value in data.items()}, file, tuple(notes))


def shipped_conf() -> Path:
    """The folder conf/ that is installed with us, or the checkout's."""
    installed = Path(str(resources.files("neva"))) / "conf"
    checkout = Path(__file__).resolve().parents[2] / "conf"
    return installed if installed.is_dir() else checkout


def _find(path: str, name: str) -> tuple[Path, list[str]]:
    file_name = name if name.endswith((".yaml", ".yml")) else f"{name}.yaml"
    file = Path(path).absolute() / file_name
    if file.is_file():
        return file, []
    shipped = shipped_conf() / file_name
    if Path(path) == Path(DEFAULT_PATH) and shipped.is_file():
        return shipped, [f"there is no {Path(path) / file_name} here; taking {shipped}"]
    raise ConfigError(
        f"{file} does not exist; --config-path={DEFAULT_PATH} --config-name={DEFAULT_NAME} takes "
        "the one that is installed with neva"
    )


def _compose(file: Path, overrides: Sequence[str]) -> DictConfig:
    """Raises HydraException, of the overrides alone where the file is good."""
    try:
        with initialize_config_dir(str(file.parent), version_base=None, job_name="neva"):
            return compose(file.name, overrides=list(overrides))
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is no YAML: {' '.join(str(error).split())}") from error
    except HydraException as error:
        if overrides:
            raise
        raise ConfigError(f"{file}: {' '.join(str(error).split())}") from error


def _explained(
    error: HydraException, overrides: Sequence[str], base: DictConfig, file: Path
) -> str:
    """Hydra's refusal of an override, with the way out."""
    parser = OverridesParser.create()
    added: set[str] = set()
    for word in overrides:
        try:
            parsed = parser.parse_override(word)
        except HydraException:
            return _unreadable(word)
        key = parsed.key_or_group
        is_there = key in added or _has(base, key)
        if parsed.is_sweep_override():
            return f"{word}: several values; one list is {key}=[…,…], one text {key}='\"…\"'"
        if parsed.is_add() and is_there:
            return f"{word}: {file.name} has {key}: write {word.removeprefix('+')}"
        if parsed.is_add() or parsed.is_force_add():
            added.add(key)
        elif not is_there and key in KNOWN:
            return f"{word}: {file} has no {key}" + (
                "" if parsed.is_delete() else f"; +{word} adds it"
            )
        elif not is_there:
            return unknown_key(key)
    return _first_line(error)


def _has(config: DictConfig, key: str) -> bool:
    node: Any = OmegaConf.to_container(config)
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return False
        node = node[name]
    return True


def _unreadable(word: str) -> str:
    key, equals, value = word.partition("=")
    if not equals:
        return f"{word}: expected key=value (or +key=value, ++key=value, ~key)"
    advice = f": '{key}=\"{value}\"'" if not set('"[{') & set(value) else ""
    return (
        f"{word}: Hydra can't read the value; a text with = ( ) < > [ ] {{ }} in it goes in double "
        f"quotes, and the whole in single ones for the shell{advice}"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
