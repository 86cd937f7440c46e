"""From the exceptions of the `openai` package to ours: retry, give up on one, or stop."""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Callable

import openai

from judge.errors import Fault, JudgeStopped, ReviewFailed
from neva.reasons import Reason

_RETRIED_STATUSES = frozenset((408, 409, 425, 429))
_MOST_WORDS = 240


def explain(
    error: Exception, model: str, redacted: Callable[[str], str]
) -> ReviewFailed | JudgeStopped:
    """The error to raise for what `openai` raised.

    `redacted` takes keys out of the server's own words, since some servers repeat the key they
    were given. Unknown failures are not retried.
    """
    if isinstance(error, openai.APITimeoutError):
        return ReviewFailed("the judge did not answer in time", fault=Fault.OVERLOADED)
    if isinstance(error, openai.APIConnectionError):
        cause = redacted(str(error.__cause__ or "connection error"))
        return ReviewFailed(
            f"the judge can't be reached: {_one_line(cause)}", fault=Fault.UNREACHABLE
        )
    if isinstance(error, openai.APIStatusError):
        return _explain_status(error, model, redacted)
    return ReviewFailed(f"the request failed: {_one_line(redacted(str(error)))}")


def _explain_status(
    error: openai.APIStatusError, model: str, redacted: Callable[[str], str]
) -> ReviewFailed | JudgeStopped:
    status = error.status_code
    words = _one_line(redacted(str(error.body or error.message)))
    if status in (401, 403):
        return JudgeStopped(
            f"the judge's endpoint refused the API key (HTTP {status}): {words}; "
            "give a valid one in API_TOKEN or in the job's secret",
            reason=Reason.JUDGE_DENIED,
        )
    if status == 404:
        return JudgeStopped(
            f"the judge's endpoint does not know the model {model!r} or the path (HTTP 404): "
            f"{words}"
        )
    if status in _RETRIED_STATUSES or status >= 500:
        return ReviewFailed(
            f"the judge answered HTTP {status}: {words}",
            fault=Fault.THROTTLED if status == 429 else Fault.OVERLOADED,
            wait_s=retry_after_s(error.response.headers.get("retry-after"), time.time()),
        )
    return ReviewFailed(
        f"the judge refused the request (HTTP {status}): {words}", reason=Reason.JUDGE_REFUSED
    )


def retry_after_s(header: str | None, now: float) -> float | None:
    """Seconds to wait by a Retry-After header: a number of seconds, or an HTTP date (RFC 9110).

    `now` is in seconds since the epoch. None for a missing or meaningless header.
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
        seconds = max(seconds, 0.0)
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MOST_WORDS else line[: _MOST_WORDS - 1] + "…"
