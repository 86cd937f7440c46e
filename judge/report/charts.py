"""The report's charts, as numbers for inline SVG. Geometry only: colours are the style sheet's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_MARGIN = 7.0


@dataclass(frozen=True, slots=True)
class Dumbbell:
    """Two points with their 95 % intervals on one scale; all in pixels.

    Attributes:
        first_reach, second_reach: ends of the intervals; None where there is none.
    """

    width: float
    left: float
    right: float
    first: float
    second: float
    first_reach: tuple[float, float] | None = None
    second_reach: tuple[float, float] | None = None


def scale_of(mode: str) -> tuple[float, float]:
    """Where the axis begins and ends, in the table's unit."""
    return (10.0, 100.0) if mode in ("scores", "single") else (0.0, 100.0)


def dumbbell(summary: Mapping[str, Any], mode: str, width: float = 180) -> Dumbbell | None:
    """Where the two means lie on the mode's scale."""
    scores, means = summary["scores"], summary["figures"]["means"]
    if scores is None:
        return None
    low, high = scale_of(mode)
    left, right = _MARGIN, width - _MARGIN

    def at(value: float) -> float:
        inside = min(high, max(low, value))
        return round(left + (right - left) * (inside - low) / (high - low), 1)

    def reach(estimate: Mapping[str, Any] | None) -> tuple[float, float] | None:
        if estimate is None or estimate["low"] is None:
            return None
        return at(estimate["low"]), at(estimate["high"])

    first, second = means or (None, None)
    return Dumbbell(width, left, right, at(scores[0]), at(scores[1]), reach(first), reach(second))


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a bar; pixels."""

    kind: str
    x: float
    width: float


def outcome_bar(summary: Mapping[str, Any], width: float = 84) -> list[Segment]:
    """Wins, ties and losses as parts of one bar."""
    counts = [
        ("win", summary["num_wins"]),
        ("tie", summary["num_ties"]),
        ("loss", summary["num_losses"]),
    ]
    total = sum(count for _, count in counts)
    segments: list[Segment] = []
    x = 0.0
    for kind, count in counts:
        if count:
            part = width * count / total
            segments.append(Segment(kind, round(x, 2), round(part, 2)))
            x += part
    return segments
