"""What the rest of the project must know of a model before it loads a weight.

Read from the small JSON files of the model directory only, so the controller can refuse a job, and
count its tokens, without torch and without a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from neva.errors import ConfigError
from neva.reasons import Reason
from neva.tokens import Tokenizer

DEFAULT_VIDEO_FRAMES: Final = 8  # data.num_frames of NeMo's video_neva_config.yaml
_PIL_BICUBIC: Final = 3

# CLIPImageProcessor's own defaults, which a preprocessor_config.json may leave out.
_CLIP_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD: Final = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """The shape of a model as seen from outside.

    Attributes:
        layout: "hf-llava" = a Hugging Face LLaVA directory, "nemo" = a NeMo 1 checkpoint.
        template: name of the prompt template (`neva.templates`).
        context_tokens: positions of the language model, media and answer included.
        image_size: side of the square that the vision tower takes, pixels.
        patch_size: side of one patch, pixels.
        tokens_per_frame: visual tokens of one frame after feature selection.
        num_frames: frames taken of a video (an image is one frame).
        image_token_id: the id that stands for one visual token in the prompt.
        eos_token_ids: ids that end an answer.
        bos_token_id: begin of sequence, if the model has one.
        add_bos: the model's own tokenizer puts `bos_token_id` before every text.
        vocab_size: rows of the embedding table.
        image_mean, image_std: per channel, on a scale of 0 to 1.
        resize_shortest_edge: the shorter side is resized to this, pixels.
        crop_size: (height, width) of the centre crop, pixels.
    """

    layout: Literal["hf-llava", "nemo"]
    template: str
    context_tokens: int
    image_size: int
    patch_size: int
    tokens_per_frame: int
    num_frames: int
    image_token_id: int
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None
    add_bos: bool
    vocab_size: int
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    resize_shortest_edge: int
    crop_size: tuple[int, int]


def read_model_profile(directory: Path) -> ModelProfile:
    """Read config.json, generation_config.json, preprocessor_config.json and tokenizer.json.

    `num_frames` is an optional key of config.json (Hugging Face LLaVA knows no video); without it
    the model takes 8 frames, Video NeVA's default.

    Raises:
        ConfigError: INVALID_CHECKPOINT, a file or key is missing or has the wrong type;
            UNSUPPORTED_MODEL, the model is none that can be run here. Both name what it is.
    """
    config = _JsonFile.read(directory / "config.json")
    if (model_type := config.data.get("model_type")) != "llava":
        raise _unsupported(f"{config.path}: model_type is {model_type!r}, only 'llava' is known")
    text = config.section("text_config")
    vision = config.section("vision_config")
    generation = _JsonFile.read_optional(directory / "generation_config.json")
    tokenizer = Tokenizer.from_directory(directory)
    resize_shortest_edge, crop_size, mean, std = _read_preprocessor(directory)

    image_size = vision.integer("image_size")
    patch_size = vision.integer("patch_size")
    if crop_size != (image_size, image_size):
        raise _unsupported(
            f"{directory}: the preprocessor crops to {crop_size[0]}x{crop_size[1]}, but the vision "
            f"tower takes {image_size}x{image_size}"
        )
    bos_token_id = text.optional_integer("bos_token_id")
    if bos_token_id is None:
        bos_token_id = generation.optional_integer("bos_token_id")
    add_bos = tokenizer.adds_bos
    if add_bos:
        # The tokenizer's own choice wins: llava-hf configs often leave the id out.
        bos_token_id = tokenizer.encode("a", add_special_tokens=True)[0]

    return ModelProfile(
        layout="hf-llava",
        template="v1",
        context_tokens=text.integer("max_position_embeddings"),
        image_size=image_size,
        patch_size=patch_size,
        tokens_per_frame=_tokens_per_frame(config, image_size, patch_size),
        num_frames=config.optional_integer("num_frames") or DEFAULT_VIDEO_FRAMES,
        image_token_id=_image_token_id(config, tokenizer),
        eos_token_ids=_eos_token_ids(generation, text),
        bos_token_id=bos_token_id,
        add_bos=add_bos,
        vocab_size=text.integer("vocab_size"),
        image_mean=mean,
        image_std=std,
        resize_shortest_edge=resize_shortest_edge,
        crop_size=crop_size,
    )


def _read_preprocessor(
    directory: Path,
) -> tuple[int, tuple[int, int], tuple[float, float, float], tuple[float, float, float]]:
    """(shortest edge, crop (height, width), mean, std) of a CLIP-style preprocessor."""
    file = _JsonFile.read(directory / "preprocessor_config.json")
    for switch in ("do_resize", "do_center_crop", "do_rescale", "do_normalize"):
        if file.data.get(switch, True) is not True:
            raise _unsupported(f"{file.path}: {switch} is off; only the full CLIP steps are known")
    if (resample := file.data.get("resample", _PIL_BICUBIC)) != _PIL_BICUBIC:
        raise _unsupported(f"{file.path}: resample is {resample!r}, only 3 (bicubic) is known")
    if abs(float(file.data.get("rescale_factor", 1 / 255)) - 1 / 255) > 1e-9:
        raise _unsupported(f"{file.path}: rescale_factor is not 1/255")

    size = file.data.get("size")
    if isinstance(size, Mapping) and "shortest_edge" not in size:
        raise _unsupported(f"{file.path}: size is {dict(size)}, only shortest_edge is known")
    shortest_edge = (
        size
        if isinstance(size, int)  # written by transformers before 4.24
        else file.section("size").integer("shortest_edge")
    )
    crop = file.data.get("crop_size")
    if isinstance(crop, int):
        crop_size = (crop, crop)
    else:
        section = file.section("crop_size")
        crop_size = (section.integer("height"), section.integer("width"))
    if shortest_edge < max(crop_size):
        raise _unsupported(
            f"{file.path}: shortest_edge {shortest_edge} is smaller than the crop {crop_size}"
        )
    return (
        shortest_edge,
        crop_size,
        file.three_floats("image_mean", _CLIP_MEAN),
        file.three_floats("image_std", _CLIP_STD),
    )


def _tokens_per_frame(config: _JsonFile, image_size: int, patch_size: int) -> int:
    """Patches of one frame, plus the class token where the model keeps it."""
    if patch_size < 1 or image_size < patch_size:
        raise _unsupported(f"{config.path}: patch_size {patch_size} of image_size {image_size}")
    num_patches = (image_size // patch_size) ** 2
    match config.data.get("vision_feature_select_strategy", "default"):
        case "default":
            return num_patches
        case "full":
            return num_patches + 1
        case other:
            raise _unsupported(f"{config.path}: vision_feature_select_strategy is {other!r}")


def _image_token_id(config: _JsonFile, tokenizer: Tokenizer) -> int:
    """`image_token_index` is the key's old name; both are written by one version or another."""
    for key in ("image_token_id", "image_token_index"):
        if (token_id := config.optional_integer(key)) is not None:
            break
    else:
        raise _invalid(f"{config.path} has no image_token_id")
    if tokenizer.token_text(token_id) is None:
        raise _invalid(f"{config.path}: the tokenizer knows no token {token_id} (image_token_id)")
    return token_id


