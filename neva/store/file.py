"""The object store in a local (or shared) directory: same promises, made of files.

A put writes a temporary file beside the target, syncs it, and moves it into place: `rename` to
replace, `link` to win or lose against whoever was there first, the file system's own
If-None-Match. A process killed in the middle leaves a hidden temporary file, never a half object.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from neva.reasons import Reason
from neva.store.base import (
    AlreadyExists,
    NotFound,
    ObjectInfo,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    Writer,
    check_key,
    check_prefix,
    is_valid_key,
)
from neva.store.local import (
    appearing_whole,
    nearest_directory,
    open_temporary,
    remove_temporaries,
    sync,
    sync_directories,
    written_temporary,
)

_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_MAX_LOST_DIRECTORIES = 20
# A directory with many times more files than are asked for is not worth its listing.
_MAX_LISTED_PER_KEY = 20

T = TypeVar("T")


class FileStore:
    """A `Store` over one directory, which the first put creates.

    Args:
        base: absolute path of the directory.
        confined: refuse to read through symbolic links that lead out of the base.
    """

    def __init__(self, base: Path, *, confined: bool = False) -> None:
        self._base = base
        self._confined = confined

    def __repr__(self) -> str:
        return f"FileStore({str(self._base)!r})"

    @property
    def base_uri(self) -> str:
        uri = self._base.as_uri()
        return uri if uri.endswith("/") else f"{uri}/"

    def uri_of(self, key: str) -> str:
        return self._path(key).as_uri()

    def now_s(self) -> float | None:
        # On a shared directory the server's clock may be another one: for people only.
        return time.time()

    def local_path(self, key: str) -> Path | None:
        return self._readable_path(key)

    def get(self, key: str) -> bytes:
        with self.open_read(key) as stream:
            return stream.read()

    def get_or_none(self, key: str) -> bytes | None:
        try:
            return self.get(key)
        except NotFound:
            return None

    @contextmanager
    def open_read(
        self, key: str, *, offset: int = 0, num_bytes: int | None = None
    ) -> Iterator[BinaryIO]:
        path = self._readable_path(key)
        with self._mapped_errors(key):
            stream = path.open("rb")
        with stream:
            stream.seek(offset)
            if num_bytes is None:
                yield stream
            else:
                yield cast(BinaryIO, io.BufferedReader(_Section(stream, num_bytes)))

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        self._write(key, io.BytesIO(data), if_absent=if_absent)
        return hashlib.sha256(data).hexdigest()

    def put_file(self, key: str, path: Path) -> None:
        with path.open("rb") as source:
            self._write(key, source, if_absent=False)

    @contextmanager
    def open_write(self, key: str) -> Iterator[Writer]:
        target = self._path(key)
        known = nearest_directory(target)
        with ExitStack() as stack:
            with self._mapped_errors(key, writing=True):
                temporary, stream = _enter_beside(target, open_temporary, stack)
            yield _MappedWriter(stream, lambda: self._mapped_errors(key, writing=True))
            with self._mapped_errors(key, writing=True):
                sync(stream)
                temporary.replace(target)
                sync_directories(target.parent, known)

    def present(self, keys: Sequence[str]) -> list[bool]:
        wanted: dict[str, set[str]] = {}
        for key in keys:
            directory, _, name = _cut(key)
            wanted.setdefault(directory, set()).add(name)
        real = {"": _real(self._base)}
        for directory, names in wanted.items():
            most = _MAX_LISTED_PER_KEY * len(names)
            names &= self._plain_files(directory, real, most)
        return [name in wanted[directory] for directory, _, name in map(_cut, keys)]

    def _plain_files(self, directory: str, real: dict[str, Path], most: int) -> set[str]:
        """Names of files in a directory, links left out, or of some of them if there are many."""
        try:
            path = _real_directory(directory, real)
            if self._confined and not path.is_relative_to(real[""]):
                return set()
            with os.scandir(path) as entries:
                some = islice(entries, most)
                return {entry.name for entry in some if entry.is_file(follow_symlinks=False)}
        except OSError:
            return set()

    def head(self, key: str) -> ObjectInfo | None:
        path = self._readable_path(key)
        try:
            with self._mapped_errors(key):
                found = path.stat()
        except NotFound:
            return None
        return self._info(key, found) if path.is_file() else None

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        directory_key = prefix.rpartition("/")[0]
        directory = self._base.joinpath(*directory_key.split("/")) if directory_key else self._base
        after = start_after.encode()
        for key, found in self._walk(directory, directory_key, prefix, start_after, ()):
            if key.encode() > after:
                yield self._info(key, found)

    def download(self, key: str, path: Path) -> None:
        with self.open_read(key) as source, appearing_whole(path) as target:
            shutil.copyfileobj(source, target)

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            with self._mapped_errors(key):
                path.unlink()
        except NotFound:
            return
        # Object stores have no directories: an emptied one goes, as far up as the base.
        for directory in path.parents:
            if directory == self._base:
                break
            try:
                directory.rmdir()
            except OSError:  # not empty, or somebody was quicker
                break

    def tidy(self) -> None:
        remove_temporaries(self._base)

    def _path(self, key: str) -> Path:
        return self._base.joinpath(*check_key(key).split("/"))

    def _readable_path(self, key: str) -> Path:
        path = self._path(key)
        if not self._is_allowed(path):
            raise StoreDenied(f"{path} is a link that leads out of {self._base}")
        return path

    def _is_allowed(self, path: Path) -> bool:
        return not self._confined or _real(path).is_relative_to(_real(self._base))

    def _info(self, key: str, found: os.stat_result) -> ObjectInfo:
        digest = partial(self._content_digest, key)
        return ObjectInfo(key, found.st_size, digest, found.st_mtime)

    def _content_digest(self, key: str) -> str:
        with self.open_read(key) as stream:
            return hashlib.file_digest(cast(io.BufferedReader, stream), "sha256").hexdigest()

    def _write(self, key: str, source: BinaryIO, *, if_absent: bool) -> None:
        target = self._path(key)
        with self._mapped_errors(key, writing=True):
            if if_absent and target.is_file():  # most losers need not write and sync first
                raise AlreadyExists(f"{target} exists already")
            known = nearest_directory(target)
            with _beside(target, lambda folder: written_temporary(folder, source)) as temporary:
                if if_absent:
                    _link_or_lose(temporary, target)
                else:
                    temporary.replace(target)
            sync_directories(target.parent, known)

    def _walk(
        self,
        directory: Path,
        directory_key: str,
        prefix: str,
        start_after: str,
        ancestors: tuple[Path, ...],
    ) -> Iterator[tuple[str, os.stat_result]]:
        """(key, what the system says) of the files below, sorted; holds one directory a level."""
        real = _real(directory)
        if real in ancestors or not self._is_allowed(directory):
            return  # a link back to where we came from, or out of the base
        for name, is_directory in self._entries(directory):
            key = f"{directory_key}/{name}" if directory_key else name
            path = directory / name
            if is_directory:
                below = f"{key}/"
                is_passed = below < start_after and not start_after.startswith(below)
                if not is_passed and (below.startswith(prefix) or prefix.startswith(below)):
                    yield from self._walk(path, key, prefix, start_after, (*ancestors, real))
            elif key.startswith(prefix) and self._is_allowed(path):
                try:
                    yield key, path.stat()
                except FileNotFoundError:  # deleted since the directory was read
                    continue

    def _entries(self, directory: Path) -> Sequence[tuple[str, bool]]:
        """(name, is it a directory) in the byte order that their keys have."""
        found: list[tuple[str, bool]] = []
        try:
            with self._mapped_errors(str(directory)), os.scandir(directory) as entries:
                for entry in entries:
                    # A link is asked through its path, which answers False where it leads nowhere.
                    asked = Path(entry.path) if entry.is_symlink() else entry
                    if is_valid_key(entry.name) and (asked.is_dir() or asked.is_file()):
                        found.append((entry.name, asked.is_dir()))
        except NotFound:
            return []
        return sorted(found, key=lambda item: f"{item[0]}/" if item[1] else item[0])

    @contextmanager
    def _mapped_errors(self, key: str, *, writing: bool = False) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            path = self._base / key
            words = error.strerror or str(error)
            if error.errno in _MISSING and not writing:
                raise NotFound(f"no such file: {path}") from error
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                verb = "write" if writing else "read"
                raise StoreDenied(
                    f"can't {verb} {path}: {words} (user id {os.geteuid()}); "
                    "check the owner and mode of the directory"
                ) from error
            if error.errno in (*_MISSING, errno.EEXIST, errno.ENOTEMPTY):
                raise StoreError(
                    f"can't write {path}: {words} (a file and a directory can't share a name)",
                    reason=Reason.INVALID_CONFIG,
                ) from error
            raise StoreUnavailable(f"{path}: {words}") from error


class _Section(io.RawIOBase):
    """The next `num_bytes` of a stream."""

    def __init__(self, stream: BinaryIO, num_bytes: int) -> None:
        self._stream = stream
        self._num_bytes_left = num_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._stream.read(min(len(buffer), self._num_bytes_left))
        buffer[: len(data)] = data
        self._num_bytes_left -= len(data)
        return len(data)


def _cut(key: str) -> tuple[str, str, str]:
    return key.rpartition("/")


def _real(path: Path) -> Path:
    """Where a path leads. (Path.resolve raises for links in a circle: they lead nowhere.)"""
    return Path(os.path.realpath(path))


def _real_directory(key: str, real: dict[str, Path]) -> Path:
    """Where a directory really is; of many, each one above them is looked at once.

    Args:
        real: what is known already, the base at least.
    """
    if key not in real:
        above, _, name = _cut(key)
        path = _real_directory(above, real) / name
        real[key] = _real(path) if path.is_symlink() else path
    return real[key]


class _MappedWriter:
    """A file that fails in the store's words."""

    def __init__(
        self, stream: BinaryIO, mapped_errors: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._stream = stream
        self._mapped_errors = mapped_errors

    def write(self, data: bytes) -> int:
        with self._mapped_errors():
            return self._stream.write(data)


@contextmanager
def _beside(target: Path, make: Callable[[Path], AbstractContextManager[T]]) -> Iterator[T]:
    """What `make` makes in the target's directory, which it needs to have."""
    with ExitStack() as stack:
        yield _enter_beside(target, make, stack)


def _enter_beside(
    target: Path, make: Callable[[Path], AbstractContextManager[T]], stack: ExitStack
) -> T:
    words = ""
    for _ in range(_MAX_LOST_DIRECTORIES):
        # A delete may remove the emptied directory between any two of these steps.
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            return stack.enter_context(make(target.parent))
        except FileNotFoundError as error:
            words = error.strerror or str(error)
        except FileExistsError as error:
            if target.parent.exists():  # a file lies in the way
                raise
            words = error.strerror or str(error)
    raise StoreUnavailable(
        f"{target.parent} can't be made, or nothing in it: {words} (or somebody deletes it again "
        "and again)"
    )


def _link_or_lose(temporary: Path, target: Path) -> None:
    try:
        os.link(temporary, target, follow_symlinks=False)
    except FileExistsError as error:
        # NFS may repeat a link whose answer was lost; the link count tells who won (open(2)).
        if temporary.stat().st_nlink == 2:
            return
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a directory lies there") from error
        raise AlreadyExists(f"{target} exists already") from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise StoreError(
            f"the file system of {target.parent} has no hard links, so nothing can be committed "
            "exactly once there: choose another output directory",
            reason=Reason.UNSUPPORTED_STORE,
        ) from error
