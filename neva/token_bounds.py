"""How many tokens a text can have at most, told from its length.

Tokenizing a million prompts takes minutes; that nearly all of them fit the context by far is seen
from their lengths. Pure. A tokenizer that this page does not know well has no bound: its texts are
tokenized.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any, Final

BYTES_PER_CHARACTER: Final = 4  # of UTF-8, at most
SPACE_MARK: Final = "\u2581"  # sentencepiece's mark
# What the normalizers do to text in Unicode's compatible decomposition: none makes it longer, but
# for a character or two before a text.
_NORMALIZERS: Final = frozenset(
    ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip", "StripAccents", "Nmt", "Prepend")
)
_PRE_TOKENIZERS: Final = frozenset(
    ("Metaspace", "Split", "Whitespace", "WhitespaceSplit", "Punctuation", "Digits")
)
_MODELS: Final = frozenset(("BPE", "Unigram", "WordPiece", "WordLevel"))
MARGIN_TOKENS: Final = 16
"""For what tokenizers put before a text and around special tokens in it."""


def plain_length(text: str) -> int:
    """Length of a text in characters, or in bytes if there may be more tokens than characters.

    Compatibility forms count as what they are folded to: some tokenizers fold them.
    """
    return len(text) if text.isascii() else len(unicodedata.normalize("NFKD", text).encode())


def tokens_per_character(tokenizer: Mapping[str, Any]) -> int | None:
    """Most tokens of a text for each of its `plain_length`, or None: not known.

    Each token stands for a character of the normalized text at least, or for a byte of it.

    Args:
        tokenizer: the content of a tokenizer.json.
    """
    model = tokenizer.get("model") or {}
    normalizers = _steps(tokenizer.get("normalizer"), "normalizers")
    pre_tokenizers = _steps(tokenizer.get("pre_tokenizer"), "pretokenizers")
    if model.get("type", "BPE") not in _MODELS:
        return None
    if not all(map(_keeps_length, normalizers)):
        return None
    adds_spaces = False
    for step in pre_tokenizers:
        if step["type"] == "ByteLevel":
            # In a sequence, before each of the pieces that earlier steps cut.
            adds_spaces = bool(step.get("add_prefix_space", True)) and len(pre_tokenizers) > 1
        elif step["type"] not in _PRE_TOKENIZERS:
            return None
    most = 2 if adds_spaces else 1
    if model.get("byte_fallback") and SPACE_MARK not in model.get("vocab", {}):
        most *= BYTES_PER_CHARACTER
    return most


def _steps(step: Mapping[str, Any] | None, members: str) -> list[Mapping[str, Any]]:
    if step is None:
        return []
    if step["type"] != "Sequence":
        return [step]
    return [inner for member in step[members] for inner in _steps(member, members)]


def _keeps_length(step: Mapping[str, Any]) -> bool:
    if step["type"] == "Replace":
        pattern = step.get("pattern", {}).get("String")
        return pattern is not None and len(step.get("content", "")) <= len(pattern)
    return step["type"] in _NORMALIZERS