def _eos_token_ids(generation: _JsonFile, text: _JsonFile) -> tuple[int, ...]:
    for file in (generation, text):
        match file.data.get("eos_token_id"):
            case bool():
                pass
            case int(token_id):
                return (token_id,)
            case [int(), *_] as ids:
                return tuple(int(token_id) for token_id in ids)
    raise _invalid(f"neither {generation.path} nor {text.path} says eos_token_id")


@dataclass(frozen=True, slots=True)
class _JsonFile:
    """A JSON object and where it came from, so that every complaint names the file and key."""

    path: str
    data: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> _JsonFile:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise _invalid(f"the model directory {path.parent} has no {path.name}") from error
        except (OSError, ValueError) as error:
            raise _invalid(f"{path} can't be read as JSON: {error}") from error
        if not isinstance(data, dict):
            raise _invalid(f"{path} holds no JSON object")
        return cls(str(path), data)

    @classmethod
    def read_optional(cls, path: Path) -> _JsonFile:
        return cls.read(path) if path.exists() else cls(str(path), {})

    def section(self, key: str) -> _JsonFile:
        value = self.data.get(key)
        if not isinstance(value, dict):
            raise _invalid(f"{self.path} has no object {key!r}")
        return _JsonFile(f"{self.path}: {key}", value)

    def optional_integer(self, key: str) -> int | None:
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise _invalid(f"{self.path}: {key} must be an integer, not {value!r}")
        return value

    def integer(self, key: str) -> int:
        value = self.optional_integer(key)
        if value is None:
            raise _invalid(f"{self.path} has no {key!r}")
        return value

    def three_floats(
        self, key: str, default: tuple[float, float, float]
    ) -> tuple[float, float, float]:
        match self.data.get(key, default):
            case [int() | float() as red, int() | float() as green, int() | float() as blue]:
                return (float(red), float(green), float(blue))
            case other:
                raise _invalid(f"{self.path}: {key} must be three numbers, not {other!r}")


def _invalid(message: str) -> ConfigError:
    return ConfigError(message, reason=Reason.INVALID_CHECKPOINT)


def _unsupported(message: str) -> ConfigError:
    return ConfigError(message, reason=Reason.UNSUPPORTED_MODEL)
