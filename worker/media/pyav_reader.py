"""PyAV (FFmpeg) behind the project's `VideoReader`. Imported by `worker.media.decode` on first use.

Gives the same frames as decord: numbered in display order, turned by the display matrix, in the
size that the stream says. Frames are found by their times: it jumps to the key frame before a
wanted one and decodes from there, and reads through from the start where times are missing, or a
jump turns out to land elsewhere.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from worker.media.video_index import VideoIndex, open_container, unreadable

# Where a jump by time is exact. Ogg and MPEG streams guess the place from the bit rate.
_CAN_SEEK: Final = {"mov", "matroska"}


class _LandedElsewhere(Exception):
    pass


class PyavReader:
    """One file in PyAV.

    Args:
        turn_upright: turn frames as the file says, as a player does.
    """

    def __init__(
        self, path: Path, index: VideoIndex, num_threads: int, *, turn_upright: bool = True
    ) -> None:
        self._path = path
        self._index = index
        self._num_threads = num_threads
        self._turn_upright = turn_upright
        self._size: tuple[int, int] | None = None
        if index.width and index.height:
            self._size = (index.width, index.height)

    @property
    def num_frames(self) -> int:
        return self._index.num_frames

    def get_frames(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        wanted = sorted(set(indices))
        frames: dict[int, NDArray[np.uint8]] = {}
        with ExitStack() as stack:
            container, stream = stack.enter_context(open_container(self._path))
            stream.thread_count = self._num_threads
            try:
                if self._index.demuxer in _CAN_SEEK and self._index.shown and self._index.keys:
                    self._by_time(container, stream, wanted, frames)
                else:
                    raise _LandedElsewhere
            except _LandedElsewhere:
                frames.clear()
                stack.close()
                container, stream = stack.enter_context(open_container(self._path))
                stream.thread_count = self._num_threads
                self._read_through(container, stream, wanted, frames)
        for index in wanted:
            if index not in frames:
                words = f"frame {index} of {self.num_frames} does not decode"
                raise unreadable(self._path, words)
        return np.stack([frames[index] for index in indices])

    def close(self) -> None:
        """Nothing is held between calls."""

    def _by_time(
        self,
        container: InputContainer,
        stream: VideoStream,
        wanted: list[int],
        frames: dict[int, NDArray[np.uint8]],
    ) -> None:
        number_of = {self._index.shown[index]: index for index in wanted}
        position: int | None = None  # the key frame that the running decoding began at
        decoding: Iterator[VideoFrame] = iter(())
        for index in wanted:
            if index in frames:
                continue
            time = self._index.shown[index]
            key = max(bisect_right(self._index.keys, time) - 1, 0)
            if position is None or key > position:
                decoding = self._from_key(container, stream, self._index.keys[key])
                position = key
            for frame in decoding:
                if frame.pts is None:
                    raise _LandedElsewhere
                number = number_of.get(frame.pts)
                if number is not None:
                    frames[number] = self._pixels(frame)
                if frame.pts >= time:
                    break
            if index not in frames:
                raise _LandedElsewhere

    def _from_key(
        self, container: InputContainer, stream: VideoStream, key_pts: int
    ) -> Iterator[VideoFrame]:
        container.seek(key_pts, stream=stream)
        first = True
        for packet in container.demux(stream):
            if first and packet.size:
                if not packet.is_keyframe or packet.pts is None or packet.pts > key_pts:
                    raise _LandedElsewhere
                first = False
            for frame in packet.decode():
                if isinstance(frame, VideoFrame):
                    yield frame

    def _read_through(
        self,
        container: InputContainer,
        stream: VideoStream,
        wanted: list[int],
        frames: dict[int, NDArray[np.uint8]],
    ) -> None:
        needed = set(wanted)
        for number, frame in enumerate(container.decode(stream)):
            if number in needed:
                frames[number] = self._pixels(frame)
            if number == wanted[-1]:
                return

    def _pixels(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """RGB pixels (height, width, 3)."""
        self._size = self._size or (frame.width, frame.height)
        width, height = self._size
        pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
        if not self._turn_upright:
            return pixels.astype(np.uint8, copy=False)
        quarter_turns = round(frame.rotation / 90)  # counter-clockwise
        return np.rot90(pixels, quarter_turns).astype(np.uint8, copy=False)
