"""Text to token ids and back, from a tokenizer.json alone: no torch, no transformers.

Used by the controller (does the prompt fit the context?) and by the worker (the ids that the model
reads), so both count the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tokenizers

from neva.errors import ConfigError
from neva.reasons import Reason

TOKENIZER_FILE = "tokenizer.json"


class Tokenizer:
    """A loaded tokenizer.json. Reading it twice gives the same ids; it has no state."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend

    @classmethod
    def from_directory(cls, path: Path) -> Tokenizer:
        """Load `tokenizer.json` of a model directory.

        Raises:
            ConfigError: INVALID_CHECKPOINT, the file is missing or is no tokenizer.
        """
        file = path / TOKENIZER_FILE
        if not file.is_file():
            raise ConfigError(
                f"the model directory {path} has no {TOKENIZER_FILE}",
                reason=Reason.INVALID_CHECKPOINT,
            )
        try:
            backend = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:
            raise ConfigError(
                f"{file} can't be read as a tokenizer: {error}", reason=Reason.INVALID_CHECKPOINT
            ) from error
        # Some files carry the training's truncation and padding, which would cut a prompt silently.
        backend.no_truncation()
        backend.no_padding()
        return cls(backend)

    @property
    def vocab_size(self) -> int:
        """Number of ids, added tokens included."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Token ids of `text`; with `add_special_tokens` also what the tokenizer adds itself."""
        return self._backend.encode(text, add_special_tokens=add_special_tokens).ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of `ids`, a leading space included where the tokens carry one."""
        return self._backend.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def token_id(self, token: str) -> int | None:
        """Id of a single token by its exact spelling, or None."""
        return self._backend.token_to_id(token)

    def token_text(self, token_id: int) -> str | None:
        """Exact spelling of a token by its id, or None."""
        return self._backend.id_to_token(token_id)

    @property
    def adds_bos(self) -> bool:
        """Whether the tokenizer itself puts a token in front of a text it encodes."""
        return self.encode("a", add_special_tokens=True)[:1] != self.encode("a")[:1]
