"""Waiting for what another process or thread does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")

_PAUSE_S = 0.05


def eventually(question: Callable[[], _T], what: str, timeout_s: float = 60) -> _T:
    """The first answer that is true. Raises AssertionError with the last one."""
    ends_s = time.monotonic() + timeout_s
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > ends_s:
            raise AssertionError(f"not in {timeout_s} s: {what}; the last answer was {answer!r}")
        time.sleep(_PAUSE_S)
