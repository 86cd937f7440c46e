"""Whether a change in quality lets something pass. Pure; what the gate and the nights agree on."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

_DECIMALS = 9  # 82.6 less 80.6 is 2, whatever binary fractions say

Number = TypeVar("Number", float, Decimal)


class Decision(StrEnum):
    """What a check, or all of them together, says."""

    GO = "GO"
    NO_GO = "NO-GO"
    INCONCLUSIVE = "INCONCLUSIVE"


def within(value: Number, low: Number | None, high: Number | None) -> Decision:
    """An absolute threshold: `value` must lie within the bounds that are given."""
    too_low = low is not None and value < low
    too_high = high is not None and value > high
    return Decision.NO_GO if too_low or too_high else Decision.GO


def fell_by_no_more(before: Number, now: Number, most: Number) -> Decision:
    """A threshold relative to a baseline: a fall by exactly `most` still passes."""
    return Decision.NO_GO if round(before - now, _DECIMALS) > most else Decision.GO


def not_inferior(low: float, high: float, margin: float) -> Decision:
    """Non-inferiority: the interval of the change (new less old) against a loss of `margin`.

    Passes when the loss is surely smaller, fails when it is surely as large; when the interval
    holds both, the data can't tell.
    """
    if low > -margin:
        return Decision.GO
    return Decision.NO_GO if high <= -margin else Decision.INCONCLUSIVE


def all_of(decisions: Iterable[Decision]) -> Decision:
    """One failure fails, else one doubt makes it doubtful. Of no checks at all: inconclusive."""
    found = set(decisions)
    if Decision.NO_GO in found:
        return Decision.NO_GO
    if found == {Decision.GO}:
        return Decision.GO
    return Decision.INCONCLUSIVE
