from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from judge.client import Connection, OpenAIJudge
from judge.completion import Reply
from judge.errors import Fault, JudgeStopped, ReviewFailed
from judge.faults import retry_after_s
from judge.modes import TRAITS, Mode
from judge.prompt import Message
from judge.request import ReviewRequest, Sampling
from neva.errors import ConfigError, NevaError
from neva.reasons import Reason
from tests.fakes.judge_endpoint import (
    Handler,
    Log,
    Seen,
    Writer,
    chunk,
    completion,
    send,
    send_events,
    send_json,
    serving,
    start_stream,
)

KEY = "nvapi-topsecret-0123456789"
REQUEST = ReviewRequest("judge-1", (Message("system", "S"), Message("user", "U")), Sampling())
PLAIN = Connection(timeout_s=10, structured=False)


def ask(
    handler: Handler,
    *requests: ReviewRequest,
    connection: Connection = PLAIN,
    key: str | None = KEY,
) -> tuple[list[Reply], Log]:
    """Replies to `requests`, one after the other, over one connection."""

    async def all_of(url: str) -> list[Reply]:
        judge = OpenAIJudge(url, api_key=key, connection=connection)
        try:
            return [await judge.review(request) for request in requests or (REQUEST,)]
        finally:
            await judge.close()

    with serving(handler) as (url, log):
        return asyncio.run(all_of(url)), log


def failure_of(handler: Handler, connection: Connection = PLAIN) -> ReviewFailed:
    with pytest.raises(ReviewFailed) as caught:
        ask(handler, connection=connection)
    return caught.value


def answering(record: Any, status: int = 200, **headers: str) -> Handler:
    async def handle(seen: Seen, writer: Writer) -> None:
        await send_json(writer, record, status, **headers)

    return handle


def refusing(status: int, words: str = "no", **headers: str) -> Handler:
    return answering({"error": {"message": words}}, status, **headers)


def streaming(*events: dict[str, Any] | str, space: str = " ") -> Handler:
    async def handle(seen: Seen, writer: Writer) -> None:
        await start_stream(writer)
        await send_events(writer, *events, space=space)
        writer.close()

    return handle


def sending(body: bytes, status: int = 200, content_type: str = "application/json") -> Handler:
    async def handle(seen: Seen, writer: Writer) -> None:
        await send(writer, status, body, content_type)

    return handle


def test_a_reply_comes_with_its_model_and_tokens() -> None:
    (reply,), log = ask(answering(completion("8 7\nwords", (11, 2))))
    assert (reply.content, reply.served_model) == ("8 7\nwords", "judge-1-2024")
    assert (reply.num_prompt_tokens, reply.num_completion_tokens) == (11, 2)
    assert f"authorization: bearer {KEY}" in log.seen[0].headers.lower()
    assert log.seen[0].body == {
        "model": "judge-1",
        "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}],
        "temperature": 0.2,
        "top_p": 0.7,
        "max_tokens": 1024,
        "seed": 42,
    }


@pytest.mark.parametrize("space", [" ", ""])
def test_a_stream_is_put_together_whatever_chunks_it_has(space: str) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 4}}
    empty = {**chunk(), "choices": [{"index": 0, "delta": {"content": None}}]}
    bare = {"choices": [{"index": 0}]}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    handler = streaming(
        chunk(),
        chunk("8"),
        empty,
        chunk(" 7"),
        bare,
        chunk("\nwords"),
        end,
        usage,
        "[DONE]",
        space=space,
    )
    (reply,), log = ask(handler, connection=Connection(stream=True, structured=False))
    assert reply == Reply("8 7\nwords", "m", "stop", 11, 4)
    assert log.seen[0].body["stream"] is True


def test_an_endpoint_may_stream_without_being_asked_or_not_stream_though_asked() -> None:
    (reply,), _ = ask(streaming(chunk("8 7"), "[DONE]"))
    assert reply.content == "8 7"
    (reply,), _ = ask(answering(completion("8 7")), connection=Connection(stream=True))
    assert reply.content == "8 7"


def test_a_stream_that_breaks_off_is_no_reply() -> None:
    failed = failure_of(streaming(chunk("8 7"), chunk("\nbecause")))
    assert (failed.fault, failed.message) == (Fault.UNUSABLE, "the endpoint's stream broke off")


