"""Sizes of a language model, from small files: what quantization depends on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neva.json_file import JsonFile
from neva.local_model import LocalModel
from neva.nemo_config import NemoConfig


@dataclass(frozen=True, slots=True)
class LanguageSizes:
    """Numbers of a decoder's layers, as `LanguageConfig` names them."""

    hidden_size: int
    ffn_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int


def read_language_sizes(model: LocalModel) -> LanguageSizes:
    """Raises ConfigError: INVALID_CHECKPOINT or UNSUPPORTED_MODEL."""
    if not model.is_nemo:
        return _of_directory(model.path)
    archive, _ = model.archives()
    config = NemoConfig.read(archive).language()
    return LanguageSizes(
        config.hidden_size,
        config.ffn_size,
        config.num_heads,
        config.num_kv_heads,
        config.head_dim,
    )


def _of_directory(directory: Path) -> LanguageSizes:
    """LLaVA directories leave out what transformers' LlamaConfig has by default, as for 7B."""
    text = JsonFile.read(directory / "config.json").section("text_config")

    def integer(key: str, default: int) -> int:
        found = text.optional_integer(key)
        return default if found is None else found

    hidden, heads = integer("hidden_size", 4096), integer("num_attention_heads", 32)
    return LanguageSizes(
        hidden_size=hidden,
        ffn_size=integer("intermediate_size", 11008),
        num_heads=heads,
        num_kv_heads=integer("num_key_value_heads", heads),
        head_dim=integer("head_dim", hidden // heads),
    )
