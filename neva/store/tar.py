"""Media out of one tar, in object storage or on this machine, without unpacking it.

The headers are read once (`tar_index`) and kept in the cache directory for the next process; a
member is then one range of the tar. A compressed tar has no ranges: it is unpacked once, as a
whole, into the cache directory.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import shutil
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from neva.errors import ConfigError
from neva.reasons import Reason
from neva.store.base import NotFound, ObjectInfo, Store, StoreDenied
from neva.store.file import FileStore
from neva.store.local import appearing_whole
from neva.store.tar_index import Member, TarIndex, load_index, read_index, save_index

TAR_SUFFIX: Final = ".tar"
COMPRESSED_SUFFIXES: Final = (".tar.gz", ".tgz")
_COPY_BYTES: Final = 1 << 20


class TarStore:
    """The files of a tar by name. Safe between threads; nothing is read before the first use.

    Args:
        store, key: where the tar lies.
        cache_dir: for the index, and the content of a compressed one.
        max_unpacked_bytes: how much a compressed one may become.
    """

    def __init__(self, store: Store, key: str, cache_dir: Path, max_unpacked_bytes: int) -> None:
        self._store = store
        self._key = key
        self._uri = store.uri_of(key)
        self._cache_dir = cache_dir
        self._max_unpacked_bytes = max_unpacked_bytes
        self._lock = threading.Lock()
        self._opened: tuple[Store, str, TarIndex] | None = None

    def head(self, key: str) -> ObjectInfo | None:
        """None: no such member. Raises StoreDenied for one that is not read."""
        member = self._find(key)
        if member is None:
            return None
        return ObjectInfo(key, member.size_bytes, f"{member.offset}-{member.size_bytes}")

    def present(self, keys: Sequence[str]) -> list[bool]:
        return [self._is_readable(key) for key in keys]

    def _is_readable(self, key: str) -> bool:
        try:
            return self.head(key) is not None
        except StoreDenied:
            return False

    def open_read(
        self, key: str, *, offset: int = 0, num_bytes: int | None = None
    ) -> AbstractContextManager[BinaryIO]:
        member = self._find(key)
        if member is None:
            raise NotFound(f"{self._uri} has no member {key!r}")
        store, tar, _ = self._open()
        left = max(0, member.size_bytes - offset)
        num_bytes = left if num_bytes is None else min(left, num_bytes)
        return store.open_read(tar, offset=member.offset + offset, num_bytes=num_bytes)

    def download(self, key: str, path: Path) -> None:
        with self.open_read(key) as source, appearing_whole(path) as target:
            shutil.copyfileobj(source, target, _COPY_BYTES)

    def local_path(self, key: str) -> Path | None:
        """None: a member is no file of its own."""
        return None

    def uri_of(self, key: str) -> str:
        """The tar's URI and the member's own name in it."""
        found = self._open()[2].get(key)
        return f"{self._uri}#{key if found is None else found.name}"

    def _find(self, key: str) -> Member | None:
        member = self._open()[2].get(key)
        if member is not None and member.refusal is not None:
            raise StoreDenied(f"{self._uri}#{member.name}: {member.refusal}")
        return member

    def _open(self) -> tuple[Store, str, TarIndex]:
        with self._lock:
            if self._opened is None:
                self._opened = self._read()
            return self._opened

    def _read(self) -> tuple[Store, str, TarIndex]:
        version = self._version()
        with _alone(self._cache_dir / f"{version}.lock"):
            store, key = self._store, self._key
            if key.endswith(COMPRESSED_SUFFIXES):
                store, key = self._unpacked(version)
            index_file = self._cache_dir / f"{version}.json"
            index = load_index(index_file)
            if index is None:
                info = store.head(key)
                index = read_index(store, key, 0 if info is None else info.size_bytes)
                save_index(index_file, index)
        return store, key, index

    def _version(self) -> str:
        """Names this content of this tar.

        Raises:
            ConfigError: OBJECT_NOT_FOUND.
        """
        local = self._store.local_path(self._key)
        if local is not None and local.is_file():
            status = local.stat()
            # Its etag would be a digest of the whole.
            mark = f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"
        else:
            info = self._store.head(self._key)
            if info is None:
                words = f"{self._uri} does not exist"
                raise ConfigError(words, reason=Reason.OBJECT_NOT_FOUND)
            mark = info.etag
        return hashlib.sha256(f"{self._uri}\0{mark}".encode()).hexdigest()[:32]

    def _unpacked(self, version: str) -> tuple[Store, str]:
        """Raises ConfigError: it can't be unpacked, or becomes too large."""
        path = self._cache_dir / f"{version}.tar"
        if not path.is_file():
            with (
                self._store.open_read(self._key) as compressed,
                appearing_whole(path) as target,
            ):
                try:
                    self._unpack(compressed, target)
                except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                    raise ConfigError(f"{self._uri} can't be unpacked: {error}") from error
        return FileStore(self._cache_dir), path.name

    def _unpack(self, compressed: BinaryIO, target: BinaryIO) -> None:
        num_bytes = 0
        with gzip.GzipFile(fileobj=compressed, mode="rb") as stream:
            while data := stream.read(_COPY_BYTES):
                num_bytes += len(data)
                if num_bytes > self._max_unpacked_bytes:
                    raise ConfigError(
                        f"{self._uri} is more than {self._max_unpacked_bytes} bytes unpacked "
                        "(NEVA_TAR_MAX_BYTES); give a plain .tar, which is read in place"
                    )
                target.write(data)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; the others find what it made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
