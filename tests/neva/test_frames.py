from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neva.errors import ConfigError, RowError
from neva.frames import frame_indices
from neva.reasons import Reason


@pytest.mark.parametrize(
    ("num_frames_in_file", "num_frames", "expected"),
    [
        (30, 8, (0, 4, 8, 12, 16, 20, 24, 29)),
        (31, 8, (0, 4, 8, 12, 17, 21, 25, 30)),
        (16, 8, (0, 2, 4, 6, 8, 10, 12, 15)),
        (5, 8, (0, 1, 2, 3, 4, 4, 4, 4)),
        (1, 8, (0,) * 8),
        (31, 4, (0, 10, 20, 30)),
        (30, 1, (0,)),
        (4, -1, (0, 1, 2, 3)),
    ],
)
def test_indices_are_the_references(
    num_frames_in_file: int, num_frames: int, expected: tuple[int, ...]
) -> None:
    assert frame_indices(num_frames_in_file, num_frames) == expected


@settings(deadline=None)
@given(num_in_file=st.integers(1, 5000), num_frames=st.integers(1, 256))
def test_indices_equal_numpys_linspace_with_an_integer_type(
    num_in_file: int, num_frames: int
) -> None:
    num_spread = min(num_in_file, num_frames)
    spread = np.linspace(0, num_in_file - 1, num_spread, dtype=int).tolist()
    expected = spread + [num_in_file - 1] * (num_frames - num_spread)
    if num_spread == 1:
        expected = [0] + [num_in_file - 1] * (num_frames - 1)
    assert list(frame_indices(num_in_file, num_frames)) == expected


def test_the_step_is_rounded_before_it_is_multiplied() -> None:
    assert frame_indices(31, 23)[11] == 14  # exactly 15, but the reference computes in floats


@settings(deadline=None)
@given(num_in_file=st.integers(1, 10_000), num_frames=st.integers(1, 128))
def test_indices_lie_in_the_file_in_order_and_reach_its_end(
    num_in_file: int, num_frames: int
) -> None:
    indices = frame_indices(num_in_file, num_frames)
    assert len(indices) == num_frames
    assert indices[0] == 0
    assert list(indices) == sorted(indices)
    assert 0 <= min(indices) <= max(indices) < num_in_file
    if num_frames > 1:
        assert indices[-1] == num_in_file - 1


@pytest.mark.parametrize(
    ("num_frames_in_file", "expected"),
    [(1, (0, 0, 0)), (2, (0, 1, 1)), (30, (0, 15, 29))],
)
def test_a_single_frame_is_first_middle_or_last(
    num_frames_in_file: int, expected: tuple[int, int, int]
) -> None:
    places: tuple[Literal["first", "middle", "last"], ...] = ("first", "middle", "last")
    assert [frame_indices(num_frames_in_file, 8, place) for place in places] == [
        (index,) for index in expected
    ]


def test_a_file_without_frames_is_the_rows_error() -> None:
    with pytest.raises(RowError, match="no frames") as caught:
        frame_indices(0, 8)
    assert caught.value.reason is Reason.MEDIA_EMPTY


@pytest.mark.parametrize("num_frames", [0, -2])
def test_a_meaningless_number_of_frames_is_a_configuration_error(num_frames: int) -> None:
    with pytest.raises(ConfigError, match="num_frames"):
        frame_indices(30, num_frames)


def test_an_unknown_place_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="'center'"):
        frame_indices(30, 8, "center")  # type: ignore[arg-type]
