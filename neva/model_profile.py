"""What the rest of the project must know of a model before it loads a weight.

Read from the small JSON files of the model directory only, so the controller can refuse a job, and
count its tokens, without torch and without a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from neva.chat_template import CHAT_TEMPLATE, ChatTemplate
from neva.frames import SingleFrame
from neva.hf_chat_template import read_chat_template, read_special_texts
from neva.hf_preprocessor import ResizeMode, read_preprocessor
from neva.json_file import JsonFile, invalid_checkpoint, unsupported_model
from neva.markers import MediaMarkers
from neva.media_tokens import tokens_per_frame
from neva.templates import Template, get_template
from neva.tokens import Tokenizer

DEFAULT_VIDEO_FRAMES: Final = 8  # data.num_frames of NeMo's video_neva_config.yaml
DEFAULT_TEMPLATE: Final = "v1"

# Relatives of LLaVA with another architecture, which are often tried.
_FAMILIES: Final = {
    "video_llava": " (Video-LLaVA, whose videos go through a LanguageBind tower)",
    "llava_next": " (LLaVA-NeXT, which cuts pictures into tiles)",
    "llava_next_video": " (LLaVA-NeXT-Video, which pools its frames)",
    "llava_onevision": " (LLaVA-OneVision, which pools its frames)",
}

ImageAspectRatio = Literal["square", "pad", "keep"]
ColorOrder = Literal["rgb", "bgr"]


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """The shape of a model as seen from outside.

    Attributes:
        layout: "hf-llava" = a Hugging Face LLaVA directory, "nemo" = a NeMo 1 checkpoint.
        template: name of the prompt template (`neva.templates`), or "chat_template" for the
            model's own, whose text is in `chat_template`.
        context_tokens: positions of the language model, media and answer included.
        image_size: side of the square that the vision tower takes, pixels.
        patch_size: side of one patch, pixels.
        tokens_per_frame: visual tokens of one frame after feature selection.
        num_frames: frames taken of a video (an image is one frame); -1 = all, which no prompt of
            a fixed length can hold.
        image_token_id: the id that stands for one visual token in the prompt; with `markers` that
            of the patch token.
        eos_token_ids: ids that end an answer.
        bos_token_id: begin of sequence, if the model has one.
        add_bos: the model's own tokenizer puts `bos_token_id` before every text.
        vocab_size: rows of the embedding table.
        image_mean, image_std: per channel, on a scale of 0 to 1.
        resize_shortest_edge: the shorter side is resized to this, pixels.
        crop_size: (height, width) of the centre crop, pixels.
        resize_mode: "exact" resizes to `crop_size` and crops nothing (SigLIP).
        markers: tokens around the media in a NeMo checkpoint's prompts; None: no such tokens.
        use_im_start_end: the markers keep their own places beside the media's features.
        splice_single_frame: the one frame of a video that the model was trained to see.
        image_aspect_ratio: what happens to pictures that are no squares: "square" cuts the sides
            off, "pad" fills up, "keep" resizes to fit 448 x 224 pixels.
        color_order: channel order of the *videos* that the model was trained on.
        chat_template, special_texts: the model's own template and the (name, text) it may use.
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
    resize_mode: ResizeMode = "shortest-edge"
    markers: MediaMarkers | None = None
    use_im_start_end: bool = False
    splice_single_frame: SingleFrame | None = None
    image_aspect_ratio: ImageAspectRatio = "square"
    color_order: ColorOrder = "rgb"
    chat_template: str | None = None
    special_texts: tuple[tuple[str, str], ...] = ()


def template_of(profile: ModelProfile) -> Template:
    """How the model's conversations are written.

    Raises:
        ConfigError: UNSUPPORTED_MODEL, no such template, or one that can't be used.
    """
    if profile.template != CHAT_TEMPLATE:
        return get_template(profile.template)
    if profile.chat_template is None:
        raise unsupported_model("the model has no chat template of its own")
    texts = dict(profile.special_texts)
    ends = (texts["eos_token"],) if "eos_token" in texts else ()
    return ChatTemplate(profile.chat_template, texts, ends)


