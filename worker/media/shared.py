"""Prepared media that the processes of one worker share: each video is prepared once.

Two shards that are worked on at the same time often ask about one video: the rows are grouped by
media, and a shard may end in the middle of a group. Whoever comes first prepares it under a lock of
its name; the others wait for that and take a link to the same pixels. A link is the taker's own and
deleted by it, so nobody counts users. The entries themselves are bounded: the oldest go first.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import orjson
from pydantic import TypeAdapter, ValidationError

from worker.engine.protocol import MediaRef


@dataclass(frozen=True, slots=True)
class PreparedMedia:
    """One video or image, ready for the engine.

    Attributes:
        ref: the pixels in shared memory; whoever asked for them deletes the file.
        frames: indices of the frames in the file, in the order shown.
        decoder: which one read them.
    """

    ref: MediaRef
    frames: tuple[int, ...]
    decoder: str


class SharedMedia:
    """The entries of one worker, in a folder of its own. Safe between processes and threads.

    Args:
        folder: on the file system of the pixels.
        max_bytes: of all entries' pixels; 0 shares what is in work and keeps nothing.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def get(self, name: str, own: Path, make: Callable[[], PreparedMedia]) -> PreparedMedia:
        """The media of this name, from here or made now.

        Args:
            own: path of the link that the caller gets; `make` writes its pixels there, too.

        Raises:
            What `make` raises. A failure is not kept.
        """
        self._folder.mkdir(exist_ok=True)
        entry = self._folder / hashlib.sha256(name.encode()).hexdigest()[:32]
        with _locked(entry.with_suffix(".lock")):
            found = _take(entry, own)
            if found is not None:
                return found
            made = make()
            if self._max_bytes:
                _keep(entry, made)
        self._shrink()
        return made

    def _shrink(self) -> None:
        entries = []
        for path in self._folder.glob("*.f32"):
            with suppress(FileNotFoundError):
                status = path.stat()
                entries.append((status.st_mtime_ns, status.st_size, path))
        left = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if left <= self._max_bytes:
                return
            for suffix in (".f32", ".json", ".lock"):
                path.with_suffix(suffix).unlink(missing_ok=True)
            left -= size


_prepared: TypeAdapter[PreparedMedia] = TypeAdapter(PreparedMedia)


def _take(entry: Path, own: Path) -> PreparedMedia | None:
    try:
        kept = _prepared.validate_json(entry.with_suffix(".json").read_bytes())
        os.link(entry.with_suffix(".f32"), own)
    except (FileNotFoundError, ValidationError):
        return None
    ref = MediaRef(kept.ref.key, str(own), kept.ref.shape)
    return PreparedMedia(ref, kept.frames, kept.decoder)


def _keep(entry: Path, made: PreparedMedia) -> None:
    """Pixels first, so that what is described is there."""
    pixels, half = entry.with_suffix(".f32"), entry.with_suffix(".half")
    pixels.unlink(missing_ok=True)  # of somebody who was killed between the two
    os.link(made.ref.path, pixels)
    half.write_bytes(orjson.dumps(made))
    half.rename(entry.with_suffix(".json"))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Held by one process and thread at a time; freed by the kernel when its owner dies."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
