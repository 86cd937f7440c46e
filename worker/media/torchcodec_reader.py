"""torchcodec behind the project's `VideoReader`; optional, imported on first use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torchcodec.decoders import VideoDecoder

from worker.media.video_index import VideoIndex, unreadable

_FAILURES = (RuntimeError, ValueError, IndexError)


class TorchcodecReader:
    """One file in torchcodec, on the CPU."""

    def __init__(self, path: Path, index: VideoIndex, num_threads: int) -> None:
        self._path = path
        self._num_frames = index.num_frames
        try:
            self._decoder = VideoDecoder(
                str(path),
                stream_index=index.stream,
                dimension_order="NHWC",
                num_ffmpeg_threads=num_threads,
                seek_mode="exact",
            )
        except _FAILURES as error:
            raise unreadable(path, str(error)) from error

    @property
    def num_frames(self) -> int:
        return self._num_frames

    def get_frames(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        try:
            frames: NDArray[np.uint8] = self._decoder.get_frames_at(list(indices)).data.numpy()
        except _FAILURES as error:
            raise unreadable(self._path, str(error)) from error
        return frames

    def close(self) -> None:
        """Freed with the object."""
