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
import structlog
from PIL import Image

from neva.errors import RowError
from neva.frames import frame_indices
from neva.ledger import layout
from neva.media_rules import MediaRules
from neva.reasons import Reason
from neva.store.base import NotFound, Store, StoreError
from worker.engine.protocol import MediaRef
from worker.media.decode import open_video, read_image
from worker.media.preprocess import Preprocessor

log = structlog.get_logger()

STRIP_HEIGHT_PX = 96
_STRIP_QUALITY = 80
# What a browser, and JPEG itself (65,535), still shows.
_STRIP_MAX_WIDTH_PX = 16_384
_FRAME_MAX_WIDTH_PX = 960
_MAX_NAME_BYTES = 200


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
        """Fetch, decode and preprocess one file.

        Raises:
            RowError: the file is no usable media, or this one can't be had.
            StoreError: a store can't be had now (retryable).
        """
        with self._local_file(name) as path:
            try:
                frames, indices = self._decode(path)
                shown = frames[..., ::-1] if self.rules.color_order == "bgr" else frames
                pixels = np.ascontiguousarray(self.preprocess(shown))  # (frames, 3, h, w)
            except (OSError, ValueError, ArithmeticError, RuntimeError, MemoryError) as error:
                # Decoders meet things their authors never saw: that is the file's fault.
                words = f"{name} can't be decoded: {type(error).__name__}: {error}"
                raise RowError(words, reason=Reason.MEDIA_UNREADABLE) from error
        # The key is the content: equal pixels share their features, whatever they are called.
        key = hashlib.blake2b(pixels.data, digest_size=16).hexdigest()
        # The process id lets the supervisor sweep up after a child that was killed.
        target = self.pixels_dir / f"{os.getpid()}-{key}.f32"
        if not target.exists():  # a file under this name has this content, and may be in use
            half = target.with_suffix(".half")
            pixels.tofile(half)
            half.rename(target)
        self._save_strip(name, frames)
        num_frames, num_channels, height, width = pixels.shape
        ref = MediaRef(key, str(target), (num_frames, num_channels, height, width))
        return PreparedMedia(ref, indices)

    def _save_strip(self, name: str, frames: np.ndarray) -> None:
        """For the report; a picture that can't be made must not cost an answer."""
        try:
            strip = frame_strip(frames)
        except (OSError, ValueError) as error:
            log.warning("no frames for the report", media=name, error=str(error))
            return
        self.output.put(layout.frames(name), strip)

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
        target = None
        try:
            try:
                path = self.media.local_path(name)
                if path is None:
                    path = target = self._download_target(name)
                    self.media.download(name, target)
            except StoreError as error:
                if error.retryable:
                    raise
                # It was there when the job was validated.
                missing = isinstance(error, NotFound)
                reason = Reason.MEDIA_NOT_FOUND if missing else error.reason
                raise RowError(error.message, reason=reason) from error
            yield path
        finally:
            if target is not None:
                target.unlink(missing_ok=True)

    def _download_target(self, name: str) -> Path:
        """The file keeps its name: decoders look at the suffix, and users read it in errors."""
        folder = self.downloads_dir / f"{os.getpid()}-download"
        folder.mkdir(exist_ok=True)
        own = Path(name).name
        if len(own.encode()) > _MAX_NAME_BYTES:
            own = hashlib.sha256(name.encode()).hexdigest()[:16] + Path(name).suffix[:16]
        return folder / own


def frame_strip(frames: np.ndarray) -> bytes:
    """A JPEG of the frames side by side, as decoded; evenly chosen ones where all are too many.

    Args:
        frames: (frames, height, width, 3) uint8 RGB.
    """
    height, width = frames.shape[1:3]
    scale = min(STRIP_HEIGHT_PX / height, _FRAME_MAX_WIDTH_PX / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    num_shown = min(len(frames), _STRIP_MAX_WIDTH_PX // size[0])
    shown = frames[np.linspace(0, len(frames) - 1, num_shown).astype(int)]
    strip = Image.new("RGB", (size[0] * num_shown, size[1]))
    for position, frame in enumerate(shown):
        small = Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)
        strip.paste(small, (position * size[0], 0))
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=_STRIP_QUALITY)
    return buffer.getvalue()
