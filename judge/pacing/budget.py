"""What a comparison may cost."""

from __future__ import annotations

from dataclasses import dataclass

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class BudgetLimits:
    """Most of each, for all runs into one output together; None: no limit.

    Attributes:
        cost: in the currency of the prices.
        prompt_price, completion_price: of a million tokens.
    """

    requests: int | None = None
    tokens: int | None = None
    cost: float | None = None
    prompt_price: float = 0.0
    completion_price: float = 0.0

    def price(self, num_prompt_tokens: float, num_completion_tokens: float) -> float:
        return (
            num_prompt_tokens * self.prompt_price + num_completion_tokens * self.completion_price
        ) / _MILLION


class Budget:
    """Books every attempt before it is made, by estimate, and corrects it when the reply tells. An
    attempt without reply stays booked as a request; its tokens are given back."""

    def __init__(self, limits: BudgetLimits) -> None:
        self.limits = limits
        self._requests = 0
        self._prompt = 0.0
        self._completion = 0.0

    def spend(self, num_prompt_tokens: float, num_completion_tokens: float) -> None:
        """Book a request."""
        self._requests += 1
        self.correct(num_prompt_tokens, num_completion_tokens)

    def correct(self, num_prompt_tokens: float, num_completion_tokens: float) -> None:
        """So many tokens more (or less) than were booked."""
        self._prompt += num_prompt_tokens
        self._completion += num_completion_tokens

    def refusal(self, num_prompt_tokens: float, num_completion_tokens: float) -> str | None:
        """Why another request of that size does not fit; None if it does."""
        limits = self.limits
        prompt = self._prompt + num_prompt_tokens
        completion = self._completion + num_completion_tokens
        if limits.requests is not None and self._requests + 1 > limits.requests:
            return f"the budget of {limits.requests} requests is spent"
        if limits.tokens is not None and prompt + completion > limits.tokens:
            return f"the budget of {limits.tokens} tokens is spent"
        if limits.cost is not None and limits.price(prompt, completion) > limits.cost:
            return f"the budget of {limits.cost:g} is spent"
        return None
