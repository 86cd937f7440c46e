"""How to come by what is not installed: the project's optional parts, pip's extras."""

from __future__ import annotations


def install_words(extra: str) -> str:
    """What to do where a library of an extra is missing; right in a checkout and out of it.

    Args:
        extra: one of pyproject.toml's, or several with commas.
    """
    return f"pip install '.[{extra}]' in neva-batch's checkout, 'neva-batch[{extra}]' elsewhere"
