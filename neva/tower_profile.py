"""What must be known of a vision tower's own directory before its weights are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neva.errors import ConfigError
from neva.model_profile import _CLIP_MEAN as CLIP_MEAN
from neva.model_profile import _CLIP_STD as CLIP_STD
from neva.model_profile import _JsonFile as JsonFile
from neva.model_profile import _read_preprocessor as read_preprocessor
from neva.reasons import Reason


@dataclass(frozen=True, slots=True)
class TowerProfile:
    """A vision tower's own directory, as seen from outside. Attributes as of `ModelProfile`."""

    model_type: str
    hidden_size: int
    image_size: int
    patch_size: int
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    resize_shortest_edge: int
    crop_size: tuple[int, int]


def read_tower_profile(directory: Path) -> TowerProfile:
    """Read config.json and preprocessor_config.json of a CLIP directory, whole or tower alone.

    Without preprocessor_config.json the statistics and sizes are CLIP's own.

    Raises:
        ConfigError: INVALID_CHECKPOINT, UNSUPPORTED_MODEL.
    """
    config = JsonFile.read(directory / "config.json")
    vision = config if "vision_config" not in config.data else config.section("vision_config")
    image_size = vision.integer("image_size")
    edge, crop, mean, std = image_size, (image_size, image_size), CLIP_MEAN, CLIP_STD
    if (directory / "preprocessor_config.json").exists():
        edge, crop, mean, std = read_preprocessor(directory)
    if crop != (image_size, image_size):
        raise ConfigError(
            f"{directory}: the preprocessor crops to {crop[0]}x{crop[1]}, but the vision tower "
            f"takes {image_size}x{image_size}",
            reason=Reason.UNSUPPORTED_MODEL,
        )
    return TowerProfile(
        model_type=str(vision.data.get("model_type", config.data.get("model_type"))),
        hidden_size=vision.integer("hidden_size"),
        image_size=image_size,
        patch_size=vision.integer("patch_size"),
        image_mean=mean,
        image_std=std,
        resize_shortest_edge=edge,
        crop_size=crop,
    )
