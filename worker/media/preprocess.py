"""CLIP's and SigLIP's image preprocessing on decoded frames, with Pillow and numpy alone.

Equal to `CLIPImageProcessor` and `SiglipImageProcessor` of Hugging Face transformers (Pillow
backend) in every step and rounding. The decoding processes use it, and they must start fast and
hold no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neva.errors import RowError
from neva.media_rules import KEEP_LONGER_PX, KEEP_SHORTER_PX
from neva.model_profile import ModelProfile
from neva.reasons import Reason

Channels = tuple[float, float, float]


class Preprocessor(Protocol):
    """Turns frames of any size into the tower's input."""

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """frames: (num_frames, height, width, 3) uint8 -> (num_frames, 3, *the tower's size).

        Raises:
            RowError: WRONG_MEDIA_SHAPE, frames of this shape can't become the tower's input.
        """


@dataclass(frozen=True, slots=True)
class ClipPreprocessor:
    """Resize the shorter edge (bicubic), crop the centre, scale to 0..1, normalise.

    Attributes:
        shortest_edge: the shorter side is resized to this, pixels; at least both crop sides.
        crop_size: (height, width), pixels.
        mean, std: per channel, on a scale of 0 to 1.
    """

    shortest_edge: int
    crop_size: tuple[int, int]
    mean: Channels
    std: Channels

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.stack([self._one(frame) for frame in frames])

    def _one(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = self._crop(resize_shorter_side(frame, self.shortest_edge))
        return normalise(pixels, self.mean, self.std)

    def _crop(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        crop_height, crop_width = self.crop_size
        top = (pixels.shape[0] - crop_height) // 2
        left = (pixels.shape[1] - crop_width) // 2
        return pixels[top : top + crop_height, left : left + crop_width]


@dataclass(frozen=True, slots=True)
class SiglipPreprocessor:
    """Resize both sides (bicubic) whatever the proportions, scale to 0..1, normalise.

    Attributes:
        size: (height, width), pixels.
    """

    size: tuple[int, int]
    mean: Channels
    std: Channels

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        height, width = self.size
        return np.stack(
            [normalise(_resize(frame, width, height), self.mean, self.std) for frame in frames]
        )


@dataclass(frozen=True, slots=True)
class PaddingPreprocessor:
    """`image_aspect_ratio: pad`: fill up to a square around the picture, then `inner`.

    Attributes:
        fill: colour of the filling, 0..255 per channel.
    """

    inner: Preprocessor
    fill: tuple[int, int, int]

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.inner(pad_to_square(frames, self.fill))


@dataclass(frozen=True, slots=True)
class KeepingPreprocessor:
    """`image_aspect_ratio: keep`: resize in proportion, crop nothing.

    A tower with places for one size only takes square pictures then; any other is an error of its
    row. (In the reference it is the end of the whole run.)

    Attributes:
        tower_size: (height, width) that the tower takes, pixels.
    """

    tower_size: tuple[int, int]
    mean: Channels
    std: Channels

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        height, width = frames.shape[1:3]
        shorter_px = kept_shorter_side(height, width)
        pixels = [resize_shorter_side(frame, shorter_px) for frame in frames]
        found_height, found_width = pixels[0].shape[:2]
        if (found_height, found_width) != self.tower_size:
            raise RowError(
                f"image_aspect_ratio keep makes {found_height}x{found_width} of the picture "
                f"({height}x{width}), but the model's vision tower takes "
                f"{self.tower_size[0]}x{self.tower_size[1]}",
                reason=Reason.WRONG_MEDIA_SHAPE,
            )
        return np.stack([normalise(frame, self.mean, self.std) for frame in pixels])


def kept_shorter_side(height: int, width: int) -> int:
    """To how many pixels `keep` resizes the shorter side (NeMo v2.0.0rc0's rule, from LLaVA)."""
    aspect = max(height, width) / min(height, width)
    return int(min(KEEP_LONGER_PX / aspect, KEEP_SHORTER_PX))


def pad_to_square(frames: NDArray[np.uint8], fill: tuple[int, int, int]) -> NDArray[np.uint8]:
    """frames: (num_frames, height, width, 3) -> the same in the middle of a square."""
    num_frames, height, width, _ = frames.shape
    side = max(height, width)
    padded = np.empty((num_frames, side, side, 3), np.uint8)
    padded[:] = fill
    top, left = (side - height) // 2, (side - width) // 2
    padded[:, top : top + height, left : left + width] = frames
    return padded


def resize_shorter_side(frame: NDArray[np.uint8], shorter_px: int) -> NDArray[np.uint8]:
    """(height, width, 3) -> the same in proportion, its shorter side `shorter_px`."""
    height, width = frame.shape[:2]
    # The longer side is cut to whole pixels, not rounded.
    if height <= width:
        return _resize(frame, int(shorter_px * width / height), shorter_px)
    return _resize(frame, shorter_px, int(shorter_px * height / width))


def normalise(pixels: NDArray[np.uint8], mean: Channels, std: Channels) -> NDArray[np.float32]:
    """(height, width, 3) -> (3, height, width)"""
    # 64-bit scaling, then 32-bit normalising: the order of roundings of the original.
    unit = (pixels.astype(np.float64) * (1 / 255)).astype(np.float32)
    shifted = unit - np.asarray(mean, dtype=np.float32)
    return np.ascontiguousarray((shifted / np.asarray(std, dtype=np.float32)).transpose(2, 0, 1))


def _resize(frame: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    image = Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


def from_profile(profile: ModelProfile) -> Preprocessor:
    """The preprocessing that the model was trained with."""
    mean, std = profile.image_mean, profile.image_std
    if profile.image_aspect_ratio == "keep":
        return KeepingPreprocessor(profile.crop_size, mean, std)
    inner: Preprocessor
    if profile.resize_mode == "exact":
        inner = SiglipPreprocessor(profile.crop_size, mean, std)
    else:
        inner = ClipPreprocessor(profile.resize_shortest_edge, profile.crop_size, mean, std)
    if profile.image_aspect_ratio == "pad":
        red, green, blue = (int(value * 255) for value in mean)
        return PaddingPreprocessor(inner, (red, green, blue))
    return inner
