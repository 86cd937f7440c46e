"""Which rows are about the same media, and which of them will lie in the same pack. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def in_order(keys: NDArray[Any]) -> NDArray[np.intp]:
    """Indices that sort unsigned integers, equal ones as they stand.

    One pass for each 16 bits: a fifth of the time of a sort that compares.
    """
    digits = keys.view(np.uint16).reshape(len(keys), keys.itemsize // 2)
    order = np.argsort(digits[:, 0], kind="stable")
    for digit in digits.T[1:]:
        if digit.any():
            order = order.take(np.argsort(digit.take(order), kind="stable"))
    return order


def starts_of(values: NDArray[Any]) -> NDArray[np.intp]:
    """Where runs of equal values start."""
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    return np.concatenate([np.zeros(min(1, len(values)), np.intp), changes])


def first_of_each(media: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """For each row the first row about the same media."""
    order = in_order(media)
    starts = starts_of(media.take(order))
    firsts = np.empty(len(media), np.uint32)
    firsts[order] = np.repeat(order.take(starts), np.diff(starts, append=len(media)))
    return firsts


def packs_of(
    firsts: NDArray[np.uint32],
    sizes_bytes: NDArray[np.uint32],
    max_rows: int,
    pack_bytes: int,
) -> NDArray[np.uint32]:
    """The pack of each row: about as many bytes in each, and the rows about a media together.

    Only a media with more than `max_rows` questions, which no shard holds, may stand in several.

    Args:
        firsts: see `first_of_each`; the rows about one media follow those about an earlier one.
    """
    order = in_order(firsts)
    ends = np.cumsum(sizes_bytes.take(order), dtype=np.uint64)
    starts = starts_of(firsts.take(order))
    place = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    may_start = place % max_rows == 0
    packs = np.empty(len(order), np.uint32)
    packs[order] = np.maximum.accumulate(np.where(may_start, (ends - 1) // pack_bytes, 0))
    return packs


def places_within(groups: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """For each row how many of its group stand before it."""
    order = in_order(groups)
    starts = starts_of(groups.take(order))
    numbers = np.arange(len(groups), dtype=np.uint32)
    places = np.empty(len(groups), np.uint32)
    places[order] = numbers - np.repeat(starts, np.diff(starts, append=len(groups)))
    return places
