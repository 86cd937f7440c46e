"""A model's small JSON files, read so that every complaint names the file and the key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neva.errors import ConfigError
from neva.reasons import Reason


@dataclass(frozen=True, slots=True)
class JsonFile:
    """A JSON object and where it came from, so that every complaint names the file and key."""

    path: str
    data: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> JsonFile:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise invalid_checkpoint(
                f"the model directory {path.parent} has no {path.name}"
            ) from error
        except (OSError, ValueError) as error:
            raise invalid_checkpoint(f"{path} can't be read as JSON: {error}") from error
        if not isinstance(data, dict):
            raise invalid_checkpoint(f"{path} holds no JSON object")
        return cls(str(path), data)

    @classmethod
    def read_optional(cls, path: Path) -> JsonFile:
        return cls.read(path) if path.exists() else cls(str(path), {})

    def section(self, key: str) -> JsonFile:
        value = self.data.get(key)
        if not isinstance(value, dict):
            raise invalid_checkpoint(f"{self.path} has no object {key!r}")
        return JsonFile(f"{self.path}: {key}", value)

    def optional_integer(self, key: str) -> int | None:
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise invalid_checkpoint(f"{self.path}: {key} must be an integer, not {value!r}")
        return value

    def integer(self, key: str) -> int:
        value = self.optional_integer(key)
        if value is None:
            raise invalid_checkpoint(f"{self.path} has no {key!r}")
        return value

    def three_floats(
        self, key: str, default: tuple[float, float, float]
    ) -> tuple[float, float, float]:
        match self.data.get(key, default):
            case [int() | float() as red, int() | float() as green, int() | float() as blue]:
                return (float(red), float(green), float(blue))
            case other:
                raise invalid_checkpoint(f"{self.path}: {key} must be three numbers, not {other!r}")

    def optional_text(self, key: str) -> str | None:
        value = self.data.get(key)
        if value is None or isinstance(value, str):
            return value
        raise invalid_checkpoint(f"{self.path}: {key} must be a text, not {value!r}")


def invalid_checkpoint(message: str) -> ConfigError:
    return ConfigError(message, reason=Reason.INVALID_CHECKPOINT)


def unsupported_model(message: str) -> ConfigError:
    return ConfigError(message, reason=Reason.UNSUPPORTED_MODEL)
