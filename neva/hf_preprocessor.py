"""What a Hugging Face preprocessor_config.json asks for: CLIP's steps or SigLIP's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from neva.json_file import JsonFile, unsupported_model

ResizeMode = Literal["shortest-edge", "exact"]
Channels = tuple[float, float, float]

# The image processors' own defaults, which a file may leave out.
CLIP_MEAN: Final[Channels] = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Final[Channels] = (0.26862954, 0.26130258, 0.27577711)
SIGLIP_MEAN: Final[Channels] = (0.5, 0.5, 0.5)
SIGLIP_STD: Final[Channels] = (0.5, 0.5, 0.5)

_PIL_BICUBIC: Final = 3


@dataclass(frozen=True, slots=True)
class PreprocessorSteps:
    """Resize, crop and normalise.

    Attributes:
        resize_mode: "shortest-edge" resizes the shorter side and then crops the centre (CLIP);
            "exact" resizes to `crop_size`, whatever that does to the proportions (SigLIP).
        shortest_edge: pixels; with "exact" only the shorter side of `crop_size`.
        crop_size: (height, width) of the result, pixels.
        mean, std: per channel, on a scale of 0 to 1.
        pads: pictures are filled up to squares first (LlavaImageProcessor's `do_pad`).
    """

    resize_mode: ResizeMode
    shortest_edge: int
    crop_size: tuple[int, int]
    mean: Channels
    std: Channels
    pads: bool = False


def read_preprocessor(directory: Path) -> PreprocessorSteps:
    """Read preprocessor_config.json.

    Raises:
        ConfigError: INVALID_CHECKPOINT, a key is missing or wrong; UNSUPPORTED_MODEL, the file
            asks for other steps than these.
    """
    file = JsonFile.read(directory / "preprocessor_config.json")
    for switch in ("do_resize", "do_rescale", "do_normalize"):
        if file.data.get(switch, True) is not True:
            raise unsupported_model(f"{file.path}: {switch} is off; pictures need all the steps")
    if (resample := file.data.get("resample", _PIL_BICUBIC)) != _PIL_BICUBIC:
        raise unsupported_model(f"{file.path}: resample is {resample!r}, only 3 (bicubic) is known")
    if abs(float(file.data.get("rescale_factor", 1 / 255)) - 1 / 255) > 1e-9:
        raise unsupported_model(f"{file.path}: rescale_factor is not 1/255")

    is_siglip = str(file.data.get("image_processor_type", "")).startswith("Siglip")
    mean = file.three_floats("image_mean", SIGLIP_MEAN if is_siglip else CLIP_MEAN)
    std = file.three_floats("image_std", SIGLIP_STD if is_siglip else CLIP_STD)
    crops = file.data.get("do_center_crop", not is_siglip) is True
    pads = file.data.get("do_pad", False) is True
    size = file.data.get("size")
    if isinstance(size, Mapping) and "shortest_edge" not in size:
        resized = _height_and_width(file, "size")
        if crops and (crop := _height_and_width(file, "crop_size")) != resized:
            raise unsupported_model(
                f"{file.path}: size is {resized} and crop_size {crop}; a crop behind a resize of "
                "both sides is not known"
            )
        return PreprocessorSteps("exact", min(resized), resized, mean, std, pads)
    if not crops:
        raise unsupported_model(
            f"{file.path}: do_center_crop is off and size names no height and width, so that the "
            "result would have any shape"
        )
    shortest_edge = (
        size
        if isinstance(size, int)  # written by transformers before 4.24
        else file.section("size").integer("shortest_edge")
    )
    crop_size = _height_and_width(file, "crop_size")
    if shortest_edge < max(crop_size):
        raise unsupported_model(
            f"{file.path}: shortest_edge {shortest_edge} is smaller than the crop {crop_size}"
        )
    return PreprocessorSteps("shortest-edge", shortest_edge, crop_size, mean, std, pads)


def _height_and_width(file: JsonFile, key: str) -> tuple[int, int]:
    value = file.data.get(key)
    if isinstance(value, int):
        return (value, value)
    section = file.section(key)
    return (section.integer("height"), section.integer("width"))
