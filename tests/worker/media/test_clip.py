"""Which frames reach the tower, in which colours."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from neva.media_rules import MediaRules
from neva.model_profile import ColorOrder
from tests.neva.test_row_prompt import NEMO
from tests.worker.media.videos import read_numbers, write_solid_video, write_video
from worker.media import clip
from worker.media.clip import Clip, frame_strip, read_clip, shown_frames, thumbnail_size
from worker.media.limits import MediaLimits
from worker.media.preprocess import Preprocessor, from_profile

VIDEO = MediaRules("video", 8, None, "rgb")
IMAGE = MediaRules("image", 1, None, "rgb")


def raw_pixels(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Instead of the tower's preprocessing: the colours as they came."""
    return frames.astype(np.float32).transpose(0, 3, 1, 2)


def read(path: Path, rules: MediaRules = VIDEO, preprocess: Preprocessor = raw_pixels) -> Clip:
    return read_clip(path, rules, preprocess, MediaLimits())


def test_the_colours_of_a_video_are_reversed_on_request(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 8)
    as_they_are = read(path).pixels
    reversed_ones = read(path, replace(VIDEO, color_order="bgr")).pixels
    assert as_they_are.shape[:2] == (8, 3)
    np.testing.assert_array_equal(reversed_ones, as_they_are[:, ::-1])
    assert as_they_are[0, 2, -1, -1] > as_they_are[0, 0, -1, -1], "the clip's ground is blue"


@pytest.mark.parametrize(("place", "index"), [("first", 0), ("middle", 15), ("last", 29)])
def test_a_single_frame_is_all_that_is_shown(tmp_path: Path, place: str, index: int) -> None:
    path = write_video(tmp_path / "a.mp4", 30)
    media = read(path, MediaRules("video", 1, place, "rgb"))  # type: ignore[arg-type]
    assert media.frames == (index,)
    assert media.pixels.shape[0] == 1


def test_a_short_video_repeats_its_last_frame(tmp_path: Path) -> None:
    media = read(write_video(tmp_path / "a.mp4", 3))
    assert media.frames == (0, 1, 2, 2, 2, 2, 2, 2)
    shown = media.pixels.transpose(0, 2, 3, 1).astype(np.uint8)
    assert read_numbers(shown) == list(media.frames)


def test_many_large_frames_are_taken_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", 20)
    whole = read(path)
    monkeypatch.setattr(clip, "_MAX_HELD_BYTES", 1)
    piecewise = read(path)
    np.testing.assert_array_equal(piecewise.pixels, whole.pixels)
    assert piecewise.strip == whole.strip


def test_an_image_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (250, 10, 9)).save(tmp_path / "a.png")
    media = read(tmp_path / "a.png", IMAGE)
    assert media.frames == (0,)
    assert media.decoder == "pillow"
    assert media.pixels.shape == (1, 3, 10, 20)
    assert media.pixels[0, :, 0, 0].tolist() == [250, 10, 9]


@pytest.mark.parametrize(
    ("color_order", "expected"), [("bgr", (8, 9, 248)), ("rgb", (248, 9, 8))], ids=["rc0", "rc1"]
)
def test_a_red_video_reaches_the_tower_in_the_originals_colours(
    tmp_path: Path, color_order: ColorOrder, expected: tuple[int, int, int]
) -> None:
    """Values of the original; which ones a codec gives differs a little."""
    path = write_solid_video(tmp_path / "red.mp4", 8, (250, 10, 10))
    pixels = read(path, replace(VIDEO, color_order=color_order)).pixels
    for channel, value in enumerate(expected):
        np.testing.assert_allclose(pixels[:, channel], value, atol=4)


def test_eight_frames_and_one_image_have_the_originals_shapes(tmp_path: Path) -> None:
    """(1, 1, frames, 3, 224, 224) there; the leading ones are always 1."""
    path = write_video(tmp_path / "a.mp4", 30)
    Image.new("RGB", (320, 240), (255, 255, 255)).save(tmp_path / "a.png")
    assert read(path, preprocess=from_profile(NEMO)).pixels.shape == (8, 3, 224, 224)
    picture = read(tmp_path / "a.png", IMAGE, from_profile(NEMO))
    assert picture.pixels.shape == (1, 3, 224, 224)


@pytest.mark.parametrize("num_frames", [1, 8, 1024])
def test_a_strip_is_a_picture_however_many_frames(num_frames: int) -> None:
    size = thumbnail_size(9, 16)
    shown = shown_frames(num_frames, size[0])
    strip = frame_strip([Image.new("RGB", size)] * len(shown))
    picture = Image.open(io.BytesIO(strip))
    assert picture.height == 96
    assert picture.width <= 16_384
    assert {0, num_frames - 1} <= shown
