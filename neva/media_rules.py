"""Which frames of its media a row shows: the checkpoint's rule, or the job's where it says one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from neva.errors import ConfigError
from neva.frames import SingleFrame
from neva.model_profile import ColorOrder, ModelProfile
from neva.reasons import Reason
from neva.spec import JobSpec
from neva.templates import MediaType

Decoder = Literal["auto", "decord", "pyav", "torchcodec"]
Rotation = Literal["upright", "stored"]
ExifRotation = Literal["ignored", "applied"]

KEEP_LONGER_PX: Final = 448
KEEP_SHORTER_PX: Final = 224


@dataclass(frozen=True, slots=True)
class MediaRules:
    """How media become frames.

    Attributes:
        num_frames: frames that one row's media take in the prompt; 1 for an image.
        splice_single_frame: the one frame of a video that is shown, if only one is.
        color_order: channel order in which the model sees them; images are always RGB.
        decoder, rotation, exif_rotation: as in the job (`neva.spec.Media`).
    """

    media_type: MediaType
    num_frames: int
    splice_single_frame: SingleFrame | None
    color_order: ColorOrder
    decoder: Decoder = "auto"
    rotation: Rotation = "upright"
    exif_rotation: ExifRotation = "ignored"


def media_rules(spec: JobSpec, profile: ModelProfile) -> MediaRules:
    """The rules of a job.

    The checkpoint need not be trained on the job's media type: an image is one frame to a video
    model, a video is several to an image model. (The reference leaves the tag in the text then,
    and answers without looking.)

    Raises:
        ConfigError: the checkpoint's rules give no fixed number of frames, or none of its
            vision tower's size.
    """
    _require_possible_aspect(profile)
    media = spec.media
    if spec.media_type == "image":
        return MediaRules("image", 1, None, "rgb", exif_rotation=media.exif_rotation)
    inference = spec.inference
    single_frame = inference.splice_single_frame
    if single_frame is None and inference.num_frames is None:
        single_frame = profile.splice_single_frame
    num_frames = inference.num_frames or profile.num_frames
    if single_frame is not None:
        num_frames = 1
    if num_frames < 1:
        raise ConfigError(
            f"the model's num_frames is {num_frames} (all frames), which gives prompts of no fixed "
            "length; set inference.num_frames"
        )
    color_order = spec.model.compat.color_order or profile.color_order
    return MediaRules("video", num_frames, single_frame, color_order, media.decoder, media.rotation)


def _require_possible_aspect(profile: ModelProfile) -> None:
    """`keep` resizes the shorter side to 224 pixels at most, whatever the tower takes."""
    if profile.image_aspect_ratio != "keep":
        return
    if profile.resize_mode == "exact" or profile.crop_size != (KEEP_SHORTER_PX, KEEP_SHORTER_PX):
        height, width = profile.crop_size
        raise ConfigError(
            f"image_aspect_ratio keep makes pictures of at most {KEEP_LONGER_PX}x{KEEP_SHORTER_PX} "
            f"pixels; none of them fits the model's vision tower, which takes {height}x{width}",
            reason=Reason.UNSUPPORTED_MODEL,
        )
