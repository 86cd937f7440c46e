"""What a review is asked with."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from judge.modes import Mode
from judge.prompt import Message


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the judge writes; the defaults are those of NeMo's `mixtral_eval.py`."""

    temperature: float = 0.2
    top_p: float = 0.7
    max_tokens: int = 1024
    seed: int = 42


@dataclass(frozen=True, slots=True)
class ReviewRequest:
    """Everything a review depends on.

    Attributes:
        mode: what the reply must hold, for servers that can be told so. No part of the identity:
            the messages ask for the same.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling
    mode: Mode = Mode.SCORES

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [asdict(message) for message in self.messages],
            **asdict(self.sampling),
        }

    @property
    def num_characters(self) -> int:
        return sum(len(message.content) for message in self.messages)
