"""Stops asking an endpoint that is plainly down."""

from __future__ import annotations

_FIRST_PAUSE_S = 5.0
_MAX_PAUSE_S = 60.0
_MAX_PROBES = 5


class Breaker:
    """Opens after `most_in_a_row` failed attempts without a reply between them. Open, it lets one
    request through at a time, after pauses that double; a reply closes it. After five such probes
    the endpoint is given up for this run: without that, every question would wait out its own
    retries.

    Attributes:
        is_given_up: nothing more is to be asked.
    """

    def __init__(self, most_in_a_row: int, first_pause_s: float = _FIRST_PAUSE_S) -> None:
        self._most = most_in_a_row
        self._first_pause_s = first_pause_s
        self._in_a_row = 0
        self._num_probes = 0
        self._closed_until_s: float | None = None
        self._last_words = ""
        self.is_given_up = False

    @property
    def is_open(self) -> bool:
        return self._closed_until_s is not None

    @property
    def message(self) -> str:
        return f"not asked: the judge failed {self._in_a_row} times in a row; {self._last_words}"

    def wait_s(self, now_s: float, num_running: int) -> float:
        """Seconds until a request may start. While open, infinite with one under way."""
        if self._closed_until_s is None:
            return 0.0
        return float("inf") if num_running else max(0.0, self._closed_until_s - now_s)

    def succeeded(self) -> None:
        """A reply came, of whatever content."""
        self._in_a_row = self._num_probes = 0
        self._closed_until_s = None

    def failed(self, now_s: float, words: str) -> None:
        """An attempt brought no reply, for a reason that others may share."""
        self._in_a_row += 1
        self._last_words = words
        if self._in_a_row < self._most:
            return
        if self.is_open and self._closed_until_s is not None and now_s < self._closed_until_s:
            return  # it was under way when the breaker opened
        if self._num_probes >= _MAX_PROBES:
            self.is_given_up = True
        pause_s = min(_MAX_PAUSE_S, self._first_pause_s * 2.0**self._num_probes)
        self._closed_until_s = now_s + pause_s
        self._num_probes += 1
