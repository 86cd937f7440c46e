"""A judge that answers from a function, and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from judge.completion import Reply
from judge.request import ReviewRequest


class FakeJudge:
    """A `JudgeClient` without a network.

    Attributes:
        asked: requests in the order they arrived; their last message is the user's.
    """

    def __init__(self, answer: Callable[[str], str | Exception]) -> None:
        self._answer = answer
        self.asked: list[ReviewRequest] = []

    async def review(self, request: ReviewRequest) -> Reply:
        self.asked.append(request)
        answer = self._answer(request.messages[-1].content)
        if isinstance(answer, Exception):
            raise answer
        await asyncio.sleep(0)
        return Reply(answer, served_model="fake-1", num_prompt_tokens=100, num_completion_tokens=7)

    async def close(self) -> None:
        """Nothing is held."""
