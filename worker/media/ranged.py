"""Of a large mp4 in object storage, only the bytes are fetched that the wanted frames need.

The file lies on this machine with its full size and nothing in it. The decoding process says which
bytes it needs, the Celery child, which alone may talk to the store, writes them into their places.

An mp4's index says where every frame's bytes are and when it is shown, so that the frames between a
key frame and a wanted frame are known before any is decoded. What is not fetched reads as zeros,
which no frame that is looked at depends on. PyAV decodes such a file: it takes no packet before it
is needed, as decord does. Where the index does not say all that (other
containers, fragments, edit lists, frames that reach back over a key frame), the whole is fetched.
"""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from neva.errors import RowError
from neva.frames import frame_indices
from neva.media_rules import MediaRules
from neva.media_store import MediaStore
from neva.reasons import Reason
from neva.store import StoreUnavailable
from worker.media.containers import HEAD_BYTES, demuxer_of
from worker.media.limits import MediaLimits

Range = tuple[int, int]
"""(offset, number of bytes)"""

BLOCK_BYTES: Final = 128 << 10
_COPY_BYTES: Final = 1 << 20
# Packets that a decoder may take before it gives a frame out, beside those that are reordered.
_DELAYED_PACKETS: Final = 4
# What decoders look at when they open a file.
_PROBED_PACKETS: Final = 8


class Blocks:
    """Which blocks of a file are there."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._there = bytearray(-(-size_bytes // BLOCK_BYTES))

    def take_missing(self, ranges: Iterable[Range]) -> list[Range]:
        """What is missing of `ranges`, in whole blocks and as few ranges as can be; now there."""
        wanted = bytearray(len(self._there))
        for offset, num_bytes in ranges:
            end = min(offset + num_bytes, self._size_bytes)
            for block in range(offset // BLOCK_BYTES, -(-end // BLOCK_BYTES)):
                wanted[block] = not self._there[block]
        missing = []
        start = wanted.find(1)
        while start >= 0:
            end = wanted.find(0, start)
            end = len(wanted) if end < 0 else end
            self._there[start:end] = b"\1" * (end - start)
            first = start * BLOCK_BYTES
            missing.append((first, min(end * BLOCK_BYTES, self._size_bytes) - first))
            start = wanted.find(1, end)
        return missing


@dataclass(slots=True)
class RangedDownload:
    """The Celery child's side: one file that is fetched in pieces.

    Attributes:
        path: made with its full size, and filled.
        num_bytes_read: from the store.
    """

    store: MediaStore
    name: str
    path: Path
    size_bytes: int
    num_bytes_read: int = 0
    _blocks: Blocks = field(init=False)

    def __post_init__(self) -> None:
        self._blocks = Blocks(self.size_bytes)
        with self.path.open("wb") as file:
            file.truncate(self.size_bytes)

    def fetch(self, ranges: Iterable[Range]) -> None:
        """Have these bytes there; each is fetched once, whatever is asked for.

        Raises:
            StoreError: they can't be had.
        """
        with self.path.open("r+b") as file:
            for offset, num_bytes in self._blocks.take_missing(ranges):
                file.seek(offset)
                with self.store.open_read(self.name, offset=offset, num_bytes=num_bytes) as source:
                    left = num_bytes
                    while data := source.read(min(left, _COPY_BYTES)):
                        file.write(data)
                        left -= len(data)
                if left:
                    words = f"{self.store.uri_of(self.name)} became shorter while it was read"
                    raise StoreUnavailable(words)
                self.num_bytes_read += num_bytes


class RangedFile(io.RawIOBase):
    """The decoding process's side: a file whose bytes are fetched when they are read.

    Args:
        need: returns when the ranges are there.
    """

    def __init__(self, path: Path, need: Callable[[Sequence[Range]], None]) -> None:
        self._file = path.open("rb", buffering=0)
        self._size_bytes = os.fstat(self._file.fileno()).st_size
        self._blocks = Blocks(self._size_bytes)
        self._need = need

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        self.fetch([(self._file.tell(), len(buffer))])
        return self._file.readinto(buffer) or 0

    def fetch(self, ranges: Iterable[Range]) -> None:
        """Have these bytes there."""
        missing = self._blocks.take_missing(ranges)
        if missing:
            self._need(missing)

    def fetch_all(self) -> None:
        self.fetch([(0, self._size_bytes)])

    def close(self) -> None:
        self._file.close()
        super().close()


def fetch_needed(path: Path, file: RangedFile, rules: MediaRules, limits: MediaLimits) -> bool:
    """Fetch what PyAV needs of `path` to read the wanted frames, or all of it; False: all.

    Raises:
        RowError: MEDIA_TOO_LARGE.
    """
    if rules.media_type == "image" or rules.decoder not in ("auto", "pyav"):
        file.fetch_all()
        return False
    head = bytearray(HEAD_BYTES)
    del head[file.readinto(head) :]
    file.seek(0)
    if demuxer_of(bytes(head)) != "mov":
        file.fetch_all()
        return False
    try:
        ranges = _needed(path, file, rules, limits)
    except RowError as error:
        if error.reason is Reason.MEDIA_TOO_LARGE:
            raise  # without having fetched it
        ranges = None
    if ranges is None:
        file.fetch_all()
    else:
        file.fetch(ranges)
    return ranges is not None


def _needed(
    path: Path, file: RangedFile, rules: MediaRules, limits: MediaLimits
) -> list[Range] | None:
    """None: the index doesn't tell."""
    # FFmpeg is loaded in the decoding process only.
    from worker.media.video_index import index_video, open_container

    with open_container(path, file) as (container, stream):
        places = [(entry.pos, entry.size) for entry in stream.index_entries]
        if stream.frames != len(places):
            return None
    # The index is here now; the packets are as it says, with zeros in them.
    index = index_video(path, limits)
    if not index.shown or index.num_hidden or index.has_leading_frames:
        return None
    with open_container(path) as (container, stream):
        times = [packet.pts for packet in container.demux(stream) if packet.size]
    if len(times) != len(places):
        return None
    position = {time: number for number, time in enumerate(times)}
    # How far a frame's place in the file may be from its place on the screen.
    reordered = max(abs(position[time] - rank) for rank, time in enumerate(index.shown))
    behind = 2 * reordered + _DELAYED_PACKETS
    needed = set(range(min(_PROBED_PACKETS, len(times))))
    for wanted in frame_indices(index.num_frames, rules.num_frames, rules.splice_single_frame):
        time = index.shown[wanted]
        key = index.keys[max(bisect_right(index.keys, time) - 1, 0)]
        end = min(position[time] + 1 + behind, len(times))
        needed.update(range(position[key], end))
    return [places[number] for number in sorted(needed)]
