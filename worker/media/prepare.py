"""From a media name to pixels that the engine's ranks can read, and a picture for the report."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from neva.frames import frame_indices
from neva.ledger import layout
from neva.media_rules import MediaRules
from neva.store.base import Store
from worker.engine.protocol import MediaRef
from worker.media.decode import open_video, read_image
from worker.media.preprocess import Preprocessor

STRIP_HEIGHT_PX = 96
_STRIP_QUALITY = 80


@dataclass(frozen=True, slots=True)
class PreparedMedia:
    """One video or image, ready for the engine.

    Attributes:
        ref: the pixels in shared memory; whoever asked for them deletes the file.
        frames: indices of the frames in the file, in the order shown.
    """

    ref: MediaRef
    frames: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MediaPreparer:
    """Fetches, decodes and preprocesses media by the job's rules.

    Attributes:
        media: store of mediaBasePath.
        output: store of the run, for the frame strips.
        downloads_dir, pixels_dir: private to this worker.
    """

    media: Store
    output: Store
    preprocess: Preprocessor
    rules: MediaRules
    downloads_dir: Path
    pixels_dir: Path

    def prepare(self, name: str) -> PreparedMedia:
        """Raises RowError when the file is no usable media, StoreError when it can't be had."""
        with self._local_file(name) as path:
            frames, indices = self._decode(path)
        shown = frames[..., ::-1] if self.rules.color_order == "bgr" else frames
        pixels = np.ascontiguousarray(self.preprocess(shown))  # (frames, 3, height, width)
        # The key is the content: equal pixels share their features, whatever they are called.
        key = hashlib.blake2b(pixels.data, digest_size=16).hexdigest()
        # The process id lets the supervisor sweep up after a child that was killed.
        target = self.pixels_dir / f"{os.getpid()}-{key}.f32"
        pixels.tofile(target)
        self.output.put(layout.frames(name), frame_strip(frames))
        num_frames, num_channels, height, width = pixels.shape
        ref = MediaRef(key, str(target), (num_frames, num_channels, height, width))
        return PreparedMedia(ref, indices)

    def _decode(self, path: Path) -> tuple[np.ndarray, tuple[int, ...]]:
        """((frames, height, width, 3) uint8 RGB, indices in the file)."""
        rules = self.rules
        if rules.media_type == "image":
            return read_image(path), (0,)
        reader = open_video(path)
        try:
            indices = frame_indices(reader.num_frames, rules.num_frames, rules.splice_single_frame)
            return reader.get_frames(indices), indices
        finally:
            reader.close()

    @contextmanager
    def _local_file(self, name: str) -> Iterator[Path]:
        local = self.media.local_path(name)
        if local is not None:
            yield local
            return
        # The file keeps its name: decoders look at the suffix, and users read it in errors.
        folder = self.downloads_dir / f"{os.getpid()}-download"
        folder.mkdir(exist_ok=True)
        target = folder / Path(name).name
        try:
            self.media.download(name, target)
            yield target
        finally:
            target.unlink(missing_ok=True)


def frame_strip(frames: np.ndarray) -> bytes:
    """A JPEG of the frames side by side, as decoded.

    Args:
        frames: (frames, height, width, 3) uint8 RGB.
    """
    height, width = frames.shape[1:3]
    size = (max(1, round(width * STRIP_HEIGHT_PX / height)), STRIP_HEIGHT_PX)
    strip = Image.new("RGB", (size[0] * len(frames), size[1]))
    for position, frame in enumerate(frames):
        small = Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)
        strip.paste(small, (position * size[0], 0))
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=_STRIP_QUALITY)
    return buffer.getvalue()
