"""Asks an OpenAI-compatible endpoint for one review.

Callers: `judge.run`, from several threads at once. A Protocol stands before it, so that nothing
else knows about HTTP. What a reply means is not decided here (`judge.parse`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, cast

import openai
import stamina

from judge.errors import JudgeStopped, ReviewFailed
from judge.faults import explain
from judge.prompt import Message
from neva.errors import ConfigError
from neva.reasons import Reason

_MAX_WAIT_S = 120.0
_NO_KEY = "no-key"
_ANY_KEY = re.compile(r"(?i)\b(bearer\s+|sk-|nvapi-)[-\w.]{4,}")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the judge writes; the defaults are those of NeMo's `mixtral_eval.py`."""

    temperature: float = 0.2
    top_p: float = 0.7
    max_tokens: int = 1024
    seed: int = 42


@dataclass(frozen=True, slots=True)
class ReviewRequest:
    """Everything a review depends on."""

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [asdict(message) for message in self.messages],
            **asdict(self.sampling),
        }


@dataclass(frozen=True, slots=True)
class Reply:
    """What the judge said.

    Attributes:
        served_model: the model that the endpoint says has answered; it may drift under one name.
    """

    content: str
    served_model: str | None = None
    finish_reason: str | None = None
    num_prompt_tokens: int | None = None
    num_completion_tokens: int | None = None


class JudgeClient(Protocol):
    """Gives one review. Must be safe to call from several threads.

    Raises:
        ReviewFailed: this review can't be had.
        JudgeStopped: none can be had.
    """

    def review(self, request: ReviewRequest) -> Reply: ...


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently a failed request is tried again.

    Waits double from `wait_initial_s` up to `wait_max_s`, plus up to `wait_jitter_s` at random, so
    that threads that failed together don't come back together. `Retry-After` goes before that.
    """

    max_attempts: int = 6
    wait_initial_s: float = 0.5
    wait_max_s: float = 30.0
    wait_jitter_s: float = 1.0


class OpenAIJudge:
    """A judge behind `POST {endpoint}/chat/completions`.

    Retried: timeouts, broken connections, 408, 409, 425, 429, 5xx, bodies that are no JSON. Not
    retried: what the endpoint refuses for this request alone (400, 413, 422). 401, 403 and 404 stop
    everything, as they will not differ for the next question.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        api_key: str | None,
        timeout_s: float = 120.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        key = (api_key or "").strip()
        if not re.fullmatch(r"[!-~]*", key):
            # The HTTP library would quote the whole key in its complaint.
            raise ConfigError("the judge's API key has characters that no HTTP header may hold")
        self._secret = key
        self._retry = retry or RetryPolicy()
        # openai reads the key, organization and project of OpenAI's own service from the
        # environment; none of them is this endpoint's business.
        foreign = {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
        self._client = openai.OpenAI(
            base_url=endpoint,
            api_key=key or _NO_KEY,
            timeout=timeout_s,
            max_retries=0,
            default_headers=cast("Mapping[str, str]", foreign),
        )

    def close(self) -> None:
        self._client.close()

    def review(self, request: ReviewRequest) -> Reply:
        retry = self._retry
        for attempt in stamina.retry_context(
            on=_wait_before_next,
            attempts=retry.max_attempts,
            timeout=None,
            wait_initial=retry.wait_initial_s,
            wait_max=retry.wait_max_s,
            wait_jitter=retry.wait_jitter_s,
        ):
            with attempt:
                return self._ask(request)
        raise AssertionError("stamina neither returned nor raised")

    def _ask(self, request: ReviewRequest) -> Reply:
        failure: ReviewFailed | JudgeStopped
        try:
            completion: object = self._client.chat.completions.create(**request.to_json())
        except (openai.OpenAIError, ValueError) as error:
            failure = explain(error, request.model, self._redacted)
        else:
            return _reply(completion)
        # Raised out here, the failure has no context: openai's errors hold the request, and that
        # holds the key.
        raise failure

    def _redacted(self, text: str) -> str:
        if self._secret:
            text = text.replace(self._secret, "***")
        return _ANY_KEY.sub(r"\1***", text)


def _wait_before_next(error: Exception) -> bool | float:
    """Stamina's hook: False gives up, True waits as the policy says, a number so many seconds."""
    if not isinstance(error, ReviewFailed) or not error.retryable:
        return False
    if error.wait_s is None:
        return True
    return error.wait_s if error.wait_s <= _MAX_WAIT_S else False


def _reply(completion: object) -> Reply:
    if not isinstance(completion, openai.types.chat.ChatCompletion) or not completion.choices:
        # openai passes bodies of another type or shape on as they are.
        raise ReviewFailed("the endpoint's reply is no chat completion", retryable=True)
    choice = completion.choices[0]
    content = choice.message.content if choice.message else None
    if not content or not content.strip():
        raise ReviewFailed("the judge's reply is empty", reason=Reason.VERDICT_UNREADABLE)
    usage = completion.usage
    return Reply(
        content=content,
        served_model=completion.model,
        finish_reason=choice.finish_reason,
        num_prompt_tokens=usage.prompt_tokens if usage else None,
        num_completion_tokens=usage.completion_tokens if usage else None,
    )
