"""decord behind the project's `VideoReader`. Imported by `worker.media.decode` on first use.

decord 0.6.0 numbers key frames by their place in the file. Where other frames are stored behind a
key frame but shown before it ("open" groups of pictures: HEVC by default, much of broadcast), that
place is not the frame's number, and jumping there gives frames up to a few numbers off, without an
error. Such files are therefore read from the start, which is slower and right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import decord
import numpy as np
from numpy.typing import NDArray

from worker.media.video_index import VideoIndex, unreadable

# decord has no common base: opening raises RuntimeError, decoding its own error.
_FAILURES = (RuntimeError, decord.DECORDError)
# [12:34:56] /its/build/machine/video_reader.cc:270: [the file]
_PLACE_IN_SOURCE = re.compile(r"^\[\d\d:\d\d:\d\d\] \S+:\d+: (?:\[.*?\] ?)?")
_COMPARED_NUMBERS = re.compile(r" ?\(-?\d+ vs\. -?\d+\)")


class DecordReader:
    """One file in decord, on the CPU, in its own size, upright as the file says."""

    def __init__(self, path: Path, index: VideoIndex, num_threads: int) -> None:
        decord.logging.set_level(decord.logging.QUIET)
        self._path = path
        try:
            self._reader: decord.VideoReader | None = decord.VideoReader(
                str(path), ctx=decord.cpu(0), num_threads=num_threads
            )
        except _FAILURES as error:
            raise unreadable(path, _innermost(error, path)) from error
        self._num_frames = len(self._reader)
        self._can_jump = not index.has_leading_frames

    @property
    def num_frames(self) -> int:
        return self._num_frames

    def get_frames(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        if self._reader is None:
            raise ValueError("the reader is closed")
        try:
            if not self._can_jump:
                return _read_through(self._reader, indices)
            frames: NDArray[np.uint8] = self._reader.get_batch(list(indices)).asnumpy()
        except _FAILURES as error:
            raise unreadable(self._path, _innermost(error, self._path)) from error
        return frames

    def close(self) -> None:
        self._reader = None  # frees the native reader and its threads


def _read_through(reader: decord.VideoReader, indices: Sequence[int]) -> NDArray[np.uint8]:
    wanted = set(indices)
    frames: dict[int, NDArray[np.uint8]] = {}
    reader.seek(0)
    for index in range(max(indices) + 1):
        frame = reader.next()
        if index in wanted:
            frames[index] = frame.asnumpy()
    return np.stack([frames[index] for index in indices])


def _innermost(error: Exception, path: Path) -> str:
    """decord's words without the native stack, its build machine's paths and our temporary ones."""
    words = str(error).splitlines()[0].rsplit("Error: ", 1)[-1].rsplit("Check failed: ", 1)[-1]
    words = _PLACE_IN_SOURCE.sub("", words)
    # The compared numbers may be uninitialised memory; one error must read the same every time.
    words = _COMPARED_NUMBERS.sub("", words)
    return words.replace(str(path), path.name).removesuffix("...")
