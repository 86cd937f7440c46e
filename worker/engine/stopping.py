"""When an answer ends: end-of-sequence ids, stop strings, length."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from worker.engine.protocol import FinishReason

_EXTRA_TAIL_TOKENS = 4  # a decoder may trim its first token's leading space


class TextTokenizer(Protocol):
    """The part of `neva.tokens.Tokenizer` that stopping needs."""

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]: ...
    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str: ...
    def token_id(self, token: str) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ended, and what of it is kept.

    Attributes:
        num_kept: tokens that belong to the answer.
        stop_text_tail: text of a stop string inside the last kept token.
    """

    finish_reason: FinishReason
    num_kept: int
    stop_text_tail: str = ""


class StopRule:
    """The end of one row. A stop string that is one token stops by that id; others by decoding."""

    def __init__(
        self,
        *,
        eos_ids: Collection[int],
        stop_strings: Sequence[str],
        max_new_tokens: int,
        tokenizer: TextTokenizer,
    ) -> None:
        self._stop_ids = set(eos_ids)
        self._strings: list[str] = []
        self._max_new_tokens = max_new_tokens
        self._tokenizer = tokenizer
        for string in stop_strings:
            token = _single_token(string, tokenizer)
            if token is None:
                self._strings.append(string)
            else:
                self._stop_ids.add(token)

    def check(self, token_ids: Sequence[int]) -> Ending | None:
        """The ending that the newest of these generated ids brings, or None."""
        if token_ids[-1] in self._stop_ids:
            return Ending("stop", len(token_ids) - 1)
        for string in self._strings:
            ending = self._ends_with(token_ids, string)
            if ending is not None:
                return ending
        if len(token_ids) >= self._max_new_tokens:
            return Ending("length", len(token_ids))
        return None

    def _ends_with(self, token_ids: Sequence[int], string: str) -> Ending | None:
        # No token adds less than a byte, so no more tokens than bytes can hold the string.
        num_tail = min(len(token_ids), len(string.encode()) + _EXTRA_TAIL_TOKENS)
        tail = token_ids[len(token_ids) - num_tail :]
        text = self._tokenizer.decode(tail, skip_special_tokens=False)
        start = text.find(string)
        if start < 0:
            return None
        # Keep the fewest tokens that hold all text before the string; white space in between may
        # go with either side.
        needed = text[:start].rstrip()
        num_kept, kept_text = 0, ""
        # Compared by content: the bytes of half a character may decode to as long a text.
        while not kept_text.startswith(needed):
            num_kept += 1
            kept_text = self._tokenizer.decode(tail[:num_kept], skip_special_tokens=False)
        kept = len(token_ids) - num_tail + num_kept
        return Ending("stop", kept, stop_text_tail=kept_text[start:])


def _single_token(string: str, tokenizer: TextTokenizer) -> int | None:
    token = tokenizer.token_id(string)
    if token is not None:
        return token
    ids = tokenizer.encode(string)
    if len(ids) == 1 and tokenizer.decode(ids, skip_special_tokens=False) == string:
        return ids[0]
    return None
