"""Sentencepiece tokenizers as NeMo uses them: never a begin-of-sequence id added by itself.

NeMo checkpoints carry their special tokens in one of two ways. Either the model file has them as
user-defined pieces (the usual one). Or the file knows nothing of them and the checkpoint's config
lists them (`sentencepiece_legacy` with `additional_special_tokens`): the text is then cut at their
spellings and each part encoded alone, and the ids behind the file's own are theirs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor

from neva.json_file import invalid_checkpoint
from neva.token_bounds import BYTES_PER_CHARACTER, SPACE_MARK
from neva.tokens import Tokenizer


class SentencePieceTokenizer(Tokenizer):
    """A sentencepiece model file, and the special tokens that a legacy checkpoint adds."""

    def __init__(self, backend: Any, special_tokens: Sequence[str] = ()) -> None:
        """backend: a loaded SentencePieceProcessor (the library has no type hints)."""
        self._backend = backend
        self._num_pieces: int = backend.get_piece_size()
        self._special: dict[str, int] = {}
        for token in special_tokens:
            if self._piece_id(token) is None and token not in self._special:
                self._special[token] = self._num_pieces + len(self._special)
        self._special_texts = {token_id: token for token, token_id in self._special.items()}
        longest_first = sorted(self._special, key=len, reverse=True)
        self._cut = re.compile("|".join(map(re.escape, longest_first))) if self._special else None

    @classmethod
    def from_file(
        cls, file: Path, special_tokens: Sequence[str] = (), *, legacy: bool = False
    ) -> SentencePieceTokenizer:
        """Read a sentencepiece model.

        Raises:
            ConfigError: INVALID_CHECKPOINT, the file is missing or is no model, or special tokens
                are listed that only `legacy` can add.
        """
        if not file.is_file():
            raise invalid_checkpoint(f"the model directory {file.parent} has no {file.name}")
        return cls.from_bytes(file.read_bytes(), str(file), special_tokens, legacy=legacy)

    @classmethod
    def from_bytes(
        cls, data: bytes, where: str, special_tokens: Sequence[str] = (), *, legacy: bool = False
    ) -> SentencePieceTokenizer:
        """The content of a sentencepiece model that stands at `where`; raises like `from_file`."""
        if special_tokens and not legacy:
            raise invalid_checkpoint(
                f"{where}: the checkpoint lists special tokens beside the sentencepiece model, "
                "which means something only with sentencepiece_legacy"
            )
        try:
            backend = SentencePieceProcessor(model_proto=data)
        except (RuntimeError, OSError, ValueError) as error:
            message = f"{where} can't be read as a sentencepiece model: {error}"
            raise invalid_checkpoint(message) from error
        return cls(backend, special_tokens)

    @property
    def vocab_size(self) -> int:
        return self._num_pieces + len(self._special)

    @property
    def bos_id(self) -> int | None:
        return _or_none(self._backend.bos_id())

    @property
    def eos_id(self) -> int | None:
        return _or_none(self._backend.eos_id())

    @property
    def tokens_per_character(self) -> int | None:
        # Each piece stands for a character, or for a byte of one that has no piece.
        return 1 if self._piece_id(SPACE_MARK) is not None else BYTES_PER_CHARACTER

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        if self._cut is None:
            return self._encode_plain(text)
        ids: list[int] = []
        start = 0
        for match in self._cut.finditer(text):
            ids += self._encode_plain(text[start : match.start()])
            ids.append(self._special[match.group()])
            start = match.end()
        return ids + self._encode_plain(text[start:])

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Control pieces such as `</s>` have no text; user-defined pieces always have theirs.

        With `special_tokens`, each of them gets a space on either side, as NeMo writes them.
        """
        if not self._special:
            return str(self._backend.decode(list(ids)))
        parts: list[str] = []
        plain: list[int] = []
        for token_id in ids:
            special = self._special_texts.get(token_id)
            if special is None:
                plain.append(token_id)
                continue
            parts += [str(self._backend.decode(plain)), special]
            plain = []
        parts.append(str(self._backend.decode(plain)))
        return " ".join(parts).strip()

    def token_id(self, token: str) -> int | None:
        return self._special.get(token, self._piece_id(token))

    def token_text(self, token_id: int) -> str | None:
        if 0 <= token_id < self._num_pieces:
            return str(self._backend.id_to_piece(token_id))
        return self._special_texts.get(token_id)

    def _encode_plain(self, text: str) -> list[int]:
        ids: list[int] = self._backend.encode(text, out_type=int) if text else []
        return ids

    def _piece_id(self, token: str) -> int | None:
        token_id: int = self._backend.piece_to_id(token)
        # Every unknown spelling has the id of the unknown piece.
        return token_id if self._backend.id_to_piece(token_id) == token else None


def _or_none(token_id: int) -> int | None:
    return token_id if token_id >= 0 else None
