"""Which frames of a video the model sees.

The rule is Video NeVA's own (NeMo v2.0.0rc0, `TarOrFolderVideoLoader`): points evenly spaced over
the file, both ends included, truncated toward zero. A video shorter than asked for repeats its last
frame, so that every row has the same number of visual tokens.
"""

from __future__ import annotations

from typing import Literal

from neva.errors import ConfigError, RowError
from neva.reasons import Reason

SingleFrame = Literal["first", "middle", "last"]

ALL_FRAMES = -1


def frame_indices(
    num_frames_in_file: int, num_frames: int, splice_single_frame: SingleFrame | None = None
) -> tuple[int, ...]:
    """Indices into the file, in the order in which the model sees them.

    Args:
        num_frames_in_file: frames that the decoder counts in the file.
        num_frames: how many the model takes; -1 takes all of them.
        splice_single_frame: take this one frame only, whatever `num_frames` says.

    Raises:
        RowError: MEDIA_EMPTY, the file has no frame.
        ConfigError: `num_frames` or `splice_single_frame` has no meaning.
    """
    if num_frames != ALL_FRAMES and num_frames < 1:
        raise ConfigError(f"num_frames must be -1 (all) or at least 1, not {num_frames}")
    if num_frames_in_file < 1:
        raise RowError("the video has no frames", reason=Reason.MEDIA_EMPTY)

    if splice_single_frame is not None:
        return (_single_index(num_frames_in_file, splice_single_frame),)
    if num_frames == ALL_FRAMES:
        return tuple(range(num_frames_in_file))

    spread = _evenly_spaced(num_frames_in_file, min(num_frames_in_file, num_frames))
    return spread + (num_frames_in_file - 1,) * (num_frames - len(spread))


def _single_index(num_frames_in_file: int, which: str) -> int:
    match which:
        case "first":
            return 0
        case "middle":
            return num_frames_in_file // 2
        case "last":
            return num_frames_in_file - 1
    raise ConfigError(f"splice_single_frame must be first, middle, last or null, not {which!r}")


def _evenly_spaced(num_frames_in_file: int, num_points: int) -> tuple[int, ...]:
    last = num_frames_in_file - 1
    if num_points == 1:
        return (0,)
    # In floating point on purpose. The reference is numpy's linspace with an integer dtype, which
    # multiplies by a rounded step: 23 points of 31 frames hold 14, where exact arithmetic gives 15.
    step = last / (num_points - 1)
    return (*(int(i * step) for i in range(num_points - 1)), last)
