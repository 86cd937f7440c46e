"""The report's charts, as numbers for inline SVG. Geometry only: colours are the style sheet's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LOWEST, _HIGHEST = 10.0, 100.0  # scores from 1 to 10, times ten


@dataclass(frozen=True, slots=True)
class Dumbbell:
    """Two points on the scale of scores; all in pixels."""

    width: float
    left: float
    right: float
    first: float
    second: float


def dumbbell(scores: tuple[float, float] | None, width: float = 180) -> Dumbbell | None:
    """Where the two mean scores lie on a line from 10 to 100."""
    if scores is None:
        return None
    left, right = 7.0, width - 7.0
    first, second = (
        round(left + (right - left) * (score - _LOWEST) / (_HIGHEST - _LOWEST), 1)
        for score in scores
    )
    return Dumbbell(width, left, right, first, second)


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
