"""Which media file a record may name: something below `mediaBasePath`, and nothing else.

A name is used literally, byte for byte, by every store. It is refused if it would lead elsewhere,
and also if it would do so once somebody percent-decoded it or folded its Unicode forms, because a
name like that has no honest use.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import unquote

from neva.errors import RowError
from neva.reasons import Reason
from neva.store.base import InvalidKey, check_key

S3_SCHEME = "s3://"
_MAX_PERCENT_DECODINGS = 4
# No segment starts with a dot and nothing is unusual: the fast way out for most names.
_PLAIN_NAME = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*/)*[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_PLAIN_BYTES = b"/_.-" + (string.ascii_letters + string.digits).encode()
_MAX_PLAIN_CHARACTERS = 512
# `scheme:/…`, the schemes that need no slash, and Windows drives. `12:30.mp4` is a fine name.
_URL_OR_DRIVE = re.compile(r"(?:[a-z][a-z0-9+.-]*:[/\\]|(?:file|data|https?|s3|gs):|[a-z]:)", re.I)


def are_plain_names(names: Sequence[str]) -> bool:
    """Whether `normalise_media_name` surely leaves all of them as they are."""
    together = f"/{'/'.join(names)}/"
    return (
        together.isascii()
        and not together.encode().translate(None, _PLAIN_BYTES)
        and "//" not in together
        and "/." not in together
        and max(map(len, names)) <= _MAX_PLAIN_CHARACTERS
    )


@lru_cache(maxsize=4096)  # rows about one video tend to follow each other
def normalise_media_name(name: str) -> str:
    """The relative key of a media file, with `./` and doubled slashes removed.

    Raises:
        RowError: reason `INVALID_MEDIA_NAME`; the message says what is wrong with the name.
    """
    if len(name) <= _MAX_PLAIN_CHARACTERS and _PLAIN_NAME.fullmatch(name):
        return name
    if not name.strip():
        raise _invalid(name, "it is empty")
    problem = _way_out(name)
    if problem is not None:
        raise _invalid(name, problem)
    for disguise, decoded in _decodings(name):
        problem = _way_out(decoded)
        if problem is not None:
            raise _invalid(name, f"{disguise}, {problem}")
    if name.endswith("/"):
        raise _invalid(name, "it names a directory")
    key = "/".join(segment for segment in name.split("/") if segment not in ("", "."))
    try:
        return check_key(key)
    except InvalidKey as error:
        raise _invalid(name, error.message.rpartition(": ")[2]) from None


def normalise_media_anywhere(name: str) -> str:
    """As `normalise_media_name`, and absolute paths and s3:// URIs of files as they are.

    For jobs that set `input.allowAbsolute`.

    Raises:
        RowError: reason `INVALID_MEDIA_NAME`.
    """
    if not is_absolute_media(name):
        return normalise_media_name(name)
    place = name.removeprefix(S3_SCHEME).removeprefix("/")
    try:
        check_key(place)
    except InvalidKey as error:
        raise _invalid(name, error.message.rpartition(": ")[2]) from None
    if name.startswith(S3_SCHEME) and "/" not in place:
        raise _invalid(name, "it names a bucket and no object")
    return name


def is_absolute_media(name: str) -> bool:
    """Whether a name, once normalised, is read from where it says and not from mediaBasePath."""
    return name.startswith(("/", S3_SCHEME))


def _way_out(name: str) -> str | None:
    """How the name would lead out of the base directory, or None."""
    if "\0" in name:
        return "it holds a NUL character"
    if "\\" in name:
        return "it holds a backslash (separate directories with /)"
    if name.startswith("/"):
        return "it is absolute (names are relative to mediaBasePath)"
    if _URL_OR_DRIVE.match(name):
        return "it is a URL or a drive (names are relative to mediaBasePath)"
    if ".." in name.split("/"):
        return "it climbs out with '..'"
    return None


def _decodings(name: str) -> list[tuple[str, str]]:
    """(what it is, the name) for each reading of the name that differs from it."""
    found = []
    folded = unicodedata.normalize("NFKC", name)
    if folded != name:
        found.append(("with its Unicode forms folded", folded))
    decoded = name
    for _ in range(_MAX_PERCENT_DECODINGS):
        decoded = unquote(previous := decoded)
        if decoded == previous:
            break
        found.append(("percent-decoded", unicodedata.normalize("NFKC", decoded)))
    return found


def _invalid(name: str, problem: str) -> RowError:
    if _URL_OR_DRIVE.match(name):
        name = _without_secrets(name)
    shown = name if len(name) <= 100 else f"{name[:100]}…"
    return RowError(f"media name {shown!r}: {problem}", reason=Reason.INVALID_MEDIA_NAME)


def _without_secrets(url: str) -> str:
    """A URL for an error's words: presigned ones are as good as a password behind the `?`."""
    place, question, _ = url.partition("?")
    scheme, slashes, rest = place.partition("//")
    host, at, behind = rest.rpartition("@")
    place = f"{scheme}{slashes}…@{behind}" if at and host else place
    return f"{place}?…" if question else place
