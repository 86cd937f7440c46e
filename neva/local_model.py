"""A job's model as paths on this machine, and what the roles read from it before its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neva.archive import Archive, open_archive
from neva.errors import ConfigError
from neva.model_profile import ModelProfile, read_model_profile
from neva.nemo_config import CONFIG_FILE
from neva.nemo_profile import read_nemo_profile
from neva.nemo_tokenizer import read_nemo_tokenizer
from neva.tokens import Tokenizer


@dataclass(frozen=True, slots=True)
class LocalModel:
    """Up to three parts.

    Attributes:
        path: a Hugging Face LLaVA directory, an unpacked NeMo directory or a plain tar of one.
        base: the language model of a projector-only checkpoint, in NeMo's format.
        vision: directory of the vision tower, for NeMo checkpoints.
    """

    path: Path
    base: Path | None = None
    vision: Path | None = None

    @property
    def is_nemo(self) -> bool:
        return self.path.is_file() or (self.path / CONFIG_FILE).is_file()

    def archives(self) -> tuple[Archive, Archive | None]:
        """The NeMo checkpoint and its base. Raises ConfigError."""
        return open_archive(self.path), None if self.base is None else open_archive(self.base)

    def profile(self) -> ModelProfile:
        """Raises ConfigError, see `read_model_profile` and `read_nemo_profile`."""
        self._refuse_extra_parts()
        if self.is_nemo:
            return read_nemo_profile(*self.archives(), self.vision)
        return read_model_profile(self.path)

    def tokenizer(self) -> Tokenizer:
        """Raises ConfigError: INVALID_CHECKPOINT or UNSUPPORTED_MODEL."""
        if self.is_nemo:
            return read_nemo_tokenizer(*self.archives())
        return Tokenizer.from_directory(self.path)

    def _refuse_extra_parts(self) -> None:
        if not self.is_nemo and (self.base or self.vision):
            raise ConfigError(
                f"{self.path} is a Hugging Face directory and whole: leave model.baseModel and "
                "model.visionEncoder out"
            )
