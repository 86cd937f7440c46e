from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import CLIPImageProcessorPil

from worker.media.preprocess import ClipPreprocessor

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
