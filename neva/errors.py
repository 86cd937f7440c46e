"""The one error hierarchy of the project.

Every error that reaches a user knows its `reason` (a constant of `neva.reasons`, the same word in
the terminal, in errors.jsonl, in status and in metrics) and whether trying again can help.
"""

from __future__ import annotations

from neva.reasons import Reason


class NevaError(Exception):
    """Base of all errors raised on purpose.

    Attributes:
        reason: machine-readable cause, stable across versions.
        retryable: True when the same work may succeed later without anybody changing the input.
    """

    reason: Reason = Reason.INTERNAL_ERROR
    retryable: bool = False

    def __init__(
        self, message: str, *, reason: Reason | None = None, retryable: bool | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason
        if retryable is not None:
            self.retryable = retryable


class RowError(NevaError):
    """One row can't be answered; its neighbours can."""


class ConfigError(NevaError):
    """The job, the model or the environment is wrong: no retry, no GPU (exit code 64 in a pod)."""

    reason = Reason.INVALID_CONFIG
