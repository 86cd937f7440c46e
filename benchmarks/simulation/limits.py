"""A rate that can't be exceeded: whoever comes too early waits."""

from __future__ import annotations


class Limit:
    """So many requests a second, less what always goes on; the rest stand in line.

    A store that answers 503 to what is too much, and clients that come back, are such a line with
    some gaps in it.
    """

    def __init__(self, per_s: float, always_per_s: float = 0.0) -> None:
        self.per_s = per_s
        self._each_s = 1.0 / max(per_s - always_per_s, per_s / 100)
        self._free_at_s = 0.0
        self.waited_s = 0.0
        self.num_requests = 0.0

    def take(self, now_s: float, num_requests: float) -> float:
        """Seconds that these requests, asked from now on, have to wait."""
        wait_s = max(0.0, self._free_at_s - now_s)
        self._free_at_s = max(self._free_at_s, now_s) + num_requests * self._each_s
        self.waited_s += wait_s
        self.num_requests += num_requests
        return wait_s
