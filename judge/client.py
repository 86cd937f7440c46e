"""Asks an OpenAI-compatible endpoint for one review, once.

Caller: `judge.asking`, which decides when, how often and how many at a time. A Protocol stands
before it, so that nothing else knows about HTTP. What a reply means is not decided here
(`judge.parse`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import httpx2
import openai

from judge.completion import Reply, StreamedReply, read_completion
from judge.errors import Fault, JudgeStopped, ReviewFailed
from judge.faults import explain, retry_after_s
from judge.modes import TRAITS
from judge.request import ReviewRequest
from neva.errors import ConfigError

_NO_KEY = "no-key"
_ANY_KEY = re.compile(r"(?i)\b(bearer\s+|sk-|nvapi-)[-\w.]{4,}")
_CONNECT_S = 10.0
_NO_STRUCTURE = frozenset((400, 415, 422, 501))


@dataclass(frozen=True, slots=True)
class Connection:
    """How an endpoint is spoken to.

    Attributes:
        timeout_s: for a whole review, however slowly it drips.
        stream: ask for the reply in pieces: for proxies that cut off silent connections.
        structured: ask for JSON by a schema. Tried with the first request and remembered: a server
            that refuses, or answers in other words, is asked in words alone from then on.
    """

    timeout_s: float = 120.0
    stream: bool = False
    structured: bool = True


class JudgeClient(Protocol):
    """Gives one review. Several may be under way in one event loop.

    Raises:
        ReviewFailed: this review can't be had, or not now.
        JudgeStopped: none can be had.
    """

    async def review(self, request: ReviewRequest) -> Reply: ...

    async def close(self) -> None: ...


class OpenAIJudge:
    """A judge behind `POST {endpoint}/chat/completions`.

    May pass (`ReviewFailed.fault`): time-outs, broken connections and streams, 202, 408, 409, 425,
    429, 5xx, bodies that are no completion. May not: what the endpoint refuses for this request
    alone (400, 413, 422). 401, 403 and 404 stop everything: they will not differ for the next.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        api_key: str | None,
        connection: Connection | None = None,
    ) -> None:
        key = (api_key or "").strip()
        if not re.fullmatch(r"[!-~]*", key):
            # The HTTP library would quote the whole key in its complaint.
            raise ConfigError("the judge's API key has characters that no HTTP header may hold")
        self._secret = key
        connection = connection or Connection()
        timeout_s = self._timeout_s = connection.timeout_s
        self._stream = connection.stream
        self._structured: bool | None = None if connection.structured else False
        self._first_try = asyncio.Lock()
        # openai reads the key, organization and project of OpenAI's own service from the
        # environment; none of them is this endpoint's business.
        foreign = {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
        self._client = openai.AsyncOpenAI(
            base_url=endpoint,
            api_key=key or _NO_KEY,
            timeout=openai.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_S)),
            max_retries=0,
            default_headers=cast("Mapping[str, str]", foreign),
        )

    async def close(self) -> None:
        await self._client.close()

    async def review(self, request: ReviewRequest) -> Reply:
        if self._structured is None:
            async with self._first_try:
                if self._structured is None:
                    return await self._try_structure(request)
        return await self._ask(request, structured=bool(self._structured))

    async def _try_structure(self, request: ReviewRequest) -> Reply:
        try:
            reply = await self._ask(request, structured=True)
        except _Refused as error:
            if error.status not in _NO_STRUCTURE:
                raise
            self._structured = False
            return await self._ask(request, structured=False)
        self._structured = reply.content.lstrip().startswith("{")
        return reply

    async def _ask(self, request: ReviewRequest, *, structured: bool) -> Reply:
        body: dict[str, Any] = request.to_json()
        if structured:
            schema = {"name": "review", "strict": True, "schema": TRAITS[request.mode].schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if self._stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        failure: ReviewFailed | JudgeStopped
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._send(body)
        except TimeoutError:
            failure = ReviewFailed("the judge did not answer in time", fault=Fault.OVERLOADED)
        except openai.APIStatusError as error:
            failure = explain(error, request.model, self._redacted)
            if isinstance(failure, ReviewFailed) and failure.fault is None:
                failure = _Refused(failure, error.status_code)
        except openai.OpenAIError as error:
            failure = explain(error, request.model, self._redacted)
        except httpx2.HTTPError:  # openai translates only what happens before the body
            failure = ReviewFailed("the judge's connection broke off", fault=Fault.UNREACHABLE)
        # Raised out here, the failure has no context: openai's errors hold the request, and that
        # holds the key.
        raise failure

    async def _send(self, body: dict[str, Any]) -> Reply:
        completions = self._client.chat.completions.with_streaming_response
        async with completions.create(**body) as response:
            if response.status_code != 200:
                # 202 is an answer to come (NVCF's polling), for which there is no common protocol.
                wait_s = retry_after_s(response.headers.get("retry-after"), 0.0)
                message = f"the judge answered HTTP {response.status_code} and no review"
                raise ReviewFailed(message, fault=Fault.UNUSABLE, wait_s=wait_s)
            if "event-stream" not in response.headers.get("content-type", ""):
                return read_completion(await response.read())
            streamed = StreamedReply()
            async for line in response.iter_lines():
                streamed.feed(line)
            return streamed.reply()

    def _redacted(self, text: str) -> str:
        if self._secret:
            text = text.replace(self._secret, "***")
        return _ANY_KEY.sub(r"\1***", text)


class _Refused(ReviewFailed):
    """The endpoint refuses this request as it is."""

    def __init__(self, failure: ReviewFailed, status: int) -> None:
        super().__init__(failure.message, reason=failure.reason)
        self.status = status
