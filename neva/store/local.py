"""Local files that appear whole: temporary files beside their target."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from neva.store.base import HIDDEN_NAME_PREFIX, StoreUnavailable

_COPY_BUFFER_BYTES = 1 << 20


@contextmanager
def open_temporary(directory: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A hidden file in `directory`, open for writing, to be moved into place.

    What is not moved is deleted at the end. The file is locked until then: one that is not has
    lost its writer, see `remove_temporaries`.
    """
    descriptor, name = tempfile.mkstemp(prefix=HIDDEN_NAME_PREFIX, dir=directory)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            with suppress(OSError):  # a file system without locks: then nothing is ever removed
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # mkstemp's 0600 would hide outputs from the people who asked for them.
            os.fchmod(descriptor, 0o666 & ~_UMASK)
            yield temporary, stream
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def written_temporary(directory: Path, source: BinaryIO) -> Iterator[Path]:
    """The same, with all of `source` written and on the disk."""
    with open_temporary(directory) as (temporary, stream):
        shutil.copyfileobj(source, stream, _COPY_BUFFER_BYTES)
        sync(stream)
        yield temporary


def remove_temporaries(base: Path) -> None:
    """Delete the hidden files that killed writers left anywhere below `base`."""
    for folder, _, names in os.walk(base):
        for name in names:
            if name.startswith(HIDDEN_NAME_PREFIX):
                with suppress(OSError), (Path(folder) / name).open("rb") as stream:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    Path(stream.name).unlink()


def sync(stream: BinaryIO) -> None:
    """Make what was written survive a power cut."""
    stream.flush()
    os.fsync(stream.fileno())


def nearest_directory(path: Path) -> Path:
    """The deepest directory above `path` that is there already."""
    return next((parent for parent in path.parents if parent.is_dir()), path.parent)


def sync_directories(directory: Path, known: Path) -> None:
    """Make a new name survive a power cut too, and the new directories up to a known one."""
    for made in (directory, *directory.parents):
        _sync_directory(made)
        if made == known:
            return


def _sync_directory(directory: Path) -> None:
    """Where the file system can."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


@contextmanager
def appearing_whole(path: Path) -> Iterator[BinaryIO]:
    """A stream to write a downloaded file to, which gets its name when the block succeeds.

    Missing directories are made. Not synced: what is downloaded can be downloaded again.

    Raises:
        StoreUnavailable: the local disk refuses (full, read-only).
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=HIDDEN_NAME_PREFIX, dir=path.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, 0o666 & ~_UMASK)
            yield stream
        temporary.replace(path)
    except OSError as error:
        raise StoreUnavailable(f"can't write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _current_umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


# Read once: the only way to read it is to set it, which is not safe in a threaded process.
_UMASK = _current_umask()
