"""Opening videos and images: picks a decoder, and turns every failure into the row's own error.

All decoders give the same frames, numbered in display order. decord is the reference's decoder and
jumps to the frames it needs; it exists for x86-64 only, its last release is old, some files that it
refuses are fine, and some that it takes it misreads. PyAV is the other one. Which one read a file
is in the row's record.

Runs in the decoding process (`worker.media.decoder_main`). Nothing here is imported before it is
needed: decoders start slowly, and images need none.
"""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import structlog
from numpy.typing import NDArray
from PIL import Image, ImageOps

from neva.errors import RowError
from neva.media_rules import Decoder, ExifRotation, Rotation
from worker.media.limits import MediaLimits
from worker.media.video_index import VideoIndex, index_video, opening, unreadable
from worker.media.wire import DecoderUsed

# Clips are decoded by several processes at once; more threads in each would only get in the way.
THREADS_PER_DECODER: Final = 1
# No EPS: Pillow would start Ghostscript for it.
_IMAGE_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
IMAGE_DECODER: Final[DecoderUsed] = "pillow"
_DECORD_CONTAINERS: Final = {"mov", "matroska", "avi", "asf", "flv"}
_UNKNOWN_PIXELS: Final = 320 * 240

_log = structlog.get_logger(__name__)


class VideoReader(Protocol):
    """One open video file. Not thread-safe; closed by its owner."""

    @property
    def num_frames(self) -> int:
        """Frames in the file, counted and not taken from its header."""

    def get_frames(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Frames (len(indices), height, width, 3), uint8 RGB; an index may repeat.

        Raises:
            RowError: MEDIA_UNREADABLE, the file is damaged on the way there.
        """

    def close(self) -> None: ...


class Video:
    """One open video file, read by one decoder after the other where that is allowed.

    Attributes:
        decoder: name of the one that reads it now.
    """

    def __init__(
        self,
        path: Path,
        index: VideoIndex,
        reader: VideoReader,
        decoder: DecoderUsed,
        *,
        may_change: bool,
    ) -> None:
        self._path = path
        self._index = index
        self._reader = reader
        self._may_change = may_change
        self.decoder = decoder

    @property
    def num_frames(self) -> int:
        return self._reader.num_frames

    @property
    def frame_bytes(self) -> int:
        """About what one decoded frame takes."""
        return max(self._index.width * self._index.height, _UNKNOWN_PIXELS) * 3

    def get_frames(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """As `VideoReader.get_frames`."""
        try:
            return self._reader.get_frames(indices)
        except RowError as refused:
            if not self._may_change:
                raise
            num_frames = self._reader.num_frames
            self.close()
            self._reader, self.decoder = _after_decord(refused, self._path, self._index)
            self._may_change = False
            if self._reader.num_frames != num_frames:
                # The caller chose its indices by the other count: they would be other frames.
                raise
            try:
                return self._reader.get_frames(indices)
            except RowError as error:
                raise _both_failed(self._path, error, refused) from error

    def close(self) -> None:
        self._reader.close()


def open_video(
    path: Path,
    decoder: Decoder = "auto",
    rotation: Rotation = "upright",
    limits: MediaLimits | None = None,
) -> Video:
    """Open a video file.

    Args:
        decoder: "auto" takes decord where it is installed and reads this kind of file right, and
            PyAV where not, or where decord fails.

    Raises:
        RowError: MEDIA_UNREADABLE, no decoder reads the file, the message has the decoders' words;
            MEDIA_TOO_LARGE, it is beyond a limit.
    """
    if not path.is_file():
        raise unreadable(path, "no such file")
    index = index_video(path, limits or MediaLimits())
    if decoder == "auto":
        # decord always turns.
        fits = rotation == "upright" and decord_misreads(index) is None
        decoder = "decord" if fits and decord_is_installed() else "pyav"
        if decoder == "decord":
            try:
                reader = _open_with_decord(path, index)
            except RowError as refused:
                reader, used = _after_decord(refused, path, index)
                return Video(path, index, reader, used, may_change=False)
            return Video(path, index, reader, "decord", may_change=True)
    if decoder == "decord":
        reader = _open_with_decord(path, index)
    elif decoder == "torchcodec":
        reader = _open_with_torchcodec(path, index)
    else:
        reader = _open_with_pyav(path, index, rotation)
    return Video(path, index, reader, decoder, may_change=False)


def read_image(
    path: Path, exif_rotation: ExifRotation = "ignored", limits: MediaLimits | None = None
) -> NDArray[np.uint8]:
    """A still picture as a clip of one frame, (1, height, width, 3), uint8 RGB.

    As the reference reads it: the first picture of an animated file, what is transparent in its
    own colours, and not turned by EXIF unless that is asked for.

    Raises:
        RowError: MEDIA_UNREADABLE or MEDIA_TOO_LARGE.
    """
    limits = limits or MediaLimits()
    limits.check_bytes(path.name, path.stat().st_size)
    # Ours is checked as soon as the header is read; Pillow's own only warns.
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(path, formats=_IMAGE_FORMATS) as image:
            limits.check_size(path.name, *image.size)
            picture: Any = image
            if exif_rotation == "applied":
                picture = ImageOps.exif_transpose(image)
            return np.asarray(picture.convert("RGB"))[None]
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow's word for bad PNG
        words = str(error).replace(str(path), path.name)
        raise unreadable(path, words) from error


@cache
def decord_is_installed() -> bool:
    """Whether decord can be had in this process; says why not, once."""
    if importlib.util.find_spec("decord") is None:
        _log.info("decord_missing", machine=platform.machine(), using="pyav")
        return False
    try:
        import decord  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:  # its native library does not load here
        _log.warning("decord_broken", error=str(error), using="pyav")
        return False
    return True


def decord_misreads(index: VideoIndex) -> str | None:
    """Why decord 0.6.0 would give other frames than are asked for, without an error, or None.

    Seen on the files of `tests/worker/media/footage.py`: it jumps to wrong places where containers
    keep no index, and numbers frames that an edit list hides.
    """
    if index.demuxer not in _DECORD_CONTAINERS:
        return f"decord loses its place in files of the kind {index.demuxer}"
    if index.num_hidden:
        return f"an edit list hides {index.num_hidden} frames, which decord would count"
    return None


def _open_with_decord(path: Path, index: VideoIndex) -> VideoReader:
    problem = decord_misreads(index)
    if problem is not None:
        raise unreadable(path, f"{problem}; take the decoder pyav or auto")
    if not decord_is_installed():
        raise unreadable(path, "decord is not installed on this worker")
    from worker.media.decord_reader import DecordReader

    return DecordReader(path, index, THREADS_PER_DECODER)


def _open_with_pyav(path: Path, index: VideoIndex, rotation: Rotation) -> VideoReader:
    from worker.media.pyav_reader import PyavReader

    return PyavReader(path, index, THREADS_PER_DECODER, turn_upright=rotation == "upright")


def _open_with_torchcodec(path: Path, index: VideoIndex) -> VideoReader:
    if index.demuxer.startswith("mpeg"):
        words = "torchcodec loses its place in MPEG streams; take the decoder pyav or auto"
        raise unreadable(path, words)
    if importlib.util.find_spec("torchcodec") is None:
        raise unreadable(path, "torchcodec is not installed on this worker")
    from worker.media.torchcodec_reader import TorchcodecReader

    return TorchcodecReader(path, index, THREADS_PER_DECODER)


def _after_decord(
    refused: RowError, path: Path, index: VideoIndex
) -> tuple[VideoReader, DecoderUsed]:
    """PyAV's reader; when it fails too, the error has both decoders' words."""
    _log.info("decord_failed", path=str(path), error=refused.message)
    try:
        return _open_with_pyav(path, index, "upright"), "pyav"
    except RowError as error:
        raise _both_failed(path, error, refused) from error


def _both_failed(path: Path, pyav: RowError, decord: RowError) -> RowError:
    pyav_words, decord_words = (
        error.message.removeprefix(opening(path)) for error in (pyav, decord)
    )
    return unreadable(path, f"{pyav_words} (PyAV), {decord_words} (decord)")
