"""Whether and when a failed request is made again, by the kind of failure."""

from __future__ import annotations

from dataclasses import dataclass

from judge.errors import Fault, ReviewFailed

_MAX_ASKED_WAIT_S = 120.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Waits double from the first to `max_wait_s`, and are drawn between half and the whole, so
    that requests that failed together don't come back together. `Retry-After` goes before that, and
    is never undercut; one of more than two minutes is not waited for.

    Attributes:
        attempts: of one review, the first included, by the last failure's kind. A reply that could
            not be used may have been paid for and is tried least.
        first_wait_s: after the first failure.
    """

    throttled_attempts: int = 12
    overloaded_attempts: int = 6
    unusable_attempts: int = 3
    first_wait_s: float = 0.5
    throttled_wait_s: float = 2.0
    max_wait_s: float = 30.0

    def wait_s(self, failure: ReviewFailed, num_attempts: int, draw: float) -> float | None:
        """Seconds until the next attempt; None to give the review up.

        Args:
            num_attempts: so far.
            draw: evenly distributed from 0 to 1.
        """
        if failure.fault is None or num_attempts >= self._most(failure.fault):
            return None
        asked_s = failure.wait_s
        if asked_s is not None and asked_s > _MAX_ASKED_WAIT_S:
            return None
        first_s = self.throttled_wait_s if failure.fault is Fault.THROTTLED else self.first_wait_s
        own_s = min(self.max_wait_s, first_s * 2.0 ** (num_attempts - 1))
        jittered_s = own_s * (0.5 + 0.5 * draw)
        return jittered_s if asked_s is None else asked_s + 0.1 * jittered_s

    def pause_s(self, num_in_a_row: int) -> float:
        """Seconds for which nobody asks after an endpoint pushed back so many times in a row."""
        return min(self.max_wait_s, self.throttled_wait_s * 2.0 ** (num_in_a_row - 1))

    def _most(self, fault: Fault) -> int:
        return {
            Fault.THROTTLED: self.throttled_attempts,
            Fault.UNUSABLE: self.unusable_attempts,
        }.get(fault, self.overloaded_attempts)
