"""Which frames reach the tower, in which colours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from neva.media_rules import MediaRules
from neva.model_profile import ColorOrder
from neva.store import open_store
from tests.neva.test_row_prompt import NEMO
from tests.worker.media.videos import write_solid_video, write_video
from worker.media.prepare import MediaPreparer, PreparedMedia
from worker.media.preprocess import from_profile

VIDEO = MediaRules("video", 8, None, "rgb")


def raw_pixels(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Instead of the tower's preprocessing: the colours as they came."""
    return frames.astype(np.float32).transpose(0, 3, 1, 2)


@pytest.fixture
def preparer(tmp_path: Path) -> MediaPreparer:
    for name in ("media", "out", "pixels"):
        (tmp_path / name).mkdir()
    return MediaPreparer(
        media=open_store(str(tmp_path / "media")),
        output=open_store(str(tmp_path / "out")),
        preprocess=raw_pixels,
        rules=VIDEO,
        downloads_dir=tmp_path,
        pixels_dir=tmp_path / "pixels",
    )


def pixels_of(media: PreparedMedia) -> NDArray[np.float32]:
    return np.fromfile(media.ref.path, np.float32).reshape(media.ref.shape)


def test_the_colours_of_a_video_are_reversed_on_request(
    preparer: MediaPreparer, tmp_path: Path
) -> None:
    write_video(tmp_path / "media" / "a.mp4", 8)
    as_they_are = pixels_of(preparer.prepare("a.mp4"))
    reversed_ones = replace(preparer, rules=replace(VIDEO, color_order="bgr")).prepare("a.mp4")
    assert as_they_are.shape[:2] == (8, 3)
    np.testing.assert_array_equal(pixels_of(reversed_ones), as_they_are[:, ::-1])
    assert as_they_are[0, 2, -1, -1] > as_they_are[0, 0, -1, -1], "the clip's ground is blue"


@pytest.mark.parametrize(("place", "index"), [("first", 0), ("middle", 15), ("last", 29)])
def test_a_single_frame_is_all_that_is_shown(
    preparer: MediaPreparer, tmp_path: Path, place: str, index: int
) -> None:
    write_video(tmp_path / "media" / "a.mp4", 30)
    rules = MediaRules("video", 1, place, "rgb")  # type: ignore[arg-type]
    media = replace(preparer, rules=rules).prepare("a.mp4")
    assert media.frames == (index,)
    assert media.ref.shape[0] == 1


def test_an_image_is_a_clip_of_one_frame(preparer: MediaPreparer, tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (250, 10, 9)).save(tmp_path / "media" / "a.png")
    media = replace(preparer, rules=MediaRules("image", 1, None, "rgb")).prepare("a.png")
    assert media.frames == (0,)
    assert media.ref.shape == (1, 3, 10, 20)
    assert pixels_of(media)[0, :, 0, 0].tolist() == [250, 10, 9]


@pytest.mark.parametrize(
    ("color_order", "expected"), [("bgr", (8, 9, 248)), ("rgb", (248, 9, 8))], ids=["rc0", "rc1"]
)
def test_a_red_video_reaches_the_tower_in_the_originals_colours(
    preparer: MediaPreparer,
    tmp_path: Path,
    color_order: ColorOrder,
    expected: tuple[int, int, int],
) -> None:
    """Values of the original; which ones a codec gives differs a little."""
    write_solid_video(tmp_path / "media" / "red.mp4", 8, (250, 10, 10))
    rules = replace(VIDEO, color_order=color_order)
    pixels = pixels_of(replace(preparer, rules=rules).prepare("red.mp4"))
    for channel, value in enumerate(expected):
        np.testing.assert_allclose(pixels[:, channel], value, atol=4)


def test_eight_frames_and_one_image_have_the_originals_shapes(
    preparer: MediaPreparer, tmp_path: Path
) -> None:
    """(1, 1, frames, 3, 224, 224) there; the leading ones are always 1."""
    write_video(tmp_path / "media" / "a.mp4", 30)
    Image.new("RGB", (320, 240), (255, 255, 255)).save(tmp_path / "media" / "a.png")
    at_224 = replace(preparer, preprocess=from_profile(NEMO))
    assert at_224.prepare("a.mp4").ref.shape == (8, 3, 224, 224)
    image_rules = MediaRules("image", 1, None, "rgb")
    assert replace(at_224, rules=image_rules).prepare("a.png").ref.shape == (1, 3, 224, 224)
