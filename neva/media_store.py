"""Where a job's media are read from.

A record names a file below `input.mediaBasePath`, or in it where that is a tar. Only with
`input.allowAbsolute` may it also name an absolute path or an s3:// URI.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from neva.media_names import (
    is_absolute_media,
    normalise_media_anywhere,
    normalise_media_name,
)
from neva.settings import settings
from neva.spec import JobSpec
from neva.store import ObjectInfo, Store, open_object, open_store
from neva.store.tar import COMPRESSED_SUFFIXES, TAR_SUFFIX, TarStore


class MediaStore(Protocol):
    """What is needed of a store to read media from it; see `neva.store.Store`."""

    def head(self, key: str) -> ObjectInfo | None: ...

    def present(self, keys: Sequence[str]) -> list[bool]: ...

    def open_read(
        self, key: str, *, offset: int = 0, num_bytes: int | None = None
    ) -> AbstractContextManager[BinaryIO]: ...

    def download(self, key: str, path: Path) -> None: ...

    def local_path(self, key: str) -> Path | None: ...

    def uri_of(self, key: str) -> str: ...


def media_names(spec: JobSpec) -> Callable[[str], str]:
    """What a record's media name means in a job; raises RowError for what it must not be."""
    return normalise_media_anywhere if spec.input.allow_absolute else normalise_media_name


def open_media(spec: JobSpec) -> MediaStore:
    """The media of a job, by their normalised names. Nothing is contacted yet."""
    base = spec.media_base_path
    below: MediaStore
    if is_tar(base):
        cache_dir = settings().cache_dir / "tars"
        below = TarStore(*open_object(base), cache_dir, settings().tar_max_bytes)
    else:
        below = open_store(base, confined=True)
    return AnywhereStore(below) if spec.input.allow_absolute else below


def is_tar(uri: str) -> bool:
    """Whether a mediaBasePath names a tar and no folder."""
    return uri.endswith((TAR_SUFFIX, *COMPRESSED_SUFFIXES))


class AnywhereStore:
    """Names below a base, and absolute ones."""

    def __init__(self, below: MediaStore) -> None:
        self._below = below

    def head(self, key: str) -> ObjectInfo | None:
        store, key = self._place(key)
        return store.head(key)

    def present(self, keys: Sequence[str]) -> list[bool]:
        below = [key for key in keys if not is_absolute_media(key)]
        found = dict(zip(below, self._below.present(below), strict=True))
        return [found.get(key, False) for key in keys]

    def open_read(
        self, key: str, *, offset: int = 0, num_bytes: int | None = None
    ) -> AbstractContextManager[BinaryIO]:
        store, key = self._place(key)
        return store.open_read(key, offset=offset, num_bytes=num_bytes)

    def download(self, key: str, path: Path) -> None:
        store, key = self._place(key)
        store.download(key, path)

    def local_path(self, key: str) -> Path | None:
        store, key = self._place(key)
        return store.local_path(key)

    def uri_of(self, key: str) -> str:
        store, key = self._place(key)
        return store.uri_of(key)

    def _place(self, name: str) -> tuple[MediaStore, str]:
        if not is_absolute_media(name):
            return self._below, name
        store: tuple[Store, str] = open_object(name)
        return store
