"""Rows per second and time left, over the last minutes. Pure but for the looks it remembers."""

from __future__ import annotations

from collections import deque

_WINDOW_S = 120.0
_MIN_SPAN_S = 1.0


class RateWindow:
    """Rates out of looks at a run.

    The estimate of the time left is a range: by the rate of the whole window, and by that of its
    second half, which sees a change sooner.
    """

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque()

    def add(self, now_s: float, num_done: int) -> None:
        looks = self._looks
        if looks and num_done < looks[-1][1]:
            # A lease lapsed: its rows are counted again when another worker has the shard.
            num_done = looks[-1][1]
        if len(looks) == 1 and num_done == looks[0][1]:
            looks.clear()  # loading the model says nothing of the rate
        looks.append((now_s, num_done))
        while len(looks) > 2 and looks[0][0] < now_s - _WINDOW_S:
            looks.popleft()

    @property
    def rows_per_s(self) -> float | None:
        return self._rate(0)

    def eta_s(self, num_left: int) -> tuple[float, float] | None:
        """Least and most time until `num_left` more rows are done; None when nothing is known."""
        if num_left == 0:
            return 0.0, 0.0
        rates = [rate for rate in (self._rate(0), self._rate(len(self._looks) // 2)) if rate]
        if not rates:
            return None
        return num_left / max(rates), num_left / min(rates)

    def _rate(self, first: int) -> float | None:
        if len(self._looks) - first < 2:
            return None
        (start_s, start_rows), (end_s, end_rows) = self._looks[first], self._looks[-1]
        span_s = end_s - start_s
        if span_s < _MIN_SPAN_S or end_rows <= start_rows:
            return None
        return (end_rows - start_rows) / span_s


def time_left(eta_s: tuple[float, float]) -> str:
    """Words of `RateWindow.eta_s`: about 12 min left; 3 min to 5 min left."""
    words = span(eta_s)
    return f"{words} left" if " to " in words else f"about {words} left"


def span(eta_s: tuple[float, float]) -> str:
    """The same estimate in words alone: 12 min; 3 min to 5 min."""
    low, high = duration(eta_s[0]), duration(eta_s[1])
    return low if low == high else f"{low} to {high}"


def duration(seconds: float) -> str:
    """Short: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
