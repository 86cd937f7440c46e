"""Which files a tar holds and where: read from its headers alone, kept in a small file.

Names follow the reference's lookup (exact member names), and a leading `./` may be left out; where
a tar has both, the exact one is meant, and of two members of one name the later. Links, devices and
sparse files are refused by name: what they would lead to is not the member's own bytes.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import orjson
from pydantic import TypeAdapter, ValidationError

from neva.errors import ConfigError
from neva.store.base import Store, is_valid_key
from neva.store.local import appearing_whole

MAX_MEMBERS: Final = 2_000_000
# A header announces how long its extended names are; honest ones are short.
_MAX_READ_BYTES: Final = 1 << 20
_BLOCK_BYTES: Final = 16 << 10


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a tar.

    Attributes:
        name: as the tar has it.
        offset: of its first byte in the tar.
        refusal: why it can't be read, if so.
    """

    name: str
    offset: int
    size_bytes: int
    refusal: str | None = None


TarIndex = dict[str, Member]
"""Members by the name that a record gives."""

_index: TypeAdapter[TarIndex] = TypeAdapter(TarIndex)


def read_index(store: Store, key: str, size_bytes: int) -> TarIndex:
    """Read all headers of a tar, by ranges.

    Raises:
        ConfigError: it is no tar, or has too many members.
        StoreError: the store can't be had.
    """
    exact: TarIndex = {}
    shortened: TarIndex = {}
    source = cast(BinaryIO, io.BufferedReader(_Ranges(store, key, size_bytes), _BLOCK_BYTES))
    try:
        with tarfile.open(fileobj=source, mode="r:") as tar:
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would hold them all
                if info.isdir():
                    continue
                member = _member(info)
                exact[info.name] = member
                shortened[info.name.removeprefix("./")] = member
                if len(exact) > MAX_MEMBERS:
                    raise ConfigError(f"{store.uri_of(key)} has more than {MAX_MEMBERS} members")
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise ConfigError(f"{store.uri_of(key)} is no tar that can be read: {error}") from error
    # No record can name the others: they lie outside, or are no names at all.
    return {name: member for name, member in {**shortened, **exact}.items() if is_valid_key(name)}


def load_index(path: Path) -> TarIndex | None:
    """What `save_index` wrote; None if it is not there, or of another version."""
    try:
        return _index.validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def save_index(path: Path, index: TarIndex) -> None:
    """Keep it for the next process that reads this tar."""
    with appearing_whole(path) as stream:
        stream.write(orjson.dumps(index))


def _member(info: tarfile.TarInfo) -> Member:
    refusal = None
    if info.issym() or info.islnk():
        refusal = "it is a link, and links in a tar are not followed"
    elif info.issparse():
        refusal = "it is a sparse file; pack the tar without --sparse"
    elif not info.isreg():
        refusal = "it is no regular file"
    return Member(info.name, info.offset_data, info.size, refusal)


class _Ranges(io.RawIOBase):
    """An object as a seekable file, read range by range."""

    def __init__(self, store: Store, key: str, size_bytes: int) -> None:
        self._store = store
        self._key = key
        self._size_bytes = size_bytes
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        if len(buffer) > _MAX_READ_BYTES:
            raise ValueError(f"a header claims {len(buffer)} bytes")
        if self._position >= self._size_bytes:
            return 0
        with self._store.open_read(
            self._key, offset=self._position, num_bytes=len(buffer)
        ) as stream:
            data = stream.read()
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
