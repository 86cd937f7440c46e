"""PyAV (FFmpeg) behind the project's `VideoReader`. Imported by `worker.media.decode` on first use.

Gives the same frames as decord: counted by packets, because containers such as WebM and Matroska
say none in the header and others say a wrong number; turned by the display matrix; in the size of
the first frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from worker.media.decode import unreadable


class PyavReader:
    """One file in PyAV. Reads from the start on every call: clips are short and asked once."""

    def __init__(self, path: Path, num_threads: int) -> None:
        self._path = path
        self._num_threads = num_threads
        with self._stream() as (container, stream):
            self._num_frames = sum(packet.size > 0 for packet in container.demux(stream))

    @property
    def num_frames(self) -> int:
        return self._num_frames

    def get_frames(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        wanted, last = set(indices), max(indices)
        frames: dict[int, NDArray[np.uint8]] = {}
        size: tuple[int, int] | None = None
        with self._stream() as (container, stream):
            for index, frame in enumerate(container.decode(stream)):
                size = size or (frame.width, frame.height)
                if index in wanted:
                    frames[index] = _upright(frame, *size)
                if index == last:
                    break
        if missing := wanted - frames.keys():
            raise unreadable(
                self._path, f"frame {min(missing)} of {self._num_frames} does not decode"
            )
        return np.stack([frames[index] for index in indices])

    def close(self) -> None:
        """Nothing is held between calls."""

    @contextmanager
    def _stream(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        try:
            with av.open(str(self._path)) as container:
                if not container.streams.video:
                    raise unreadable(self._path, "it has no video stream")
                stream = container.streams.video[0]
                stream.thread_count = self._num_threads
                yield container, stream
        except av.FFmpegError as error:
            raise unreadable(self._path, error.strerror or str(error)) from error


def has_leading_frames(path: Path) -> bool:
    """Whether some frame is stored behind a key frame but shown before it.

    Reads the packets' times and decodes nothing. True also when the file doesn't say.
    """
    try:
        with av.open(str(path)) as container:
            key_pts: int | None = None
            for packet in container.demux(container.streams.video[0]):
                if packet.size == 0:  # the demuxer's sign for the end
                    continue
                if packet.pts is None:
                    return True
                if packet.is_keyframe:
                    key_pts = packet.pts
                elif key_pts is not None and packet.pts < key_pts:
                    return True
    except (av.FFmpegError, IndexError):  # IndexError: no video stream
        return True
    return False


def _upright(frame: VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
    """RGB pixels (height, width, 3) as a player shows them."""
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
    quarter_turns = round(frame.rotation / 90)  # counter-clockwise
    return np.rot90(pixels, quarter_turns).astype(np.uint8, copy=False)
