"""The tokenizer that a NeMo checkpoint brings: as artifacts of its config, or put beside it.

Three kinds can be read: a tokenizer.json of Hugging Face's, a sentencepiece model, and the
vocabulary and merges of a byte-level BPE (`GPT2BPETokenizer`).
"""

from __future__ import annotations

import json
import re
from typing import Final

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from neva.archive import Archive
from neva.errors import ConfigError
from neva.nemo_config import NemoConfig
from neva.reasons import Reason
from neva.sentencepiece_tokens import SentencePieceTokenizer
from neva.tokens import TOKENIZER_FILE, JsonTokenizer, Tokenizer

_BPE_END: Final = "<|endoftext|>"
_EXTRA_ID: Final = re.compile(r"<extra_id_\d+>")


def read_nemo_tokenizer(archive: Archive, base: Archive | None = None) -> Tokenizer:
    """The tokenizer that the checkpoint, or else its base model, brings.

    Raises:
        ConfigError: INVALID_CHECKPOINT, there is none; UNSUPPORTED_MODEL, of a kind that can't be
            read here.
    """
    config, source, members = _members(archive, base)
    where = f"{config.where}: {members[0]}"
    data = source.members[members[0]].read()
    if len(members) == 2:
        return JsonTokenizer(_byte_level_bpe(config, source, members))
    if members[0].endswith(".json"):
        return JsonTokenizer.from_bytes(data, where)
    return SentencePieceTokenizer.from_bytes(
        data,
        where,
        _special_tokens(config),
        legacy=config.value("tokenizer.sentencepiece_legacy", False) is True,
    )


def read_nemo_tokenizer_file(archive: Archive, base: Archive | None = None) -> bytes:
    """As a tokenizer.json; raises as `read_nemo_tokenizer`, also for a sentencepiece model."""
    config, source, members = _members(archive, base)
    if len(members) == 2:
        return _byte_level_bpe(config, source, members).to_str().encode()
    if not members[0].endswith(".json"):
        raise _other_tokenizer(config, members[0])
    return source.members[members[0]].read()


def _members(archive: Archive, base: Archive | None) -> tuple[NemoConfig, Archive, tuple[str, ...]]:
    """The archive that has a tokenizer, its config, and the tokenizer's file, or vocabulary and
    merges."""
    for source in (archive, base):
        if source is None:
            continue
        config = NemoConfig.read(source)
        # A tokenizer.json was put there by hand, as NeMo packs none of Hugging Face's.
        for member in (TOKENIZER_FILE, _artifact(config, "model")):
            if member is not None and member in source.members:
                if not member.endswith((".json", ".model")):
                    raise _other_tokenizer(config, member)
                return config, source, (member,)
        vocabulary, merges = _artifact(config, "vocab_file"), _artifact(config, "merge_file")
        if vocabulary in source.members and merges in source.members:
            return config, source, (str(vocabulary), str(merges))
    config = NemoConfig.read(archive)
    raise ConfigError(
        f"{archive.path} brings no tokenizer (tokenizer.library "
        f"{config.value('tokenizer.library')!r}, type {config.value('tokenizer.type')!r}); "
        f"put a {TOKENIZER_FILE} beside its model_config.yaml",
        reason=Reason.INVALID_CHECKPOINT,
    )


def _artifact(config: NemoConfig, key: str) -> str | None:
    named = config.value(f"tokenizer.{key}")
    return named.removeprefix("nemo:") if isinstance(named, str) else None


def _byte_level_bpe(
    config: NemoConfig, source: Archive, members: tuple[str, ...]
) -> tokenizers.Tokenizer:
    """GPT-2's: special tokens that the vocabulary has not get the ids behind it."""
    where = f"{config.where}: {members[0]} and {members[1]}"
    vocabulary, merges = (source.members[member].read() for member in members)
    try:
        ids: dict[str, int] = json.loads(vocabulary)
        # The first line of the file says its version.
        lines = [line for line in merges.decode().splitlines() if not line.startswith("#version")]
        pairs = [(left, right) for left, right in (line.split(" ") for line in lines if line)]
        backend = tokenizers.Tokenizer(models.BPE(vocab=ids, merges=pairs))
    except Exception as error:  # the library raises whatever a wrong entry leads to
        raise ConfigError(
            f"{where} can't be read as a byte-level BPE: {error}",
            reason=Reason.INVALID_CHECKPOINT,
        ) from error
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    known = [text for text in ids if text == _BPE_END or _EXTRA_ID.fullmatch(text)]
    backend.add_special_tokens([*known, *_special_tokens(config)])
    return backend


def _other_tokenizer(config: NemoConfig, member: str) -> ConfigError:
    return ConfigError(
        f"{config.where}: the tokenizer {member} can't be used here; convert it and put a "
        f"{TOKENIZER_FILE} beside model_config.yaml",
        reason=Reason.UNSUPPORTED_MODEL,
    )


def _special_tokens(config: NemoConfig) -> tuple[str, ...]:
    """NeMo writes a list of texts, or a mapping with them as values."""
    listed = config.value("tokenizer.additional_special_tokens") or []
    values = list(listed.values()) if isinstance(listed, dict) else listed
    if isinstance(values, list) and all(isinstance(value, str) for value in values):
        return tuple(values)
    raise ConfigError(
        f"{config.where}: tokenizer.additional_special_tokens is no list of texts",
        reason=Reason.INVALID_CHECKPOINT,
    )
