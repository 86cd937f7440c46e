"""The `ModelProfile` of a NeMo checkpoint: model_config.yaml, its tokenizer, the tower's files.

A section `neva_batch` of model_config.yaml, written by `neva convert`, keeps what a Hugging Face
directory says and NeMo's own keys can't: the placeholder, the ends, whether BOS is added.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from neva.archive import Archive
from neva.errors import ConfigError
from neva.frames import SingleFrame
from neva.markers import markers_for
from neva.model_profile import (
    DEFAULT_VIDEO_FRAMES,
    ColorOrder,
    ImageAspectRatio,
    ModelProfile,
)
from neva.nemo_config import MediaConfig, NemoConfig
from neva.nemo_tokenizer import read_nemo_tokenizer
from neva.reasons import Reason
from neva.tokens import Tokenizer
from neva.tower_profile import TowerProfile, read_tower_profile

OWN_SECTION: Final = "neva_batch"
_BOS_SPELLINGS: Final = ("<s>", "<|begin_of_text|>", "<|startoftext|>")
_EOS_SPELLINGS: Final = ("</s>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>")


def read_nemo_profile(archive: Archive, base: Archive | None, vision: Path | None) -> ModelProfile:
    """The profile of a NeVA checkpoint.

    Args:
        base: where the tokenizer is, if the checkpoint brings none.
        vision: directory of the vision tower; a NeVA checkpoint never says its pixel statistics.

    Raises:
        ConfigError: INVALID_CHECKPOINT, UNSUPPORTED_MODEL: every message names file and key.
    """
    config = NemoConfig.read(archive)
    media = config.media()
    language = config.language()
    tokenizer = read_nemo_tokenizer(archive, base)
    tower = _tower(config, media, vision)
    if config.value("data.sep_image_conv_front", False) is True:
        raise ConfigError(
            f"{config.where}: data.sep_image_conv_front is true, which moves the media before "
            "the conversation; only false is supported",
            reason=Reason.UNSUPPORTED_MODEL,
        )
    # A converted checkpoint keeps its Hugging Face placeholder and has no markers around it.
    has_own_placeholder = isinstance(config.value(f"{OWN_SECTION}.image_token_id"), int)
    return ModelProfile(
        layout="nemo",
        template=media.template,
        context_tokens=language.context_tokens,
        image_size=tower.image_size,
        patch_size=tower.patch_size,
        tokens_per_frame=tokens_per_frame(media, tower.image_size, tower.patch_size),
        num_frames=_num_frames(media),
        image_token_id=_patch_token_id(config, media, tokenizer),
        eos_token_ids=_eos_token_ids(config, tokenizer),
        bos_token_id=_bos_token_id(config, tokenizer),
        add_bos=config.value(f"{OWN_SECTION}.add_bos", False) is True,  # NeMo never adds it
        vocab_size=config.value(f"{OWN_SECTION}.vocab_size", tokenizer.vocab_size),
        image_mean=tower.image_mean,
        image_std=tower.image_std,
        resize_shortest_edge=tower.resize_shortest_edge,
        crop_size=tower.crop_size,
        resize_mode=tower.resize_mode,
        markers=None if has_own_placeholder else markers_for(media.model_type),
        use_im_start_end=media.use_im_start_end and not has_own_placeholder,
        splice_single_frame=_single_frame(media),
        image_aspect_ratio=_aspect_ratio(media),
        color_order=_color_order(config, media),
    )


def tokens_per_frame(media: MediaConfig, image_size: int, patch_size: int) -> int:
    """Visual tokens of one frame; mlp_downsample merges blocks of 2 x 2, odd sides padded."""
    side = image_size // patch_size
    if media.projector == "mlp_downsample":
        return (-(-side // 2)) ** 2
    return side**2 + (media.num_class_tokens if media.keeps_class_tokens else 0)


def _tower(config: NemoConfig, media: MediaConfig, vision: Path | None) -> TowerProfile:
    if vision is None:
        raise ConfigError(
            f"{config.where}: the vision tower is not in a NeVA checkpoint (its training took "
            f"{media.vision_source!r}); give its directory as model.visionEncoder"
        )
    tower = read_tower_profile(vision)
    problems = [
        f"{name} is {said} in {config.where}, but {found} in {vision}"
        for name, said, found in (
            ("crop_size", media.crop_size, tower.image_size),
            ("patch_dim", media.patch_size, tower.patch_size),
            ("hidden_size", media.vision_hidden_size, tower.hidden_size),
        )
        if said is not None and said != found
    ]
    if problems:
        raise ConfigError(
            f"the vision tower does not fit: {'; '.join(problems)}",
            reason=Reason.INVALID_CHECKPOINT,
        )
    return tower


def _num_frames(media: MediaConfig) -> int:
    if _single_frame(media) is not None:
        return 1
    if media.num_frames is not None and media.num_frames > 0:
        return media.num_frames
    return DEFAULT_VIDEO_FRAMES


def _single_frame(media: MediaConfig) -> SingleFrame | None:
    """Any other word behaves like none, as in the original."""
    match media.splice_single_frame:
        case "first" | "middle" | "last" as place:
            return place
    return None


def _aspect_ratio(media: MediaConfig) -> ImageAspectRatio:
    match media.image_aspect_ratio:
        case "pad" | "keep" as ratio:
            return ratio
    return "square"


def _color_order(config: NemoConfig, media: MediaConfig) -> ColorOrder:
    """NeMo up to 2.0.0rc0 trained video models on reversed channels (PR 9245 ended it)."""
    version = str(config.value("nemo_version", ""))
    old = version.startswith(("1.", "2.0.0rc0"))
    return "bgr" if old and media.media_type == "video" else "rgb"


def _patch_token_id(config: NemoConfig, media: MediaConfig, tokenizer: Tokenizer) -> int:
    own = config.value(f"{OWN_SECTION}.image_token_id")
    if isinstance(own, int):
        return own
    spelling = markers_for(media.model_type).patch
    token_id = tokenizer.token_id(spelling)
    if token_id is None:
        raise ConfigError(
            f"{config.where}: the tokenizer has no {spelling}, which stands for media",
            reason=Reason.INVALID_CHECKPOINT,
        )
    return token_id


def _eos_token_ids(config: NemoConfig, tokenizer: Tokenizer) -> tuple[int, ...]:
    match config.value(f"{OWN_SECTION}.eos_token_ids"):
        case [int(), *_] as ids:
            return tuple(ids)
    if tokenizer.eos_id is not None:
        return (tokenizer.eos_id,)
    for spelling in _EOS_SPELLINGS:
        if (token_id := tokenizer.token_id(spelling)) is not None:
            return (token_id,)
    raise ConfigError(
        f"{config.where}: the tokenizer has none of {', '.join(_EOS_SPELLINGS)} to end a text",
        reason=Reason.INVALID_CHECKPOINT,
    )


def _bos_token_id(config: NemoConfig, tokenizer: Tokenizer) -> int | None:
    own = config.value(f"{OWN_SECTION}.bos_token_id")
    if isinstance(own, int):
        return own
    if tokenizer.bos_id is not None:
        return tokenizer.bos_id
    ids = (tokenizer.token_id(spelling) for spelling in _BOS_SPELLINGS)
    return next((token_id for token_id in ids if token_id is not None), None)
