"""How many requests may be under way: additive increase, multiplicative decrease."""

from __future__ import annotations

_INITIAL = 4
_DECREASE = 0.5


class Concurrency:
    """Finds what an endpoint bears, up to `most`.

    Doubles every round trip until the endpoint first pushes back, then adds one a round trip. Each
    push back (429, overload, time-out) halves it, once for all requests that were under way
    together: they all ran into the same wall.

    Attributes:
        most: never more than so many at a time.
    """

    def __init__(self, most: int, initial: int = _INITIAL) -> None:
        self.most = most
        self._limit = float(min(initial, most))
        self._slow_start = True
        self._decreased_at_s = float("-inf")
        self._num_in_a_row = 0

    @property
    def limit(self) -> int:
        """Requests that may be under way now; at least 1."""
        return max(1, int(self._limit))

    def succeeded(self, num_running: int) -> None:
        """A reply came, with `num_running` requests under way, itself included. A limit that was
        not used teaches nothing about a higher one."""
        self._num_in_a_row = 0
        if num_running >= self.limit:
            step = 1.0 if self._slow_start else 1.0 / self._limit
            self._limit = min(float(self.most), self._limit + step)

    def pushed_back(self, started_s: float, now_s: float) -> int:
        """A request that began at `started_s` was refused for being too many.

        Returns:
            How many times in a row that happened now; 0 if the wall is one that is known already.
        """
        if started_s < self._decreased_at_s:
            return 0
        self._num_in_a_row += 1
        self._slow_start = False
        self._limit = max(1.0, self._limit * _DECREASE)
        self._decreased_at_s = now_s
        return self._num_in_a_row