def read_model_profile(directory: Path) -> ModelProfile:
    """Read config.json, generation_config.json, preprocessor_config.json and tokenizer.json.

    Keys of Video NeVA that Hugging Face LLaVA does not know may stand in config.json:
    `num_frames` (8 without it, Video NeVA's default), `image_aspect_ratio` and `conv_template`.
    Without the last the model's own chat template is taken, and without one LLaVA-1.5's.

    Raises:
        ConfigError: INVALID_CHECKPOINT, a file or key is missing or has the wrong type;
            UNSUPPORTED_MODEL, the model is none that can be run here. Both name what it is.
    """
    config = JsonFile.read(directory / "config.json")
    if (model_type := config.data.get("model_type")) != "llava":
        raise unsupported_model(
            f"{config.path}: model_type is {model_type!r}{_FAMILIES.get(str(model_type), '')}; "
            "only 'llava' (LlavaForConditionalGeneration, LLaVA-1.5's architecture) and NeMo 1 "
            "checkpoints can be run"
        )
    text = config.section("text_config")
    vision = config.section("vision_config")
    generation = JsonFile.read_optional(directory / "generation_config.json")
    tokenizer = Tokenizer.from_directory(directory)
    steps = read_preprocessor(directory)

    image_size = vision.integer("image_size")
    patch_size = vision.integer("patch_size")
    if steps.crop_size != (image_size, image_size):
        height, width = steps.crop_size
        raise unsupported_model(
            f"{directory}: the preprocessor makes pictures of {height}x{width}, but the vision "
            f"tower takes {image_size}x{image_size}"
        )
    bos_token_id = text.optional_integer("bos_token_id")
    if bos_token_id is None:
        bos_token_id = generation.optional_integer("bos_token_id")
    add_bos = tokenizer.adds_bos
    if add_bos:
        # The tokenizer's own choice wins: llava-hf configs often leave the id out.
        bos_token_id = tokenizer.encode("a", add_special_tokens=True)[0]

    chat_template = read_chat_template(directory)
    return ModelProfile(
        layout="hf-llava",
        template=config.optional_text("conv_template")
        or (DEFAULT_TEMPLATE if chat_template is None else CHAT_TEMPLATE),
        context_tokens=text.integer("max_position_embeddings"),
        image_size=image_size,
        patch_size=patch_size,
        tokens_per_frame=_tokens_per_frame(config, vision, image_size, patch_size),
        num_frames=config.optional_integer("num_frames") or DEFAULT_VIDEO_FRAMES,
        image_token_id=_image_token_id(config, tokenizer),
        eos_token_ids=_eos_token_ids(generation, text),
        bos_token_id=bos_token_id,
        add_bos=add_bos,
        vocab_size=text.integer("vocab_size"),
        image_mean=steps.mean,
        image_std=steps.std,
        resize_shortest_edge=steps.shortest_edge,
        crop_size=steps.crop_size,
        resize_mode=steps.resize_mode,
        image_aspect_ratio=_image_aspect_ratio(config, steps.pads),
        chat_template=chat_template,
        special_texts=read_special_texts(directory),
    )


def _tokens_per_frame(config: JsonFile, vision: JsonFile, image_size: int, patch_size: int) -> int:
    """What the feature selection leaves of a frame's patches and the class token, if any."""
    num_patches = tokens_per_frame(image_size, patch_size)
    # SigLIP has no class token; "default" drops the first place whatever it is.
    has_class_token = not str(vision.data.get("model_type", "")).startswith("siglip")
    match config.data.get("vision_feature_select_strategy", "default"):
        case "default":
            return num_patches - (not has_class_token)
        case "full":
            return num_patches + has_class_token
        case other:
            raise unsupported_model(f"{config.path}: vision_feature_select_strategy is {other!r}")


def _image_aspect_ratio(config: JsonFile, pads: bool) -> ImageAspectRatio:
    match config.optional_text("image_aspect_ratio"):
        case "square" | "pad" | "keep" as ratio:
            return ratio
        case None:
            return "pad" if pads else "square"
        case other:
            raise unsupported_model(f"{config.path}: image_aspect_ratio is {other!r}")


def _image_token_id(config: JsonFile, tokenizer: Tokenizer) -> int:
    """`image_token_index` is the key's old name; both are written by one version or another."""
    for key in ("image_token_id", "image_token_index"):
        if (token_id := config.optional_integer(key)) is not None:
            break
    else:
        raise invalid_checkpoint(f"{config.path} has no image_token_id")
    if tokenizer.token_text(token_id) is None:
        raise invalid_checkpoint(
            f"{config.path}: the tokenizer knows no token {token_id} (image_token_id)"
        )
    return token_id


def _eos_token_ids(generation: JsonFile, text: JsonFile) -> tuple[int, ...]:
    for file in (generation, text):
        match file.data.get("eos_token_id"):
            case bool():
                pass
            case int(token_id):
                return (token_id,)
            case [int(), *_] as ids:
                return tuple(int(token_id) for token_id in ids)
    raise invalid_checkpoint(f"neither {generation.path} nor {text.path} says eos_token_id")
