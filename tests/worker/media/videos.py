"""Real video files whose frames can be told apart, and broken ones."""

from __future__ import annotations

import contextlib
import os
import random
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from numpy.typing import NDArray

WIDTH, HEIGHT = 128, 96
_BIT = 16  # pixels; large enough to survive any codec
_TKHD_MATRIX_AT = 4 + 4 + 20 + 8 + 8  # from the box's name, version 0
_ONE = 1 << 16


def numbered_frame(number: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """A picture with `number` painted into its top left corner as eight white or black squares."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = (60, 90, 140)
    for bit in range(8):
        picture[:_BIT, bit * _BIT : (bit + 1) * _BIT] = 255 * (number >> bit & 1)
    return picture


def read_numbers(frames: NDArray[np.uint8]) -> list[int]:
    """The painted numbers of frames (num_frames, height, width, 3)."""
    half = _BIT // 2
    bits = [frames[:, half, bit * _BIT + half].mean(-1) > 127 for bit in range(8)]
    return [
        sum(int(bit[index]) << place for place, bit in enumerate(bits))
        for index in range(len(frames))
    ]


@contextlib.contextmanager
def own_priority() -> Iterator[None]:
    """Keep this thread's scheduling policy: SVT-AV1 makes the thread that encodes a real-time one
    where it may, and with it all processes it starts later, which leaves nothing for others.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def write_video(
    path: Path,
    num_frames: int,
    *,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    show_at: Sequence[int] | None = None,
    width: int = WIDTH,
    height: int = HEIGHT,
    pix_fmt: str = "yuv420p",
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encode numbered frames at 24 per second; `show_at` gives them other times (in 1/24 s)."""
    with (
        own_priority(),
        av.open(str(path), "w", options=container_options or {}) as container,
    ):
        stream = container.add_stream(codec, rate=24)
        if not isinstance(stream, VideoStream):
            raise TypeError(f"{codec} is no video codec")
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.options = {**(options or {})}
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(
                numbered_frame(number, width, height), format="rgb24"
            )
            if show_at is not None:
                frame.pts = show_at[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_solid_video(path: Path, num_frames: int, rgb: tuple[int, int, int]) -> Path:
    """Frames of one colour."""
    picture = np.full((HEIGHT, WIDTH, 3), rgb, np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for _ in range(num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_audio_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100)
        if not isinstance(stream, AudioStream):
            raise TypeError("aac is an audio codec")
        for index in range(10):
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = 44_100, 1024 * index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turn_clockwise(source: Path, target: Path) -> Path:
    """The same mp4 with a display matrix that says: turn by 90 degrees."""
    content = bytearray(source.read_bytes())
    at = content.index(b"tkhd") + _TKHD_MATRIX_AT
    content[at : at + 36] = struct.pack(">9i", 0, _ONE, 0, -_ONE, 0, 0, 0, 0, 1 << 30)
    target.write_bytes(content)
    return target


def broken_files(directory: Path) -> dict[str, Path]:
    """One file for each way in which uploads go wrong."""
    whole = write_video(directory / "whole.mp4", 60)
    streamed = write_video(
        directory / "streamed.mp4",
        60,
        options={"g": "12"},
        container_options={"movflags": "faststart"},
    )
    files = {
        "empty": b"",
        "text": b"this is not a video\n",
        "random": random.Random(1).randbytes(20_000),
        "without_index": whole.read_bytes()[: whole.stat().st_size // 2],
        "cut_off": streamed.read_bytes()[: streamed.stat().st_size * 2 // 3],
    }
    for name, content in files.items():
        (directory / f"{name}.mp4").write_bytes(content)
    write_audio_only(directory / "audio_only.mp4")
    return {name: directory / f"{name}.mp4" for name in (*files, "audio_only")}
