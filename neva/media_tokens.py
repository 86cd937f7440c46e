"""How many visual tokens media take, and where among the prompt's ids their features go.

The rules are NeVA's (NeMo v2.0.0rc0 and r2.0.0rc1, `replace_media_embeddings`): the frames' tokens
form one contiguous span, frame by frame, found by the media's end marker. Without
`use_im_start_end` (the default of every shipped configuration) the first and the last feature take
the markers' own places, so the span is the markers and everything between them.
"""

from __future__ import annotations

from collections.abc import Sequence

from neva.errors import ConfigError, RowError
from neva.reasons import Reason


def tokens_per_frame(image_size: int, patch_size: int, *, downsample: bool = False) -> int:
    """Visual tokens of one square frame, without a class token.

    Args:
        image_size, patch_size: sides, pixels.
        downsample: the projector is `mlp_downsample`, which merges 2x2 patches and fills an odd
            side up.

    Raises:
        ConfigError: no patch fits.
    """
    if patch_size < 1 or image_size < patch_size:
        raise ConfigError(
            f"a frame of {image_size} pixels holds no patch of {patch_size}",
            reason=Reason.UNSUPPORTED_MODEL,
        )
    side = image_size // patch_size
    return ((side + 1) // 2) ** 2 if downsample else side**2


def num_patch_tokens(num_media_tokens: int, use_im_start_end: bool) -> int:
    """Patch tokens that stand in the text for `num_media_tokens` features, besides the markers.

    Raises:
        ConfigError: too few features to fill the two markers' places.
    """
    num_patches = num_media_tokens if use_im_start_end else num_media_tokens - 2
    if num_patches < 1:
        raise ConfigError(
            f"media of {num_media_tokens} visual tokens leave no room between the markers",
            reason=Reason.UNSUPPORTED_MODEL,
        )
    return num_patches


def media_span(
    ids: Sequence[int], start_id: int, end_id: int, num_features: int, use_im_start_end: bool
) -> tuple[int, int]:
    """First place of the features among `ids`, and the place behind the last one.

    Raises:
        RowError: MEDIA_TOKEN_CONFLICT, a marker is missing or stands there twice, or there are
            more or fewer places between them than features. (The reference answers without
            looking when the end marker is missing, and dies of the rest.)
    """
    for name, token_id in (("start", start_id), ("end", end_id)):
        if (count := ids.count(token_id)) != 1:
            raise _conflict(f"the media's {name} marker stands in the prompt {count} times")
    first_marker, last_marker = ids.index(start_id), ids.index(end_id)
    if use_im_start_end:
        start, stop = first_marker + 1, last_marker
    else:
        start, stop = first_marker, last_marker + 1
    if stop - start != num_features:
        raise _conflict(
            f"the media have {num_features} features, but the prompt has {max(0, stop - start)} "
            "places for them"
        )
    return start, stop


def _conflict(message: str) -> RowError:
    return RowError(message, reason=Reason.MEDIA_TOKEN_CONFLICT)
