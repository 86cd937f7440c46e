from __future__ import annotations

import json
import logging
import threading
import traceback
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import stamina
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from judge.client import OpenAIJudge, ReviewRequest, Sampling
from judge.errors import JudgeStopped, ReviewFailed
from judge.faults import retry_after_s
from judge.prompt import Message
from neva.errors import ConfigError, NevaError
from neva.reasons import Reason

KEY = "nvapi-topsecret-0123456789"
REQUEST = ReviewRequest("judge-1", (Message("system", "S"), Message("user", "U")), Sampling())
PATH = "/v1/chat/completions"


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    stamina.set_testing(True, attempts=4)
    yield
    stamina.set_testing(False)


@pytest.fixture
def judge(httpserver: HTTPServer) -> Iterator[OpenAIJudge]:
    client = OpenAIJudge(httpserver.url_for("/v1"), api_key=KEY, timeout_s=10)
    yield client
    client.close()


def completion(content: str | None = "8 7\nwords") -> dict[str, Any]:
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "judge-1-2024",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13},
    }


def answers(httpserver: HTTPServer, *responses: Response | dict[str, Any]) -> list[Request]:
    """Give these responses in turn, the last one for ever; returns the requests as they come."""
    seen: list[Request] = []

    def handle(request: Request) -> Response:
        seen.append(request)
        response = responses[min(len(seen), len(responses)) - 1]
        if isinstance(response, Response):
            return response
        return Response(json.dumps(response), content_type="application/json")

    httpserver.expect_request(PATH, method="POST").respond_with_handler(handle)
    return seen


def failure(status: int, words: str = "no", **headers: str) -> Response:
    body = json.dumps({"error": {"message": words}})
    return Response(body, status, headers, content_type="application/json")


def test_a_reply_comes_with_its_model_and_tokens(
    httpserver: HTTPServer, judge: OpenAIJudge
) -> None:
    seen = answers(httpserver, completion())
    reply = judge.review(REQUEST)
    assert (reply.content, reply.served_model) == ("8 7\nwords", "judge-1-2024")
    assert (reply.num_prompt_tokens, reply.num_completion_tokens) == (11, 2)
    assert seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert json.loads(seen[0].data) == {
        "model": "judge-1",
        "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}],
        "temperature": 0.2,
        "top_p": 0.7,
        "max_tokens": 1024,
        "seed": 42,
    }


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_stops_at_once(
    httpserver: HTTPServer, judge: OpenAIJudge, status: int
) -> None:
    seen = answers(httpserver, failure(status, "bad key"))
    with pytest.raises(JudgeStopped, match="API_TOKEN") as caught:
        judge.review(REQUEST)
    assert caught.value.reason is Reason.JUDGE_DENIED
    assert len(seen) == 1


def test_an_unknown_model_stops_at_once(httpserver: HTTPServer, judge: OpenAIJudge) -> None:
    seen = answers(httpserver, failure(404))
    with pytest.raises(JudgeStopped, match="judge-1"):
        judge.review(REQUEST)
    assert len(seen) == 1


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_a_passing_failure_is_tried_again(
    httpserver: HTTPServer, judge: OpenAIJudge, status: int
) -> None:
    seen = answers(httpserver, failure(status), completion())
    assert judge.review(REQUEST).content == "8 7\nwords"
    assert len(seen) == 2


def test_retry_after_decides_the_wait(
    httpserver: HTTPServer, judge: OpenAIJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamina.set_testing(False)
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=waits.append))
    answers(httpserver, failure(429, **{"Retry-After": "17"}), failure(503), completion())
    judge.review(REQUEST)
    assert waits[0] == 17
    assert 0 < waits[1] <= 3


def test_a_wait_of_an_hour_is_not_waited_for(httpserver: HTTPServer, judge: OpenAIJudge) -> None:
    seen = answers(httpserver, failure(429, **{"Retry-After": "3600"}))
    with pytest.raises(ReviewFailed, match="429"):
        judge.review(REQUEST)
    assert len(seen) == 1


def test_a_lasting_failure_ends_as_a_named_one(httpserver: HTTPServer, judge: OpenAIJudge) -> None:
    seen = answers(httpserver, failure(500, "boom"))
    with pytest.raises(ReviewFailed, match=r"HTTP 500: .*boom") as caught:
        judge.review(REQUEST)
    assert caught.value.reason is Reason.JUDGE_UNAVAILABLE
    assert len(seen) == 4


def test_a_refused_request_is_not_repeated(httpserver: HTTPServer, judge: OpenAIJudge) -> None:
    seen = answers(httpserver, failure(400, "context length"))
    with pytest.raises(ReviewFailed, match="context length") as caught:
        judge.review(REQUEST)
    assert caught.value.reason is Reason.JUDGE_REFUSED
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (completion(None), "empty"),
        (completion("  \n"), "empty"),
        ({**completion(), "choices": []}, "no chat completion"),
        ({"detail": "hello"}, "no chat completion"),
        (Response("<html>", content_type="text/html"), "no chat completion"),
        (Response("{", content_type="application/json"), "no JSON"),
        (Response("", 202, content_type="application/json"), "no JSON"),
    ],
)
def test_a_reply_without_words_is_a_named_failure(
    httpserver: HTTPServer, judge: OpenAIJudge, response: Any, words: str
) -> None:
    answers(httpserver, response)
    with pytest.raises(ReviewFailed, match=words):
        judge.review(REQUEST)


def test_a_silent_endpoint_times_out(httpserver: HTTPServer) -> None:
    given_up = threading.Event()

    def handle(request: Request) -> Response:
        given_up.wait(30)
        return Response("{}")

    httpserver.expect_request(PATH).respond_with_handler(handle)
    stamina.set_testing(True, attempts=1)
    judge = OpenAIJudge(httpserver.url_for("/v1"), api_key=None, timeout_s=0.05)
    try:
        with pytest.raises(ReviewFailed, match="in time"):
            judge.review(REQUEST)
    finally:
        given_up.set()
        judge.close()


def test_an_endpoint_that_is_not_there_is_a_named_failure() -> None:
    judge = OpenAIJudge("http://127.0.0.1:9/v1", api_key=None)
    with pytest.raises(ReviewFailed, match="can't be reached"):
        judge.review(REQUEST)
    judge.close()


@pytest.mark.parametrize("status", [401, 400, 429])
def test_no_error_and_no_log_holds_the_key(
    httpserver: HTTPServer, judge: OpenAIJudge, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    answers(httpserver, failure(status, f"Incorrect API key {KEY} or Bearer {KEY[:-2]}zz"))
    with caplog.at_level(logging.DEBUG), pytest.raises(NevaError) as caught:
        judge.review(REQUEST)
    chain: BaseException | None = caught.value
    while chain is not None:
        assert "topsecret" not in "".join(traceback.format_exception(chain)) + repr(vars(chain))
        chain = chain.__cause__ or chain.__context__
    assert "topsecret" not in caplog.text
    assert "topsecret" not in repr(judge)


def test_a_key_that_no_header_may_hold_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        OpenAIJudge("http://127.0.0.1:9/v1", api_key="secret\nsecond line")
    assert "secret" not in str(caught.value)


def test_keys_for_other_services_stay_here(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-someone-elses")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    seen = answers(httpserver, completion())
    judge = OpenAIJudge(httpserver.url_for("/v1"), api_key=None)
    judge.review(REQUEST)
    judge.close()
    sent = str(seen[0].headers)
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
