"""What must be known of a vision tower's own directory before its weights are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neva.errors import ConfigError
from neva.hf_preprocessor import (
    CLIP_MEAN,
    CLIP_STD,
    SIGLIP_MEAN,
    SIGLIP_STD,
    PreprocessorSteps,
    ResizeMode,
    read_preprocessor,
)
from neva.json_file import JsonFile
from neva.reasons import Reason

_TOWERS = ("clip", "clip_vision_model", "siglip", "siglip_vision_model")


@dataclass(frozen=True, slots=True)
class TowerProfile:
    """A vision tower's own directory, as seen from outside. Attributes as of `ModelProfile`."""

    hidden_size: int
    image_size: int
    patch_size: int
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    resize_mode: ResizeMode
    resize_shortest_edge: int
    crop_size: tuple[int, int]


def read_tower_profile(directory: Path) -> TowerProfile:
    """Read config.json and preprocessor_config.json of a CLIP or SigLIP, whole or tower alone.

    Without preprocessor_config.json the statistics and steps are CLIP's or SigLIP's own.

    Raises:
        ConfigError: INVALID_CHECKPOINT, UNSUPPORTED_MODEL.
    """
    config = JsonFile.read(directory / "config.json")
    vision = config if "vision_config" not in config.data else config.section("vision_config")
    image_size = vision.integer("image_size")
    square = (image_size, image_size)
    kind = config.data.get("model_type")
    if kind not in _TOWERS:
        raise ConfigError(
            f"{config.path}: model_type is {kind!r}, only {', '.join(_TOWERS)} can be the tower",
            reason=Reason.UNSUPPORTED_MODEL,
        )
    steps = PreprocessorSteps("shortest-edge", image_size, square, CLIP_MEAN, CLIP_STD)
    if kind.startswith("siglip"):
        steps = PreprocessorSteps("exact", image_size, square, SIGLIP_MEAN, SIGLIP_STD)
    if (directory / "preprocessor_config.json").exists():
        steps = read_preprocessor(directory)
    if steps.crop_size != square:
        height, width = steps.crop_size
        raise ConfigError(
            f"{directory}: the preprocessor crops to {height}x{width}, but the vision tower "
            f"takes {image_size}x{image_size}",
            reason=Reason.UNSUPPORTED_MODEL,
        )
    return TowerProfile(
        hidden_size=vision.integer("hidden_size"),
        image_size=image_size,
        patch_size=vision.integer("patch_size"),
        image_mean=steps.mean,
        image_std=steps.std,
        resize_mode=steps.resize_mode,
        resize_shortest_edge=steps.shortest_edge,
        crop_size=steps.crop_size,
    )
