"""What is in a video file, found by reading its packets and decoding none.

Headers are not believed: WebM, Matroska, Ogg and MPEG say no number of frames, others a wrong one.
The packets are counted, as the reference's decoder does. Every reader starts from this index, and
every limit is checked here, before anything of the file's claimed size is allocated.

The file is opened as a stream of bytes, with the one demuxer that its first bytes ask for and no
protocol: nothing that stands in it can make FFmpeg open another file or an address.
"""

from __future__ import annotations

import io
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from neva.errors import RowError
from neva.reasons import Reason
from worker.media.containers import HEAD_BYTES, demuxer_of, looks_like_a_playlist
from worker.media.limits import MediaLimits

_CHECK_EVERY_PACKETS = 4096


@dataclass(frozen=True, slots=True)
class VideoIndex:
    """The packets of a file's best video stream.

    Attributes:
        demuxer: FFmpeg's name of the container's reader.
        stream: number of the video stream in the file.
        width, height: pixels, as the stream says; 0 when it doesn't.
        num_frames: packets whose frames are shown.
        num_hidden: packets whose frames an edit list hides: decoded for the others' sake alone.
        shown: when each frame is shown, ascending, in the stream's own unit; empty when some packet
            doesn't say, or two say the same.
        keys: when the frames are shown that decoding can start at, hidden ones too, ascending.
        has_leading_frames: some frame is stored behind a key frame but shown before it, or nothing
            says that none is.
    """

    demuxer: str
    stream: int
    width: int
    height: int
    num_frames: int
    num_hidden: int
    shown: array[int]
    keys: array[int]
    has_leading_frames: bool


def index_video(path: Path, limits: MediaLimits) -> VideoIndex:
    """Read the packets of a file.

    Raises:
        RowError: MEDIA_UNREADABLE, it is no video; MEDIA_TOO_LARGE, it is beyond a limit.
    """
    limits.check_bytes(path.name, path.stat().st_size)
    with open_container(path) as (container, stream):
        context = stream.codec_context
        limits.check_size(path.name, context.width, context.height)
        limits.check_duration(path.name, _claimed_seconds(container, stream))
        limits.check_frames(path.name, stream.frames)
        counted = _count(path, limits, container, stream)
        return VideoIndex(
            _allowed_demuxer(path),
            stream.index,
            context.width,
            context.height,
            counted.num_frames,
            counted.num_hidden,
            *counted.times(),
            counted.has_leading_frames or not counted.complete,
        )


@dataclass(slots=True)
class _Count:
    """What was read so far."""

    num_frames: int = 0
    num_hidden: int = 0
    complete: bool = True  # every packet said its time
    has_leading_frames: bool = False
    shown: array[int] = field(default_factory=lambda: array("q"))
    keys: array[int] = field(default_factory=lambda: array("q"))

    def add(self, packet: Packet[VideoStream]) -> None:
        if packet.is_discard:
            self.num_hidden += 1
        else:
            self.num_frames += 1
        if packet.pts is None:
            self.complete = False
            return
        if not packet.is_discard:
            self.shown.append(packet.pts)
        if packet.is_keyframe:
            self.keys.append(packet.pts)
        elif not self.keys or packet.pts < self.keys[-1]:
            self.has_leading_frames = True

    def times(self) -> tuple[array[int], array[int]]:
        """(shown, keys), sorted; empty when they don't tell the frames apart."""
        if not self.complete or len(set(self.shown)) < self.num_frames:
            return array("q"), array("q")
        return array("q", sorted(self.shown)), array("q", sorted(self.keys))


def _count(
    path: Path, limits: MediaLimits, container: InputContainer, stream: VideoStream
) -> _Count:
    counted = _Count()
    for packet in container.demux(stream):
        if packet.size == 0:  # the demuxer's sign for the end
            continue
        counted.add(packet)
        if counted.num_frames % _CHECK_EVERY_PACKETS == 0:
            limits.check_frames(path.name, counted.num_frames)
    limits.check_frames(path.name, counted.num_frames)
    if counted.shown and stream.time_base:
        duration = max(counted.shown) - min(counted.shown)
        limits.check_duration(path.name, float(duration * stream.time_base))
    return counted


@contextmanager
def open_container(
    path: Path, content: io.RawIOBase | None = None
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A file and its best video stream in PyAV, safely; FFmpeg's errors become the row's.

    Args:
        content: read this instead of what lies at `path`; stays open.

    Raises:
        RowError: MEDIA_UNREADABLE.
    """
    demuxer = _allowed_demuxer(path)
    # "none" is no protocol's name.
    options = {"format_whitelist": demuxer, "protocol_whitelist": "none"}
    try:
        with (
            nullcontext(content) if content is not None else path.open("rb") as file,
            av.open(file, "r", format=demuxer, options=options) as container,
        ):
            stream = container.streams.best("video")
            if not isinstance(stream, VideoStream):
                raise unreadable(path, "it has no video stream")
            if stream.codec_context is None:
                raise unreadable(path, "its video has a codec that nobody here knows")
            yield container, stream
    except av.FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        raise unreadable(path, error.strerror or str(error)) from error


def unreadable(path: Path, words: str) -> RowError:
    """The error for a file that can't be read; `words` may be a native stack trace."""
    first_line = next((line.strip() for line in words.splitlines() if line.strip()), "no reason")
    return RowError(f"{opening(path)}{first_line}", reason=Reason.MEDIA_UNREADABLE)


def opening(path: Path) -> str:
    """How the words of `unreadable` begin."""
    return f"{path.name} can't be read: "


def _allowed_demuxer(path: Path) -> str:
    head = _head(path)
    demuxer = demuxer_of(head)
    if demuxer is not None:
        return demuxer
    if not head:
        raise unreadable(path, "it is empty")
    if looks_like_a_playlist(head):
        raise unreadable(path, "it is a playlist or a script, which would name other files")
    raise unreadable(path, "its first bytes are those of no video container")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _claimed_seconds(container: InputContainer, stream: VideoStream) -> float:
    seconds = [0.0]
    if container.duration:
        seconds.append(container.duration / av.time_base)
    if stream.duration and stream.time_base:
        seconds.append(float(stream.duration * stream.time_base))
    return max(seconds)
