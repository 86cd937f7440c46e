from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from structlog.testing import capture_logs

from neva.errors import RowError
from neva.frames import frame_indices
from neva.media_rules import Decoder
from neva.reasons import Reason
from tests.worker.media.videos import (
    HEIGHT,
    WIDTH,
    broken_files,
    numbered_frame,
    read_numbers,
    turn_clockwise,
    write_video,
)
from worker.media import decode
from worker.media.decode import decord_is_installed, open_video, read_image
from worker.media.limits import MediaLimits

DECODERS: list[Decoder] = ["pyav", *(["decord"] if decord_is_installed() else [])]  # type: ignore[list-item]

needs_decord = pytest.mark.skipif(not decord_is_installed(), reason="decord is for x86-64 only")
each_decoder = pytest.mark.parametrize("decoder", DECODERS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Good videos of many kinds, by name."""
    folder = tmp_path_factory.mktemp("videos")
    written = {
        "plain": write_video(folder / "plain.mp4", 50),
        "many_b_frames": write_video(folder / "b.mp4", 70, options={"g": "12", "bf": "3"}),
        "open_gop": write_video(
            folder / "open.mp4", 70, options={"x264-params": "open-gop=1:keyint=12:bframes=3"}
        ),
        "hevc": write_video(
            folder / "h.mp4",
            70,
            codec="libx265",
            options={"x265-params": "keyint=24:bframes=3:log-level=none"},
        ),
        "matroska": write_video(folder / "m.mkv", 40),
        "webm": write_video(folder / "w.webm", 20, codec="libvpx-vp9"),
        "variable_rate": write_video(
            folder / "v.mp4", 33, show_at=[i + 9 * (i // 5) for i in range(33)]
        ),
        "odd_size": write_video(folder / "o.mp4", 20, width=130, height=98),
        "three_frames": write_video(folder / "three.mp4", 3),
    }
    written["turned"] = turn_clockwise(written["plain"], folder / "turned.mp4")
    return written


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return broken_files(tmp_path_factory.mktemp("broken"))


def clip_of(path: Path, decoder: Decoder, num_frames: int = 8) -> NDArray[np.uint8]:
    reader = open_video(path, decoder)
    try:
        return reader.get_frames(frame_indices(reader.num_frames, num_frames))
    finally:
        reader.close()


@each_decoder
@pytest.mark.parametrize(
    ("name", "num_in_file"),
    [
        ("plain", 50),
        ("many_b_frames", 70),
        ("open_gop", 70),
        ("hevc", 70),
        ("matroska", 40),
        ("webm", 20),
        ("variable_rate", 33),
        ("odd_size", 20),
        ("three_frames", 3),
    ],
)
def test_the_picked_frames_are_the_ones_that_were_painted(
    files: dict[str, Path], decoder: Decoder, name: str, num_in_file: int
) -> None:
    assert open_video(files[name], decoder).num_frames == num_in_file
    frames = clip_of(files[name], decoder)
    assert frames.dtype == np.uint8
    assert read_numbers(frames) == list(frame_indices(num_in_file, 8))


@each_decoder
def test_colours_are_red_green_blue(files: dict[str, Path], decoder: Decoder) -> None:
    pixel = clip_of(files["plain"], decoder)[0, HEIGHT - 8, WIDTH - 8].astype(int)
    assert np.abs(pixel - (60, 90, 140)).max() <= 4


@each_decoder
def test_frames_come_in_the_asked_order(files: dict[str, Path], decoder: Decoder) -> None:
    for name in ("many_b_frames", "open_gop"):
        reader = open_video(files[name], decoder)
        assert read_numbers(reader.get_frames([40, 3, 3, 69])) == [40, 3, 3, 69]
        assert read_numbers(reader.get_frames([10, 22])) == [10, 22]  # and again on the same reader


@each_decoder
def test_a_turned_video_is_shown_upright(files: dict[str, Path], decoder: Decoder) -> None:
    frames = clip_of(files["turned"], decoder)
    assert frames.shape == (8, WIDTH, HEIGHT, 3)
    turned_back = np.rot90(frames, axes=(1, 2))
    assert read_numbers(turned_back) == list(frame_indices(50, 8))


@needs_decord
def test_both_decoders_give_the_same_pixels(files: dict[str, Path]) -> None:
    for name, path in files.items():
        np.testing.assert_array_equal(clip_of(path, "decord"), clip_of(path, "pyav"), name)


@pytest.mark.parametrize("decoder", ["auto", *DECODERS])
@pytest.mark.parametrize(
    "name", ["empty", "text", "random", "without_index", "cut_off", "audio_only"]
)
def test_a_broken_file_is_the_rows_error(
    broken: dict[str, Path], name: str, decoder: Decoder
) -> None:
    with pytest.raises(RowError, match=rf"^{name}\.mp4 can't be read: \w+") as caught:
        clip_of(broken[name], decoder)
    assert caught.value.reason is Reason.MEDIA_UNREADABLE
    assert not caught.value.retryable
    assert str(broken[name].parent) not in caught.value.message
    assert "\n" not in caught.value.message


def test_a_missing_file_is_the_rows_error(tmp_path: Path) -> None:
    with pytest.raises(RowError, match="no such file") as caught:
        open_video(tmp_path / "gone.mp4")
    assert caught.value.reason is Reason.MEDIA_UNREADABLE


def test_without_decord_pyav_reads_and_the_log_says_so(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    decord_is_installed.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    try:
        with capture_logs() as events:
            video = open_video(files["plain"], "auto")
    finally:
        decord_is_installed.cache_clear()
    assert read_numbers(video.get_frames([0, 49])) == [0, 49]
    assert [event["event"] for event in events] == ["decord_missing"]
    assert video.decoder == "pyav"


class FailsWhileReading:
    """A decoder that opens the file and dies on the way."""

    def __init__(self, num_frames: int) -> None:
        self.num_frames = num_frames

    def get_frames(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        raise RowError("decord: lost its way", reason=Reason.MEDIA_UNREADABLE)

    def close(self) -> None: ...


@needs_decord
def test_pyav_takes_over_in_the_middle_of_a_file(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "_open_with_decord", lambda path, index: FailsWhileReading(50))
    video = open_video(files["plain"], "auto")
    assert video.decoder == "decord"
    assert read_numbers(video.get_frames([0, 49])) == [0, 49]
    assert video.decoder == "pyav"


@needs_decord
def test_pyav_does_not_take_over_when_it_counts_other_frames(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "_open_with_decord", lambda path, index: FailsWhileReading(49))
    with pytest.raises(RowError, match="lost its way"):
        clip_of(files["plain"], "auto")


def test_celerys_children_load_no_decoder() -> None:
    program = (
        "import sys, worker.consumer\n"
        "sys.exit(bool({'av', 'decord', 'torchcodec', 'torch'} & sys.modules.keys()))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


def test_an_image_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    picture = numbered_frame(5)
    Image.fromarray(picture).save(tmp_path / "five.png")
    np.testing.assert_array_equal(read_image(tmp_path / "five.png"), picture[None])


def test_an_image_is_made_rgb_and_not_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    Image.new("L", (20, 10), 200).save(tmp_path / "grey.jpg", exif=exif)
    frames = read_image(tmp_path / "grey.jpg")
    assert frames.shape == (1, 10, 20, 3)
    assert (frames == 200).all()


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_broken_image_is_the_rows_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(RowError, match=r"^bad\.png can't be read") as caught:
        read_image(tmp_path / "bad.png")
    assert caught.value.reason is Reason.MEDIA_UNREADABLE


def test_an_image_bomb_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "huge.png")
    with pytest.raises(RowError, match=r"huge\.png has 64x64; the limit is 100 pixels") as caught:
        read_image(tmp_path / "huge.png", limits=MediaLimits(max_pixels=100))
    assert caught.value.reason is Reason.MEDIA_TOO_LARGE


def test_an_image_is_turned_by_exif_when_the_job_says_so(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10), 200).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg", "applied").shape == (1, 20, 10, 3)


def test_a_turned_video_is_shown_as_stored_when_the_job_says_so(files: dict[str, Path]) -> None:
    video = open_video(files["turned"], rotation="stored")
    assert video.decoder == "pyav", "decord always turns"
    assert read_numbers(video.get_frames([0, 7, 49])) == [0, 7, 49]
