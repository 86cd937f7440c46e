from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

from neva.errors import RowError
from neva.reasons import Reason
from tests.neva.test_row_prompt import NEMO
from worker.media.preprocess import (
    ClipPreprocessor,
    KeepingPreprocessor,
    SiglipPreprocessor,
    from_profile,
    kept_shorter_side,
    pad_to_square,
)

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
CLIP_224 = ClipPreprocessor(224, (224, 224), MEAN, STD)


def solid(rgb: tuple[int, int, int], width: int = 320, height: int = 240) -> NDArray[np.uint8]:
    return np.full((1, height, width, 3), rgb, np.uint8)


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ((255, 255, 255), (1.9303, 2.0749, 2.1459)),
        ((0, 0, 0), (-1.7923, -1.7521, -1.4802)),
    ],
)
def test_solid_pictures_give_the_references_values(
    rgb: tuple[int, int, int], expected: tuple[float, float, float]
) -> None:
    pixels = CLIP_224(solid(rgb))
    assert pixels.shape == (1, 3, 224, 224)
    assert pixels.dtype == np.float32
    for channel, value in zip(pixels[0], expected, strict=True):
        np.testing.assert_allclose(channel, value, atol=5e-5)


@pytest.mark.parametrize("grey", [1, 64, 127, 128, 200, 254])
def test_greys_are_scaled_and_normalised_per_channel(grey: int) -> None:
    pixels = CLIP_224(solid((grey, grey, grey)))
    expected = (grey / 255 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(pixels[0].mean((1, 2)), expected, rtol=1e-5)


def test_channels_stay_red_green_blue() -> None:
    pixels = CLIP_224(solid((248, 9, 8)))
    assert pixels[0, 0, 0, 0] > 1.8
    assert pixels[0, 1:, 0, 0].max() < -1.3


def test_the_sides_of_a_wide_picture_are_cut_off() -> None:
    frames = solid((0, 0, 0), width=400, height=200)
    frames[:, :, 100:300] = 255
    pixels = ClipPreprocessor(64, (64, 64), MEAN, STD)(frames)
    assert pixels[0, 0, :, 2:-2].min() > 1.5


def test_a_clip_keeps_the_order_of_its_frames() -> None:
    clip = np.concatenate([solid((level, level, level)) for level in (10, 200, 90)])
    pixels = CLIP_224(clip)
    assert pixels.shape == (3, 3, 224, 224)
    assert pixels[:, 0, 0, 0].argsort().tolist() == [0, 2, 1]


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(4, 300),
    height=st.integers(4, 300),
    size=st.sampled_from([32, 64, 97]),
    seed=st.integers(0, 2**32 - 1),
)
def test_equal_to_hugging_faces_clip_processor(
    width: int, height: int, size: int, seed: int
) -> None:
    frames = np.random.default_rng(seed).integers(0, 256, (2, height, width, 3), np.uint8)
    theirs = CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    )
    expected = theirs(list(frames), return_tensors="np", input_data_format="channels_last")
    ours = ClipPreprocessor(size, (size, size), MEAN, STD)(frames)
    np.testing.assert_array_equal(ours, expected["pixel_values"])


# ---- SigLIP ----

HALF = (0.5, 0.5, 0.5)


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(4, 300),
    height=st.integers(4, 300),
    size=st.sampled_from([32, 64, 97]),
    seed=st.integers(0, 2**32 - 1),
)
def test_equal_to_hugging_faces_siglip_processor(
    width: int, height: int, size: int, seed: int
) -> None:
    frames = np.random.default_rng(seed).integers(0, 256, (2, height, width, 3), np.uint8)
    theirs = SiglipImageProcessorPil(size={"height": size, "width": size})
    expected = theirs(list(frames), return_tensors="np", input_data_format="channels_last")
    ours = SiglipPreprocessor((size, size), HALF, HALF)(frames)
    np.testing.assert_array_equal(ours, expected["pixel_values"])


# ---- image_aspect_ratio ----


def test_padding_puts_a_wide_clip_in_the_middle_of_the_mean_colour() -> None:
    pixels = from_profile(replace(NEMO, image_aspect_ratio="pad", image_mean=MEAN, image_std=STD))(
        solid((255, 255, 255), width=448, height=224)
    )
    assert pixels.shape == (1, 3, 224, 224)
    top, middle, bottom = pixels[0, :, 0], pixels[0, :, 112], pixels[0, :, -1]
    np.testing.assert_allclose(middle[0], 1.9303, atol=5e-5)
    for edge in (top, bottom):
        for channel, value in enumerate((122, 116, 104)):
            expected = (value / 255 - MEAN[channel]) / STD[channel]
            np.testing.assert_allclose(edge[channel], expected, atol=1e-5)


@given(
    width=st.integers(1, 50),
    height=st.integers(1, 50),
    num_frames=st.integers(1, 3),
)
def test_padding_loses_nothing_and_centres_by_floor_division(
    width: int, height: int, num_frames: int
) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (num_frames, height, width, 3), np.uint8)
    padded = pad_to_square(frames, (122, 116, 104))
    side = max(width, height)
    top, left = (side - height) // 2, (side - width) // 2
    assert padded.shape == (num_frames, side, side, 3)
    np.testing.assert_array_equal(padded[:, top : top + height, left : left + width], frames)
    outside = np.ones((side, side), bool)
    outside[top : top + height, left : left + width] = False
    assert (padded[:, outside] == (122, 116, 104)).all()


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(100, 100, 224), (200, 400, 224), (100, 400, 112)]
)
def test_keep_fits_pictures_into_448_by_224(height: int, width: int, expected: int) -> None:
    assert kept_shorter_side(height, width) == kept_shorter_side(width, height) == expected


def test_keep_takes_squares_and_refuses_what_the_tower_has_no_places_for() -> None:
    keep = from_profile(replace(NEMO, image_aspect_ratio="keep"))
    assert isinstance(keep, KeepingPreprocessor)
    assert keep(solid((1, 2, 3), width=300, height=300)).shape == (1, 3, 224, 224)
    with pytest.raises(RowError, match=r"224x298 .* takes 224x224") as caught:
        keep(solid((1, 2, 3), width=320, height=240))
    assert caught.value.reason is Reason.WRONG_MEDIA_SHAPE


def test_a_checkpoint_says_which_steps_it_was_trained_with() -> None:
    assert isinstance(from_profile(NEMO), ClipPreprocessor)
    assert isinstance(from_profile(replace(NEMO, resize_mode="exact")), SiglipPreprocessor)
