"""A .nemo file's members where they lie: in an unpacked directory, or inside a plain tar.

Nothing is unpacked: a member of a plain tar is a stretch of the tar file, and readers map it from
there. Only a compressed tar has to be unpacked first (`unpack`), into a directory of ours.
Names are normalised: no leading `./`. A tar whose members could write or lead anywhere else (links,
devices, absolute names, `..`) is refused whole.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from neva.errors import ConfigError
from neva.reasons import Reason

_GZIP_MAGIC = b"\x1f\x8b"
_WEIGHTS = ".ckpt"


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a file: the whole of one, or one member of a tar."""

    path: Path
    offset_bytes: int
    size_bytes: int

    def read(self, offset_bytes: int = 0, num_bytes: int | None = None) -> bytes:
        """Bytes from `offset_bytes` within the segment on, all of them by default."""
        end = self.size_bytes if num_bytes is None else offset_bytes + num_bytes
        with self.path.open("rb") as file:
            file.seek(self.offset_bytes + offset_bytes)
            return file.read(max(0, min(end, self.size_bytes) - offset_bytes))

    def part(self, offset_bytes: int, num_bytes: int) -> Segment:
        """A stretch of this stretch. Raises ValueError if it reaches past the end."""
        if offset_bytes < 0 or num_bytes < 0 or offset_bytes + num_bytes > self.size_bytes:
            raise ValueError(f"{num_bytes} bytes from {offset_bytes} on of {self.size_bytes}")
        return Segment(self.path, self.offset_bytes + offset_bytes, num_bytes)


@dataclass(frozen=True, slots=True)
class Archive:
    """Members by normalised name.

    Attributes:
        kind: how it lies there, for people.
    """

    path: Path
    kind: str
    members: Mapping[str, Segment]


def open_archive(path: Path) -> Archive:
    """Index a directory or a plain tar.

    Raises:
        ConfigError: INVALID_CHECKPOINT, neither of both, or a tar that is not safe or is cut off.
    """
    if path.is_dir():
        return Archive(path, "directory", dict(_directory_members(path)))
    if is_compressed(path):
        raise _invalid(f"{path} is compressed; it has to be unpacked first")
    members: dict[str, Segment] = {}
    size_bytes = path.stat().st_size
    with _open_tar(path, "r:") as tar:
        for info in _checked(tar, path):
            if info.offset_data + info.size > size_bytes:
                raise _invalid(f"{path} is cut off: {info.name} reaches past its end")
            members[_normalised(info.name)] = Segment(path, info.offset_data, info.size)
    return Archive(path, "tar", members)


def is_compressed(path: Path) -> bool:
    """Whether `path` is a gzip file. Raises ConfigError if it can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    except OSError as error:
        raise _invalid(f"{path} can't be read: {error.strerror}") from error


def unpack(path: Path, directory: Path) -> Path:
    """Unpack a compressed tar into `directory`, which appears whole; returns it.

    Raises:
        ConfigError: INVALID_CHECKPOINT, as `open_archive`.
    """
    if directory.exists():
        return directory
    unfinished = directory.with_name(f"{directory.name}.{os.getpid()}.unfinished")
    try:
        with _open_tar(path, "r|gz") as tar:
            for info in _checked(tar, path):
                target = unfinished / _normalised(info.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(info)
                if source is None:
                    raise _invalid(f"{path}: {info.name} is no file")
                with source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
        unfinished.mkdir(parents=True, exist_ok=True)  # an empty archive
        try:
            unfinished.rename(directory)
        except OSError:
            if not directory.exists():  # else somebody else was faster, with the same content
                raise
    except (EOFError, tarfile.TarError, OSError) as error:
        raise _invalid(f"{path} can't be unpacked: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return directory


def small_members(stream: IO[bytes], name: str, largest_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of the small files at the root of a tar, plain or gzip, without weights.

    A seekable stream is skipped through, so that of a plain tar hardly more is read than that.

    Raises:
        ConfigError: INVALID_CHECKPOINT, no tar, or one that is not safe.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r:*") as tar:
            for info in _checked(tar, name):
                member = _normalised(info.name)
                if "/" in member or info.size > largest_bytes or member.endswith(_WEIGHTS):
                    continue
                source = tar.extractfile(info)
                if source is not None:
                    yield member, source.read()
    except (EOFError, tarfile.TarError, OSError) as error:
        raise _invalid(f"{name} can't be read as a tar: {error}") from error


def _directory_members(path: Path) -> Iterator[tuple[str, Segment]]:
    for folder, _, files in os.walk(path):
        for file in files:
            full = Path(folder) / file
            if full.is_file():
                name = full.relative_to(path).as_posix()
                yield name, Segment(full, 0, full.stat().st_size)


def _open_tar(path: Path, mode: str) -> tarfile.TarFile:
    try:
        return tarfile.open(path, mode)  # type: ignore[call-overload,no-any-return]
    except (EOFError, tarfile.TarError, OSError) as error:
        raise _invalid(f"{path} can't be read as a tar: {error}") from error


def _checked(tar: tarfile.TarFile, source: Path | str) -> Iterator[tarfile.TarInfo]:
    """The regular files of a tar, in order."""
    seen: set[str] = set()
    try:
        for info in tar:
            pure = PurePosixPath(info.name)
            if pure.is_absolute() or ".." in pure.parts or "\\" in info.name or "\0" in info.name:
                raise _invalid(f"{source} holds a member outside of itself: {info.name!r}")
            if info.isdir():
                continue
            if not info.isreg() or info.sparse is not None:
                raise _invalid(f"{source} holds {info.name!r}, which is a link or no plain file")
            name = _normalised(info.name)
            if name in seen:
                raise _invalid(f"{source} holds {name!r} twice")
            seen.add(name)
            yield info
    except tarfile.TarError as error:
        raise _invalid(f"{source} can't be read as a tar: {error}") from error


def _normalised(name: str) -> str:
    return PurePosixPath(name).as_posix()


def _invalid(message: str) -> ConfigError:
    return ConfigError(message, reason=Reason.INVALID_CHECKPOINT)
