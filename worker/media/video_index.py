"""What is in a video file, found by reading its packets and decoding none.

Headers are not believed: WebM, Matroska, Ogg and MPEG say no number of frames, others a wrong one.
The packets are counted, as the reference's decoder does. Every reader starts from this index, and
every limit is checked here, before anything of the file's claimed size is allocated.

The file is opened as a stream of bytes, with the one demuxer that its first bytes ask for and no
protocol: nothing that stands in it can make FFmpeg open another file or an address.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from neva.errors import RowError
from neva.reasons import Reason
from worker.media.containers import HEAD_BYTES, demuxer_of, looks_like_a_playlist
from worker.media.limits import MediaLimits

_CHECK_EVERY_PACKETS = 4096


@dataclass(frozen=True, slots=True)
class VideoIndex:
    """The packets of a file's best video stream, in the order in which they are stored.

    Attributes:
        demuxer: FFmpeg's name of the container's reader.
        stream: number of the video stream in the file.
        width, height: pixels, as the stream says; 0 when it doesn't.
        pts: when each packet's frame is shown, in the stream's own unit; empty when some packet
            doesn't say, or two say the same.
        keys: positions in `pts` of the frames that decoding can start at.
        num_frames: packets, whether they say their time or not.
    """

    demuxer: str
    stream: int
    width: int
    height: int
    pts: array[int]
    keys: tuple[int, ...]
    num_frames: int

    @property
    def has_leading_frames(self) -> bool:
        """Whether some frame is stored behind a key frame but shown before it, or none can tell."""
        if not self.pts or not self.keys:
            return True
        bounds = (*self.keys, len(self.pts))
        return any(min(self.pts[key:end]) < self.pts[key] for key, end in pairwise(bounds))


def index_video(path: Path, limits: MediaLimits) -> VideoIndex:
    """Read the packets of a file.

    Raises:
        RowError: MEDIA_UNREADABLE, it is no video; MEDIA_TOO_LARGE, it is beyond a limit.
    """
    limits.check_bytes(path.name, path.stat().st_size)
    with open_container(path) as (container, stream):
        context = stream.codec_context
        width, height = context.width, context.height
        limits.check_size(path.name, width, height)
        limits.check_duration(path.name, _claimed_seconds(container, stream))
        limits.check_frames(path.name, stream.frames)
        pts, keys, num_frames, complete = array("q"), [], 0, True
        for packet in container.demux(stream):
            if packet.size == 0:  # the demuxer's sign for the end
                continue
            if packet.is_keyframe:
                keys.append(num_frames)
            if packet.pts is None:
                complete = False
            else:
                pts.append(packet.pts)
            num_frames += 1
            if num_frames % _CHECK_EVERY_PACKETS == 0:
                limits.check_frames(path.name, num_frames)
        limits.check_frames(path.name, num_frames)
        if pts and stream.time_base:
            limits.check_duration(path.name, float((max(pts) - min(pts)) * stream.time_base))
        if not complete or len(set(pts)) < num_frames:
            pts = array("q")
        return VideoIndex(
            demuxer_of(_head(path)) or "", stream.index, width, height, pts, tuple(keys), num_frames
        )


@contextmanager
def open_container(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A file and its best video stream in PyAV, safely; FFmpeg's errors become the row's.

    Raises:
        RowError: MEDIA_UNREADABLE.
    """
    demuxer = _allowed_demuxer(path)
    # "none" is no protocol's name.
    options = {"format_whitelist": demuxer, "protocol_whitelist": "none"}
    try:
        with (
            path.open("rb") as file,
            av.open(file, "r", format=demuxer, options=options) as container,
        ):
            stream = container.streams.best("video")
            if not isinstance(stream, VideoStream):
                raise unreadable(path, "it has no video stream")
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
