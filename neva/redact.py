"""Takes passwords and keys out of words that repeat what somebody wrote."""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "…"

# A password may hold a `/`; what follows a host and its port is no password.
_USER_INFO = re.compile(
    r"(?<=://)([^/\s'\"]*|[^/\s'\":@]*:(?!\d{1,5}/)((?!://)[^\s'\"])*)@",
)
_SECRET_PARAMETER = re.compile(
    r"([?&;][^=&;\s'\"]*(signature|token|key|credential|password|secret)[^=&;\s'\"]*=)"
    r"[^&;\s'\"]+",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(
    r"(pass(word|wd|phrase)?|secret|credentials?|(api|access|secret|private)_?key|"
    r"(api|auth|access|bearer|hf)_?token|^token)\d*$",
    re.IGNORECASE,
)


def without_user_info(text: str) -> str:
    """The text, its URLs without user and password."""
    return _USER_INFO.sub(f"{HIDDEN}@", text)


def is_secret_name(key: str) -> bool:
    """Whether a key's name, the last of its dotted words, says that its value is secret."""
    return _SECRET_NAME.search(key.rpartition(".")[2]) is not None


def without_secrets(text: str, settings: Iterable[str]) -> str:
    """The text without what the given settings, `key=value`, and its URLs hold of secrets."""
    for word in settings:
        key, _, value = word.partition("=")
        if value and is_secret_name(key):
            text = text.replace(value, HIDDEN)
    return _SECRET_PARAMETER.sub(rf"\1{HIDDEN}", without_user_info(text))
