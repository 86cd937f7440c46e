"""One file to the pixels that the vision tower takes, and a picture for the report.

The whole work of the decoding process on one file.
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neva.frames import frame_indices
from neva.media_rules import MediaRules
from worker.media.decode import IMAGE_DECODER, open_video, read_image
from worker.media.limits import MediaLimits
from worker.media.preprocess import Preprocessor
from worker.media.wire import DecoderUsed

STRIP_HEIGHT_PX: Final = 96
_STRIP_QUALITY: Final = 80
_SMOOTHLY: Final = Image.Resampling.BILINEAR
# First by whole numbers, to about the size: a third of the time, and the picture is for people.
_QUICKLY: Final = 1.1
# What a browser, and JPEG itself (65,535), still shows.
_STRIP_MAX_WIDTH_PX: Final = 16_384
_FRAME_MAX_WIDTH_PX: Final = 960
# Decoded frames held at once: a clip of many large frames is taken piece by piece.
_MAX_HELD_BYTES: Final = 512 << 20


@dataclass(frozen=True, slots=True)
class Clip:
    """What one file became.

    Attributes:
        pixels: (frames, 3, height, width) float32, for the tower.
        frames: indices of the frames in the file, in the order shown.
        decoder: which one read them.
        strip: JPEG of the frames side by side.
        decode_s, preprocess_s: seconds by the clock.
    """

    pixels: NDArray[np.float32]
    frames: tuple[int, ...]
    decoder: DecoderUsed
    strip: bytes
    decode_s: float
    preprocess_s: float


def read_clip(path: Path, rules: MediaRules, preprocess: Preprocessor, limits: MediaLimits) -> Clip:
    """Decode and preprocess one file.

    Raises:
        RowError: the file is no usable media.
    """
    started_s = time.perf_counter()
    if rules.media_type == "image":
        making = _Making(rules, preprocess, num_frames=1)
        making.add(read_image(path, rules.exif_rotation, limits))
        return making.clip((0,), [0], IMAGE_DECODER, started_s)
    video = open_video(path, rules.decoder, rules.rotation, limits)
    try:
        indices = frame_indices(video.num_frames, rules.num_frames, rules.splice_single_frame)
        # A clip shorter than asked for repeats its last frame, which needs decoding only once.
        unique = sorted(set(indices))
        making = _Making(rules, preprocess, len(unique))
        step = max(1, _MAX_HELD_BYTES // video.frame_bytes)
        for start in range(0, len(unique), step):
            making.add(video.get_frames(unique[start : start + step]))
        places = [unique.index(index) for index in indices]
        return making.clip(indices, places, video.decoder, started_s)
    finally:
        video.close()


class _Making:
    """A clip that grows."""

    def __init__(self, rules: MediaRules, preprocess: Preprocessor, num_frames: int) -> None:
        self._preprocess = preprocess
        self._as_bgr = rules.color_order == "bgr"
        self._num_frames = num_frames
        self._pixels: list[NDArray[np.float32]] = []
        self._thumbnails: list[Image.Image] = []
        self._num_added = 0
        self._preprocess_s = 0.0

    def add(self, frames: NDArray[np.uint8]) -> None:
        """frames: (some, height, width, 3), the next ones."""
        started_s = time.perf_counter()
        size = thumbnail_size(*frames.shape[1:3])
        shown = shown_frames(self._num_frames, size[0])
        for number, frame in enumerate(frames, self._num_added):
            if number in shown:
                picture = Image.fromarray(frame)
                self._thumbnails.append(picture.resize(size, _SMOOTHLY, reducing_gap=_QUICKLY))
        self._num_added += len(frames)
        self._pixels.append(self._preprocess(frames[..., ::-1] if self._as_bgr else frames))
        self._preprocess_s += time.perf_counter() - started_s

    def clip(
        self, indices: tuple[int, ...], places: list[int], decoder: DecoderUsed, started_s: float
    ) -> Clip:
        """The whole. `places`: where each frame of the clip is among the added ones."""
        pixels = np.concatenate(self._pixels)[places]
        took_s = time.perf_counter() - started_s
        return Clip(
            np.ascontiguousarray(pixels),
            indices,
            decoder,
            frame_strip(self._thumbnails),
            took_s - self._preprocess_s,
            self._preprocess_s,
        )


def thumbnail_size(height: int, width: int) -> tuple[int, int]:
    """(width, height) of a frame in the strip."""
    scale = min(STRIP_HEIGHT_PX / height, _FRAME_MAX_WIDTH_PX / width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def shown_frames(num_frames: int, thumbnail_width: int) -> set[int]:
    """Evenly chosen ones where all are too many for one picture."""
    num_shown = min(num_frames, _STRIP_MAX_WIDTH_PX // thumbnail_width)
    return {int(number) for number in np.linspace(0, num_frames - 1, num_shown)}


def frame_strip(thumbnails: Sequence[Image.Image]) -> bytes:
    """A JPEG of pictures of one size, side by side."""
    width, height = thumbnails[0].size
    strip = Image.new("RGB", (width * len(thumbnails), height))
    for position, picture in enumerate(thumbnails):
        strip.paste(picture, (position * width, 0))
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=_STRIP_QUALITY)
    return buffer.getvalue()