def test_a_body_that_breaks_off_is_no_reply() -> None:
    async def handle(seen: Seen, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()

    failed = failure_of(handle)
    assert (failed.fault, "broke off" in failed.message) == (Fault.UNREACHABLE, True)


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_reply_that_drips_too_slowly_is_given_up(is_stream: bool) -> None:
    async def handle(seen: Seen, writer: Writer) -> None:
        if is_stream:
            await start_stream(writer)
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    failed = failure_of(handle, Connection(timeout_s=0.4, structured=False))
    assert (failed.fault, failed.message) == (Fault.OVERLOADED, "the judge did not answer in time")


@pytest.mark.parametrize(
    ("handler", "words", "reason"),
    [
        (answering(completion(None)), "empty", Reason.VERDICT_UNREADABLE),
        (answering(completion("  \n")), "empty", Reason.VERDICT_UNREADABLE),
        (answering({**completion("8 7"), "choices": []}), "no chat", Reason.JUDGE_UNAVAILABLE),
        (answering({"detail": "hello"}), "no chat completion", Reason.JUDGE_UNAVAILABLE),
        (sending(b"<html>", content_type="text/html"), "no JSON", Reason.JUDGE_UNAVAILABLE),
        (sending(b"{"), "no JSON", Reason.JUDGE_UNAVAILABLE),
        (sending(b"", status=202), "HTTP 202", Reason.JUDGE_UNAVAILABLE),
        (streaming("[DONE]"), "empty", Reason.VERDICT_UNREADABLE),
        (streaming(), "no chat completion", Reason.JUDGE_UNAVAILABLE),
        (streaming(chunk("8"), "{oops"), "no JSON", Reason.JUDGE_UNAVAILABLE),
    ],
)
def test_a_reply_without_words_is_a_named_failure_that_may_pass(
    handler: Handler, words: str, reason: Reason
) -> None:
    failed = failure_of(handler)
    assert words in failed.message
    assert (failed.reason, failed.fault) == (reason, Fault.UNUSABLE)


def test_an_error_in_a_stream_is_an_overload() -> None:
    failed = failure_of(streaming(chunk("8"), {"error": {"message": "engine died"}}))
    assert failed.fault is Fault.OVERLOADED


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_stops_everything(status: int) -> None:
    with pytest.raises(JudgeStopped, match="API_TOKEN") as caught:
        ask(refusing(status, "bad key"))
    assert caught.value.reason is Reason.JUDGE_DENIED


def test_an_unknown_model_stops_everything() -> None:
    with pytest.raises(JudgeStopped, match="judge-1"):
        ask(refusing(404))


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (408, Fault.OVERLOADED),
        (409, Fault.OVERLOADED),
        (429, Fault.THROTTLED),
        (500, Fault.OVERLOADED),
        (503, Fault.OVERLOADED),
    ],
)
def test_a_passing_failure_says_what_kind_it_is(status: int, fault: Fault) -> None:
    failed = failure_of(refusing(status, "boom"))
    assert (failed.fault, failed.wait_s) == (fault, None)
    assert f"HTTP {status}" in failed.message and "boom" in failed.message


def test_retry_after_is_handed_on() -> None:
    assert failure_of(refusing(429, retry_after="17")).wait_s == 17


def test_a_refused_request_is_that_requests_alone() -> None:
    failed = failure_of(refusing(400, "context length"))
    assert (failed.reason, failed.fault) == (Reason.JUDGE_REFUSED, None)


def test_an_endpoint_that_is_not_there_is_a_named_failure() -> None:
    async def review() -> None:
        judge = OpenAIJudge("http://127.0.0.1:9/v1", api_key=None)
        try:
            await judge.review(REQUEST)
        finally:
            await judge.close()

    with pytest.raises(ReviewFailed, match="can't be reached") as caught:
        asyncio.run(review())
    assert caught.value.fault is Fault.UNREACHABLE


def structured_if(accepts: Callable[[dict[str, Any]], bool], status: int = 400) -> Handler:
    """An endpoint that takes a schema or refuses it."""

    async def handle(seen: Seen, writer: Writer) -> None:
        if "response_format" not in seen.body:
            await send_json(writer, completion("8 7"))
        elif accepts(seen.body):
            await send_json(writer, completion('{"first": 8, "second": 7, "explanation": ""}'))
        else:
            await send_json(writer, {"error": {"message": "unknown field"}}, status)

    return handle


def test_json_by_a_schema_is_asked_for_where_the_endpoint_can() -> None:
    replies, log = ask(structured_if(lambda _: True), *[REQUEST] * 3, connection=Connection())
    assert all(reply.content.startswith("{") for reply in replies)
    formats = [seen.body["response_format"]["json_schema"]["schema"] for seen in log.seen]
    assert formats == [TRAITS[Mode.SCORES].schema] * 3


@pytest.mark.parametrize("status", [400, 422])
def test_an_endpoint_that_refuses_a_schema_is_asked_once_for_it(status: int) -> None:
    replies, log = ask(
        structured_if(lambda _: False, status), *[REQUEST] * 3, connection=Connection()
    )
    assert [reply.content for reply in replies] == ["8 7"] * 3
    assert ["response_format" in seen.body for seen in log.seen] == [True, False, False, False]


def test_an_endpoint_that_ignores_a_schema_is_asked_once_for_it() -> None:
    replies, log = ask(answering(completion("8 7")), *[REQUEST] * 3, connection=Connection())
    assert [reply.content for reply in replies] == ["8 7"] * 3
    assert ["response_format" in seen.body for seen in log.seen] == [True, False, False]


def test_what_is_refused_with_and_without_a_schema_is_refused() -> None:
    assert failure_of(refusing(400, "too long"), Connection()).reason is Reason.JUDGE_REFUSED


@pytest.mark.parametrize("status", [401, 400, 429])
def test_no_error_and_no_log_holds_the_key(status: int, caplog: pytest.LogCaptureFixture) -> None:
    handler = refusing(status, f"Incorrect API key {KEY} or Bearer {KEY[:-2]}zz")
    with caplog.at_level(logging.DEBUG), pytest.raises(NevaError) as caught:
        ask(handler)
    chain: BaseException | None = caught.value
    while chain is not None:
        assert "topsecret" not in "".join(traceback.format_exception(chain)) + repr(vars(chain))
        chain = chain.__cause__ or chain.__context__
    assert "topsecret" not in caplog.text


def test_a_key_that_no_header_may_hold_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        OpenAIJudge("http://127.0.0.1:9/v1", api_key="secret\nsecond line")
    assert "secret" not in str(caught.value)


def test_keys_for_other_services_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-someone-elses")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    _, log = ask(answering(completion("8 7")), key=None)
    sent = log.seen[0].headers + json.dumps(log.seen[0].body)
    assert not any(word in sent for word in ("someone", "org-1", "proj-1"))


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("nan", None),
        ("2", 2.0),
        ("0.5", 0.5),
        ("Thu, 01 Jan 1970 00:16:50 GMT", 10.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, wait_s: float | None) -> None:
    assert retry_after_s(header, now=1000.0) == wait_s
