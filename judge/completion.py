"""What an endpoint sent, as a reply: a chat completion in one piece or in a stream. Pure.

Servers differ: deltas may be empty, null or missing, a chunk may hold nothing but usage, lines may
lack the space after `data:`, a stream may end without `[DONE]`. None of that is an error as long as
the judge finished. A stream that breaks off is one: half a verdict is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from judge.errors import Fault, ReviewFailed
from neva.reasons import Reason

_PREFIX = "data:"
_END = "[DONE]"


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


def read_completion(body: bytes) -> Reply:
    """A reply in one piece. Raises ReviewFailed."""
    try:
        record = orjson.loads(body)
    except orjson.JSONDecodeError:
        message = "the endpoint's reply is no JSON"
        raise ReviewFailed(message, fault=Fault.UNUSABLE) from None
    choice = _choice(record)
    if choice is None:
        raise ReviewFailed("the endpoint's reply is no chat completion", fault=Fault.UNUSABLE)
    said = choice.get("message")
    content = said.get("content") if isinstance(said, dict) else None
    return _reply(
        _text(content), _text_or_none(record.get("model")), choice.get("finish_reason"), record
    )


class StreamedReply:
    """Takes a stream's lines one by one."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._model: str | None = None
        self._finish_reason: str | None = None
        self._usage: Mapping[str, Any] = {}
        self._ended = False
        self._num_chunks = 0

    def feed(self, line: str) -> None:
        """Take a line; those that are no data (comments, events, blank ones) are passed over.

        Raises:
            ReviewFailed: the endpoint reports an error, or what it sends is no JSON.
        """
        if self._ended or not line.startswith(_PREFIX):
            return
        data = line.removeprefix(_PREFIX).strip()
        if data == _END:
            self._ended = True
            return
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            message = "the endpoint's stream holds something that is no JSON"
            raise ReviewFailed(message, fault=Fault.UNUSABLE) from None
        if not isinstance(chunk, dict):
            return
        if chunk.get("error"):
            message = "the endpoint broke its stream off with an error"
            raise ReviewFailed(message, fault=Fault.OVERLOADED)
        self._num_chunks += 1
        self._model = self._model or _text_or_none(chunk.get("model"))
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk
        choice = _choice(chunk) or {}
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._content.append(_text(delta.get("content")))
        self._finish_reason = _text_or_none(choice.get("finish_reason")) or self._finish_reason

    def reply(self) -> Reply:
        """What was said, after the last line. Raises ReviewFailed."""
        if not self._ended and self._finish_reason is None:
            what = "broke off" if self._num_chunks else "holds no chat completion"
            raise ReviewFailed(f"the endpoint's stream {what}", fault=Fault.UNUSABLE)
        return _reply("".join(self._content), self._model, self._finish_reason, self._usage)


def _reply(content: str, model: str | None, finish_reason: Any, record: Mapping[str, Any]) -> Reply:
    if not content.strip():
        raise ReviewFailed(
            "the judge's reply is empty", reason=Reason.VERDICT_UNREADABLE, fault=Fault.UNUSABLE
        )
    usage = record.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Reply(
        content=content,
        served_model=model,
        finish_reason=_text_or_none(finish_reason),
        num_prompt_tokens=_count(usage.get("prompt_tokens")),
        num_completion_tokens=_count(usage.get("completion_tokens")),
    )


def _choice(record: Any) -> dict[str, Any] | None:
    choices = record.get("choices") if isinstance(record, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
