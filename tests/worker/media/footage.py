"""Video and image files of every kind that users send, good and damaged, made by PyAV and Pillow.

Every good video shows its frames' numbers (`videos.numbered_frame`). `python -m
tests.worker.media.footage FOLDER` writes them all.
"""

from __future__ import annotations

import io
import random
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from PIL import Image

from neva.reasons import Reason
from tests.worker.media.videos import (
    HEIGHT,
    WIDTH,
    numbered_frame,
    turn_clockwise,
    write_audio_only,
    write_video,
)


@dataclass(frozen=True, slots=True)
class Footage:
    """One kind of file.

    Attributes:
        name: of the file.
        num_frames: of a good one; of a damaged one None.
        reason: why a damaged one's row fails.
        first: number painted into the first frame that is shown.
    """

    name: str
    write: Callable[[Path], object]
    num_frames: int | None = None
    reason: Reason | None = None
    first: int = 0


def _video(name: str, num_frames: int, codec: str = "libx264", **options: object) -> Footage:
    def write(path: Path) -> object:
        return write_video(path, num_frames, codec=codec, **options)  # type: ignore[arg-type]

    return Footage(name, write, num_frames)


_X265: Final = {"x265-params": "log-level=none:keyint=24:bframes=3"}

GOOD_VIDEOS: Final = (
    _video("h264.mp4", 50),
    _video("h264.mov", 50),
    _video("h264.mkv", 50),
    _video("h264.avi", 40, options={"bf": "0"}),
    _video("h264.ts", 40),
    _video("h264.flv", 40),
    _video("b-frames.mp4", 70, options={"g": "12", "bf": "3"}),
    _video("open-gop.mp4", 70, options={"x264-params": "open-gop=1:keyint=12:bframes=3"}),
    _video("one-key-frame.mp4", 60, options={"g": "250", "sc_threshold": "0"}),
    _video("all-key-frames.mp4", 20, options={"g": "1"}),
    _video("faststart.mp4", 40, container_options={"movflags": "faststart"}),
    _video("fragmented.mp4", 40, container_options={"movflags": "frag_keyframe+empty_moov"}),
    _video("variable-rate.mp4", 33, show_at=[i + 9 * (i // 5) for i in range(33)]),
    _video("starts-late.mp4", 30, show_at=[i + 48 for i in range(30)]),
    _video("10-bit-444.mp4", 30, pix_fmt="yuv444p10le"),
    _video("422.mp4", 30, pix_fmt="yuv422p"),
    _video("full-range.mp4", 30, pix_fmt="yuvj420p"),
    _video("odd-size.mp4", 20, width=131, height=97, pix_fmt="yuv444p"),
    _video("even-not-16.mp4", 20, width=130, height=98),
    _video("one-frame.mp4", 1),
    _video("two-frames.mp4", 2),
    _video("three-frames.mp4", 3),
    _video("hevc.mp4", 70, "libx265", options=_X265),
    _video("hevc.mkv", 40, "libx265", options=_X265),
    _video("vp8.webm", 20, "libvpx"),
    _video("vp8.ogv", 20, "libvpx"),
    _video("vp9.webm", 20, "libvpx-vp9"),
    _video("vp9.mp4", 20, "libvpx-vp9"),
    _video("alpha.webm", 10, "libvpx-vp9", pix_fmt="yuva420p", options={"auto-alt-ref": "0"}),
    _video("av1.mp4", 20, "libsvtav1", options={"preset": "12"}),
    _video("av1.mkv", 20, "libsvtav1", options={"preset": "12"}),
    _video("mpeg4.avi", 40, "mpeg4"),
    _video("mpeg4-b.mp4", 40, "mpeg4", options={"bf": "2"}),
    _video("mjpeg.avi", 30, "mjpeg", pix_fmt="yuvj420p"),
    _video("msmpeg4.avi", 30, "msmpeg4"),
    _video("wmv2.asf", 30, "wmv2"),
    _video("flv1.flv", 30, "flv"),
    _video("mpeg1.mpg", 40, "mpeg1video"),
    _video("mpeg2.mpg", 40, "mpeg2video"),
    _video("mpeg2.ts", 40, "mpeg2video"),
    _video("ffv1.mkv", 20, "ffv1"),
    _video("prores.mov", 10, "prores_ks", pix_fmt="yuv422p10le"),
    _video("animated.gif", 12, "gif", pix_fmt="rgb8"),
    Footage("edit-list.mp4", lambda path: _edited(path), 38, first=12),
    Footage("turned.mp4", lambda path: _turned(path), 50),
    Footage("two-video-streams.mkv", lambda path: _two_videos(path), 20),
    Footage("with-audio.mp4", lambda path: _with_audio(path), 30),
    Footage("subfolder/ünïcödé 日本 %20 #1.mp4", lambda path: write_video(path, 15), 15),
    Footage("no-suffix", lambda path: _renamed(path, "x.mp4"), 15),
    Footage("wrong-suffix.mkv", lambda path: _renamed(path, "x.mp4"), 15),
)
"""Each is answered."""


def _content(make: Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(make())


UNREADABLE: Final = Reason.MEDIA_UNREADABLE
TOO_LARGE: Final = Reason.MEDIA_TOO_LARGE

BAD_VIDEOS: Final = (
    Footage("empty.mp4", _content(lambda: b""), reason=UNREADABLE),
    Footage("text.mp4", _content(lambda: b"this is not a video\n"), reason=UNREADABLE),
    Footage("random.mp4", _content(lambda: random.Random(1).randbytes(20_000)), reason=UNREADABLE),
    Footage("picture.mp4", _content(lambda: _png(8, 8)), reason=UNREADABLE),
    Footage("only-a-name.gif", _content(lambda: b"GIF89a"), reason=UNREADABLE),
    Footage("audio-only.mp4", write_audio_only, reason=UNREADABLE),
    Footage("without-index.mp4", lambda path: _cut(path), reason=UNREADABLE),
    Footage("cut-off.mp4", lambda path: _cut_off(path), reason=UNREADABLE),
    Footage("zeroed.mp4", lambda path: _zeroed(path), reason=UNREADABLE),
    Footage("no-frames.avi", lambda path: _without_frames(path), reason=Reason.MEDIA_EMPTY),
    # More than FFmpeg itself believes.
    Footage("claims-100000x100000.avi", lambda path: _claiming(path, 100_000), reason=UNREADABLE),
    Footage("claims-12000x12000.avi", lambda path: _claiming(path, 12_000), reason=TOO_LARGE),
    Footage("claims-ten-hours.mkv", lambda path: _ten_hours(path), reason=TOO_LARGE),
    Footage(
        "playlist.mp4",
        _content(lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:4,\nh264.mp4\n"),
        reason=UNREADABLE,
    ),
    Footage(
        "concat.mp4", _content(lambda: b"ffconcat version 1.0\nfile h264.mp4\n"), reason=UNREADABLE
    ),
)
"""Each fails for this reason."""

GOOD_IMAGES: Final = tuple(
    Footage(name, write, 1)
    for name, write in (
        ("rgb.jpg", lambda path: _picture().save(path, quality=95)),
        ("grey.jpg", lambda path: _picture().convert("L").save(path, quality=95)),
        ("cmyk.jpg", lambda path: _picture().convert("CMYK").save(path, quality=95)),
        ("progressive.jpg", lambda path: _picture().save(path, quality=95, progressive=True)),
        ("turned-by-exif.jpg", lambda path: _with_exif(path)),
        ("rgb.png", lambda path: _picture().save(path)),
        ("palette.png", lambda path: _picture().convert("P").save(path)),
        ("16-bit-grey.png", lambda path: _picture().convert("I;16").save(path)),
        ("alpha.png", lambda path: _picture().convert("RGBA").save(path)),
        ("lossless.webp", lambda path: _picture().save(path, lossless=True)),
        ("alpha.webp", lambda path: _picture().convert("RGBA").save(path, lossless=True)),
        ("animated.gif", lambda path: _animated(path)),
        ("bits.bmp", lambda path: _picture().save(path)),
        ("scan.tiff", lambda path: _picture().save(path)),
        ("really-a-png.jpg", lambda path: _picture().save(path, "PNG")),
        ("one-pixel.png", lambda path: Image.new("RGB", (1, 1)).save(path)),
    )
)

BAD_IMAGES: Final = (
    Footage("empty.png", _content(lambda: b""), reason=UNREADABLE),
    Footage("text.jpg", _content(lambda: b"no image"), reason=UNREADABLE),
    Footage("cut-off.jpg", lambda path: _cut_picture(path), reason=UNREADABLE),
    Footage("only-a-header.png", _content(lambda: _png(8, 8)[:40]), reason=UNREADABLE),
    Footage("script.eps", _content(lambda: b"%!PS-Adobe-3.0 EPSF-3.0\nquit\n"), reason=UNREADABLE),
    Footage(
        "drawing.svg", _content(lambda: b"<svg><image href='/etc/x'/></svg>"), reason=UNREADABLE
    ),
    Footage("bomb.png", _content(lambda: _png(100_000, 100_000)), reason=TOO_LARGE),
    Footage("bomb.gif", _content(lambda: _gif(65_535, 65_535)), reason=TOO_LARGE),
)


def write_all(folder: Path, footage: tuple[Footage, ...]) -> dict[str, Path]:
    """Write files; where each one lies."""
    paths = {}
    for kind in footage:
        path = folder / kind.name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind.write(path)
        paths[kind.name] = path
    return paths


def _renamed(path: Path, name: str) -> None:
    write_video(path.with_name(name), 15).rename(path)


def _turned(path: Path) -> None:
    plain = write_video(path.with_name("plain.mp4"), 50)
    turn_clockwise(plain, path)
    plain.unlink()


def _two_videos(path: Path) -> None:
    """The larger one first: decoders take the one with more pixels."""
    with av.open(str(path), "w") as container:
        streams = []
        for width, height in ((WIDTH, HEIGHT), (64, 48)):
            stream = container.add_stream("libx264", rate=24)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        for number in range(20):
            for stream, picture in zip(
                streams, (numbered_frame(number), np.zeros((48, 64, 3), np.uint8)), strict=True
            ):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())


def _with_audio(path: Path) -> None:
    """Sound, interleaved."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=24)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("aac", rate=48_000)
        for number in range(30):
            picture = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
            container.mux(video.encode(picture))
            samples = np.zeros((1, 2000), np.float32)
            sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = (
                48_000,
                2000 * number,
                Fraction(1, 48_000),
            )
            container.mux(audio.encode(sound))
        container.mux(video.encode())
        container.mux(audio.encode())


def _cut(path: Path) -> None:
    content = write_video(path, 60).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _cut_off(path: Path) -> None:
    """The index comes first; of the pictures there is the beginning of the first."""
    write_video(path, 60, container_options={"movflags": "faststart"})
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"mdat") + 104])


def _zeroed(path: Path) -> None:
    """The index is there, the pictures are gone."""
    content = bytearray(write_video(path, 60).read_bytes())
    at = content.index(b"mdat") + 4
    end = content.index(b"moov") - 4
    content[at:end] = bytes(end - at)
    path.write_bytes(content)


def _without_frames(path: Path) -> None:
    """A header of a stream that nothing follows."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        container.start_encoding()


def _claiming(path: Path, side: int) -> None:
    """A codec that takes its size from the container, whose header claims this one."""
    content = bytearray(write_video(path, 5, codec="huffyuv", pix_fmt="yuv422p").read_bytes())
    header = content.index(b"strf") + 8
    content[header + 4 : header + 12] = struct.pack("<ii", side, side)
    path.write_bytes(content)


def _edited(path: Path) -> None:
    """Cut without encoding again: an edit list hides what lies before the cut."""
    plain = write_video(path.with_name("unedited.mp4"), 50, options={"g": "25", "bf": "2"})
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None and packet.pts is not None and stream.time_base:
                shift = int(0.5 / stream.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = copy
                target.mux(packet)
    plain.unlink()


def _ten_hours(path: Path) -> None:
    write_video(path, 3, show_at=[0, 24, 24 * 36_000])


def _picture() -> Image.Image:
    return Image.fromarray(numbered_frame(5))


def _with_exif(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    _picture().save(path, quality=95, exif=exif)


def _animated(path: Path) -> None:
    pictures = [Image.fromarray(numbered_frame(number)) for number in (5, 6, 7)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])


def _cut_picture(path: Path) -> None:
    buffer = io.BytesIO()
    _picture().save(buffer, "JPEG", quality=95)
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])


def _png(width: int, height: int) -> bytes:
    """A PNG that claims a size; the rows are missing from a large one."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(min(height, 100) * (1 + min(width, 100) * 3)))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def _gif(width: int, height: int) -> bytes:
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    image = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00;"
    return b"GIF89a" + screen + image


if __name__ == "__main__":
    for kinds in (GOOD_VIDEOS, BAD_VIDEOS, GOOD_IMAGES, BAD_IMAGES):
        write_all(Path(sys.argv[1]), kinds)
