"""The throughput chart, as numbers for inline SVG. Geometry only: colours are the style sheet's."""

from __future__ import annotations

import math
from dataclasses import dataclass

from controller.ui.timeline import Throughput
from neva.rate import duration

WIDTH, HEIGHT = 600.0, 100.0  # the picture is stretched to its place
_GAP = 0.18  # of a bar's place


@dataclass(frozen=True, slots=True)
class Bar:
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars, the scale beside them, and the same in words.

    Attributes:
        scale: labels from top to bottom, evenly spaced.
        start, end: labels of the time axis.
    """

    bars: tuple[Bar, ...]
    scale: tuple[str, str, str]
    start: str
    end: str
    words: str


def chart(history: Throughput, *, is_over: bool) -> Chart:
    """The chart of a run's throughput."""
    top = nice_top(max(history.rates))
    span_s = history.end_s - history.start_s
    bars = []
    for number, rate in enumerate(history.rates):
        width = min(history.width_s, span_s - number * history.width_s) / span_s * WIDTH
        height = HEIGHT * rate / top
        x = number * history.width_s / span_s * WIDTH
        bars.append(
            Bar(
                round(x + width * _GAP / 2, 2),
                round(HEIGHT - height, 2),
                round(width * (1 - _GAP), 2),
                round(height, 2),
            )
        )
    long = duration(span_s)
    mean = sum(bar.height * bar.width for bar in bars) / sum(bar.width for bar in bars)
    words = (
        f"Rows per second over {long}: {mean / HEIGHT * top:.3g} on average, "
        f"{max(history.rates):.3g} at most"
    )
    if not is_over:
        words += f", {history.rates[-1]:.3g} of late"
    return Chart(
        tuple(bars),
        (f"{top:g}", f"{top / 2:g}", "0"),
        "start" if is_over else f"{long} ago",
        f"end, {long} later" if is_over else "now",
        words,
    )


def nice_top(highest: float) -> float:
    """The least of 1, 2, 5, 10, 20, … (and their fractions) that is not below `highest`."""
    if highest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(highest))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= highest * (1 - 1e-9))
