"""Requests and tokens per minute, evenly spaced."""

from __future__ import annotations

_MINUTE_S = 60.0
_MARGIN = 1.015  # requests are this much further apart than the limit asks for
_CATCH_UP_S = 0.25  # a slot that was missed by a busy loop may be made up for within so long


class Pace:
    """When the next request may start, so that no minute holds more than the limit.

    Evenly, without bursts: an endpoint that counts by the second is content, too. The spacing is
    1.5 % wider than asked for, so that in no window of a minute, shifted by the network's own
    delays, are there more. Tokens are booked by estimate and corrected when the reply tells.

    Args:
        requests, tokens: per minute; None: no limit.
    """

    def __init__(self, requests: float | None = None, tokens: float | None = None) -> None:
        self._per_request_s = _MINUTE_S * _MARGIN / requests if requests else 0.0
        self._per_token_s = _MINUTE_S * _MARGIN / tokens if tokens else 0.0
        self._next_request_s = float("-inf")
        self._next_token_s = float("-inf")

    def wait_s(self, now_s: float) -> float:
        """Seconds until a request may start; 0 for now."""
        return max(0.0, self._next_request_s - now_s, self._next_token_s - now_s)

    def start(self, now_s: float, num_tokens: float) -> None:
        """A request starts that will take about `num_tokens`, prompt and reply."""
        if self._per_request_s:
            earliest = max(self._next_request_s, now_s - _CATCH_UP_S)
            self._next_request_s = earliest + self._per_request_s
        if self._per_token_s:
            earliest = max(self._next_token_s, now_s - _CATCH_UP_S)
            self._next_token_s = earliest + self._per_token_s * num_tokens

    def settle(self, estimated: float, actual: float) -> None:
        """It took `actual` tokens, not as many as estimated."""
        self._next_token_s += self._per_token_s * (actual - estimated)


class TokenEstimate:
    """Tokens of a request before it is made, from those before it."""

    _FIRST_CHARACTERS_PER_TOKEN = 3.5
    _FIRST_COMPLETION = 300

    def __init__(self, max_tokens: int) -> None:
        self._per_character = 1 / self._FIRST_CHARACTERS_PER_TOKEN
        self._completion = float(min(self._FIRST_COMPLETION, max_tokens))
        self._num = 0

    def of(self, num_characters: int) -> tuple[float, float]:
        """Tokens of the prompt and of the reply."""
        return num_characters * self._per_character, self._completion

    def learn(self, num_characters: int, num_prompt: int, num_completion: int) -> None:
        """A prompt of so many characters had so many tokens, and its reply so many."""
        self._num += 1
        self._completion += (num_completion - self._completion) / self._num
        if num_characters:
            self._per_character += (num_prompt / num_characters - self._per_character) / self._num
