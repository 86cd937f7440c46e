"""What HTML pages of every role share: one look, and texts made harmless for it."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined


@lru_cache(maxsize=1)
def base_style() -> str:
    """The style sheet under every page's own one."""
    return resources.files(__name__).joinpath("base.css").read_text(encoding="utf-8")


def page_environment(package: str) -> Environment:
    """For the templates of `package`: whatever a value holds is text, and none may be missing."""
    return Environment(
        loader=PackageLoader(package, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@lru_cache
def page_file(package: str, name: str) -> str:
    """A file beside these templates that stands in the page as it is."""
    return resources.files(package).joinpath("templates", name).read_text(encoding="utf-8")


def visible(value: object) -> str:
    """`value` as text without characters that HTML forbids or that only steer a terminal."""
    return "".join(
        "\ufffd" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c
        for c in str(value).replace("\r\n", "\n")
    )
