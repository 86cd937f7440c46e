"""Text to token ids and back: no torch, no transformers.

Used by the controller (does the prompt fit the context?) and by the worker (the ids that the model
reads), so both count the same tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import orjson
import tokenizers

from neva.errors import ConfigError
from neva.reasons import Reason
from neva.token_bounds import tokens_per_character

TOKENIZER_FILE = "tokenizer.json"


class Tokenizer(ABC):
    """A loaded tokenizer. Stateless: the same text gives the same ids, always."""

    @staticmethod
    def from_directory(path: Path) -> Tokenizer:
        """The tokenizer of a Hugging Face directory; see `JsonTokenizer.from_file`."""
        return JsonTokenizer.from_file(path / TOKENIZER_FILE)

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of ids, added tokens included."""

    @abstractmethod
    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Token ids of `text`; with `add_special_tokens` also what the tokenizer adds itself."""

    @abstractmethod
    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of `ids`, a leading space included where the tokens carry one."""

    @abstractmethod
    def token_id(self, token: str) -> int | None:
        """Id of a single token by its exact spelling, or None."""

    @abstractmethod
    def token_text(self, token_id: int) -> str | None:
        """Exact spelling of a token by its id, or None."""

    @property
    def bos_id(self) -> int | None:
        """Begin of sequence, where the tokenizer's own file names it."""
        return None

    @property
    def eos_id(self) -> int | None:
        """End of sequence, where the tokenizer's own file names it."""
        return None

    @property
    def tokens_per_character(self) -> int | None:
        """Most tokens for each of a text's `plain_length` (see `neva.token_bounds`), if known."""
        return None

    @property
    def adds_bos(self) -> bool:
        """Whether the tokenizer itself puts a token in front of a text it encodes."""
        return self.encode("a", add_special_tokens=True)[:1] != self.encode("a")[:1]

    def decode_behind(
        self, context_ids: Sequence[int], ids: Sequence[int], skip_special_tokens: bool = True
    ) -> str:
        """The text that `ids` add behind `context_ids`.

        Many decoders drop the space before a text's first word; decoded alone, an answer would
        lose the space that it does have in the prompt.
        """
        context = self.decode(context_ids, skip_special_tokens)
        whole = self.decode([*context_ids, *ids], skip_special_tokens)
        if not whole.startswith(context):  # the context ends inside a character
            return self.decode(ids, skip_special_tokens)
        return whole.removeprefix(context)


class JsonTokenizer(Tokenizer):
    """A tokenizer.json of Hugging Face's tokenizers."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend

    @classmethod
    def from_file(cls, file: Path) -> JsonTokenizer:
        """Read a tokenizer.json.

        Raises:
            ConfigError: INVALID_CHECKPOINT, the file is missing or is no tokenizer.
        """
        if not file.is_file():
            raise ConfigError(
                f"the model directory {file.parent} has no {file.name}",
                reason=Reason.INVALID_CHECKPOINT,
            )
        return cls.from_bytes(file.read_bytes(), str(file))

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> JsonTokenizer:
        """The content of a tokenizer.json that stands at `where`; raises like `from_file`."""
        try:
            backend = tokenizers.Tokenizer.from_buffer(data)
        except Exception as error:
            raise ConfigError(
                f"{where} can't be read as a tokenizer: {error}", reason=Reason.INVALID_CHECKPOINT
            ) from error
        # Some files carry the training's truncation and padding, which would cut a prompt silently.
        backend.no_truncation()
        backend.no_padding()
        return cls(backend)

    @property
    def vocab_size(self) -> int:
        return self._backend.get_vocab_size(with_added_tokens=True)

    @property
    def tokens_per_character(self) -> int | None:
        return tokens_per_character(orjson.loads(self._backend.to_str()))

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return self._backend.encode(text, add_special_tokens=add_special_tokens).ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return self._backend.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def token_id(self, token: str) -> int | None:
        return self._backend.token_to_id(token)

    def token_text(self, token_id: int) -> str | None:
        return self._backend.id_to_token(token_id)
