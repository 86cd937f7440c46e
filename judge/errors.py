"""What can go wrong between us and a judge."""

from __future__ import annotations

from neva.errors import ConfigError, NevaError
from neva.reasons import Reason


class ReviewFailed(NevaError):
    """One review can't be had; the others may.

    Attributes:
        wait_s: how long the endpoint asked us to wait before the next try, None if it didn't say.
    """

    reason = Reason.JUDGE_UNAVAILABLE

    def __init__(
        self,
        message: str,
        *,
        reason: Reason | None = None,
        retryable: bool = False,
        wait_s: float | None = None,
    ) -> None:
        super().__init__(message, reason=reason, retryable=retryable)
        self.wait_s = wait_s


class JudgeStopped(ConfigError):
    """No review can be had until somebody changes the key, the model or the endpoint."""
