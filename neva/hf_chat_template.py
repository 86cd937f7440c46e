"""Where a Hugging Face directory keeps its chat template, and the texts that it may name."""

from __future__ import annotations

from pathlib import Path

from neva.json_file import JsonFile, invalid_checkpoint

_TEXT_KEYS = ("bos_token", "eos_token", "unk_token", "pad_token")


def read_chat_template(directory: Path) -> str | None:
    """The jinja text of chat_template.jinja, chat_template.json or tokenizer_config.json.

    Raises:
        ConfigError: INVALID_CHECKPOINT, a file can't be read or holds no text there.
    """
    file = directory / "chat_template.jinja"
    try:
        if file.exists():
            return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise invalid_checkpoint(f"{file} can't be read: {error}") from error
    for name in ("chat_template.json", "tokenizer_config.json"):
        config = JsonFile.read_optional(directory / name)
        value = config.data.get("chat_template")
        if isinstance(value, list):  # several by name
            named = {item.get("name"): item for item in value if isinstance(item, dict)}
            value = named.get("default", {}).get("template")
        if isinstance(value, str):
            return value
        if value is not None:
            raise invalid_checkpoint(f"{config.path}: chat_template must be a text")
    return None


def read_special_texts(directory: Path) -> tuple[tuple[str, str], ...]:
    """(name, text) of the tokenizer's special tokens, as tokenizer_config.json has them."""
    config = JsonFile.read_optional(directory / "tokenizer_config.json")
    texts = []
    for key in _TEXT_KEYS:
        value = config.data.get(key)
        if isinstance(value, dict):  # an added token with its properties
            value = value.get("content")
        if isinstance(value, str):
            texts.append((key, value))
    return tuple(texts)
