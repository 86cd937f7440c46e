"""CLIP's image preprocessing on decoded frames, with Pillow and numpy alone.

Equal to `CLIPImageProcessor` of Hugging Face transformers (Pillow backend) in every step and
rounding: resize the shorter edge (bicubic), crop the centre, scale to 0..1, normalise. The decoding
processes use it, and they must start fast and hold no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neva.model_profile import ModelProfile


@dataclass(frozen=True, slots=True)
class ClipPreprocessor:
    """Turns frames of any size into the tower's input.

    Attributes:
        shortest_edge: the shorter side is resized to this, pixels; at least both crop sides.
        crop_size: (height, width), pixels.
        mean, std: per channel, on a scale of 0 to 1.
    """

    shortest_edge: int
    crop_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """frames: (num_frames, height, width, 3) uint8 RGB -> (num_frames, 3, *crop_size)."""
        return np.stack([self._one(frame) for frame in frames])

    def _one(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = self._crop(self._resize(frame))
        # 64-bit scaling, then 32-bit normalising: the order of roundings of the original.
        unit = (pixels.astype(np.float64) * (1 / 255)).astype(np.float32)
        mean = np.asarray(self.mean, dtype=np.float32)
        std = np.asarray(self.std, dtype=np.float32)
        return np.ascontiguousarray(((unit - mean) / std).transpose(2, 0, 1))

    def _resize(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = frame.shape[:2]
        # The longer side is cut to whole pixels, not rounded.
        if height <= width:
            size = (int(self.shortest_edge * width / height), self.shortest_edge)
        else:
            size = (self.shortest_edge, int(self.shortest_edge * height / width))
        image = Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC)
        return np.asarray(image)

    def _crop(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        crop_height, crop_width = self.crop_size
        top = (pixels.shape[0] - crop_height) // 2
        left = (pixels.shape[1] - crop_width) // 2
        return pixels[top : top + crop_height, left : left + crop_width]


def from_profile(profile: ModelProfile) -> ClipPreprocessor:
    """The preprocessing that the model was trained with."""
    return ClipPreprocessor(
        shortest_edge=profile.resize_shortest_edge,
        crop_size=profile.crop_size,
        mean=profile.image_mean,
        std=profile.image_std,
    )
