"""Opening videos and images: picks a decoder, and turns every failure into the row's own error.

Two decoders read videos, and both give the same frames, numbered in display order and turned the
way a player would show them. decord is the reference's decoder and jumps to the frames it needs; it
exists for x86-64 only, its last release is old, and some files that it refuses are fine. PyAV is
the other one. Which one read a file is logged.

Callers are the forked Celery children. Nothing here is imported before it is needed, so a decoder's
native library starts its threads in the process that uses it.
"""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final, Literal, Protocol

import numpy as np
import structlog
from numpy.typing import NDArray
from PIL import Image

from neva.errors import RowError
from neva.reasons import Reason

DecoderName = Literal["auto", "decord", "pyav"]

# Clips are decoded by several processes at once; more threads in each would only get in the way.
THREADS_PER_DECODER: Final = 1

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


def open_video(path: Path, decoder: DecoderName = "auto") -> VideoReader:
    """Open a video file.

    Args:
        decoder: "auto" takes decord where it is installed, and PyAV where it is not or fails.

    Raises:
        RowError: MEDIA_UNREADABLE, no decoder reads the file; the message has the decoders' words.
    """
    if not path.is_file():
        raise unreadable(path, "no such file")
    if decoder == "pyav" or (decoder == "auto" and not decord_is_installed()):
        return _open_with_pyav(path)
    if decoder == "decord":
        return _open_with_decord(path)
    try:
        return _DecordThenPyav(path, _open_with_decord(path))
    except RowError as refused:
        _log.info("decord_failed", path=str(path), error=refused.message)
        return _open_after(refused, path)


def read_image(path: Path) -> NDArray[np.uint8]:
    """A still picture as a clip of one frame, (1, height, width, 3), uint8 RGB.

    As the reference reads it: the first picture of an animated file, and not turned by EXIF.

    Raises:
        RowError: MEDIA_UNREADABLE or MEDIA_TOO_LARGE.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))[None]
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RowError(f"{path.name}: {error}", reason=Reason.MEDIA_TOO_LARGE) from error
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow's word for bad PNG
        raise unreadable(path, str(error)) from error


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


def unreadable(path: Path, words: str) -> RowError:
    """The error for a file that can't be read; `words` may be a native stack trace."""
    first_line = next((line.strip() for line in words.splitlines() if line.strip()), "no reason")
    return RowError(f"{_opening(path)}{first_line}", reason=Reason.MEDIA_UNREADABLE)


def _opening(path: Path) -> str:
    return f"{path.name} can't be read: "


def _open_with_decord(path: Path) -> VideoReader:
    from worker.media.decord_reader import DecordReader

    reader = DecordReader(path, THREADS_PER_DECODER)
    _log.debug("video_opened", path=str(path), decoder="decord")
    return reader


def _open_with_pyav(path: Path) -> VideoReader:
    from worker.media.pyav_reader import PyavReader

    reader = PyavReader(path, THREADS_PER_DECODER)
    _log.debug("video_opened", path=str(path), decoder="pyav")
    return reader


def _open_after(refused: RowError, path: Path) -> VideoReader:
    """PyAV's reader; when it fails too, the error has both decoders' words."""
    try:
        return _open_with_pyav(path)
    except RowError as error:
        pyav_words, decord_words = (
            either.message.removeprefix(_opening(path)) for either in (error, refused)
        )
        raise unreadable(path, f"{pyav_words} (PyAV), {decord_words} (decord)") from refused


class _DecordThenPyav:
    """decord until it fails in the middle of a file, then PyAV on the same frames."""

    def __init__(self, path: Path, reader: VideoReader) -> None:
        self._path = path
        self._reader = reader

    @property
    def num_frames(self) -> int:
        return self._reader.num_frames

    def get_frames(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        try:
            return self._reader.get_frames(indices)
        except RowError as refused:
            num_frames = self._reader.num_frames
            self.close()
            _log.info("decord_failed", path=str(self._path), error=refused.message)
            self._reader = _open_after(refused, self._path)
            if self._reader.num_frames != num_frames:
                # The caller chose its indices by the other count: they would be other frames.
                raise
        return self._reader.get_frames(indices)

    def close(self) -> None:
        self._reader.close()
