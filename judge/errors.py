"""What can go wrong between us and a judge."""

from __future__ import annotations

from enum import StrEnum

from neva.errors import ConfigError, NevaError
from neva.reasons import Reason


class Fault(StrEnum):
    """Kinds of failures that may pass."""

    THROTTLED = "throttled"  # 429: too many requests
    OVERLOADED = "overloaded"  # 408, 5xx, time-outs
    UNREACHABLE = "unreachable"  # no connection, or one that broke
    UNUSABLE = "unusable"  # a reply that is no chat completion, or half of one


class ReviewFailed(NevaError):
    """One review can't be had; the others may.

    Attributes:
        fault: why it may be had later; None if the next try would end the same.
        wait_s: how long the endpoint asked us to wait before the next try, None if it didn't say.
    """

    reason = Reason.JUDGE_UNAVAILABLE

    def __init__(
        self,
        message: str,
        *,
        reason: Reason | None = None,
        fault: Fault | None = None,
        wait_s: float | None = None,
    ) -> None:
        super().__init__(message, reason=reason, retryable=fault is not None)
        self.fault = fault
        self.wait_s = wait_s


class JudgeStopped(ConfigError):
    """No review can be had until somebody changes the key, the model or the endpoint."""
