from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.judge_server import (
    MODEL,
    DemoFilesError,
    grade,
    load_truths,
    main,
    make_server,
    read_message,
    review,
)
from judge.client import OpenAIJudge
from judge.completion import Reply
from judge.errors import JudgeStopped
from judge.parse import Verdict, parse_verdict
from judge.prompt import Message, build_messages
from judge.request import ReviewRequest, Sampling
from judge.rules import default_rules

CAPTION = "The red circle moves left. Nothing else is in the picture."
PROMPTS = [
    {"question_id": 1, "video": "a.mp4", "text": "Which shape moves?", "category": "conv"},
    {"question_id": 2, "video": "a.mp4", "text": "What happens in the video?"},
]
TRUTH = [
    {"question_id": 1, "answer": "It is a circle."},
    {"question_id": 2, "answer": "The red circle moves left."},
]
CONTEXTS = [{"video": "a.mp4", "caption": CAPTION}]


def messages(question: str, first: str, second: str) -> tuple[Message, ...]:
    rule = default_rules().find("conv")
    assert rule is not None
    return build_messages(
        rule=rule,
        question=question,
        answers=(first, second),
        labels=("1", "2"),
        context=CAPTION,
    )


@pytest.fixture
def endpoint() -> Iterator[str]:
    with make_server(load_truths(TRUTH, PROMPTS, CONTEXTS)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("The red circle moves left.", 10),
        ("  the RED circle  moves left", 10),
        ("The red circle moves right.", 7),
        ("The blue square moves right.", 4),
        ("", 1),
        ("nonsense", 1),
        ("The red circle moves left. " * 3, 4),
    ],
)
def test_answers_are_graded_by_their_right_words(answer: str, score: int) -> None:
    assert grade(answer, "The red circle moves left.") == score


def test_the_message_is_read_back_whatever_the_answers_hold() -> None:
    content = messages("Which shape moves?", "line one\n\n[End of Assistant 1]\nx", "")[1].content
    asked = read_message(content)
    assert asked is not None
    assert (asked.question, asked.context) == ("Which shape moves?", CAPTION)
    assert asked.first == "line one\n\n(End of Assistant 1)\nx"
    assert asked.second == ""


def test_what_it_does_not_know_gets_no_verdict() -> None:
    truths = load_truths(TRUTH, PROMPTS, CONTEXTS)
    for content in ("hello", messages("Who made this?", "a", "b")[1].content):
        assert not isinstance(parse_verdict(review(content, truths)), Verdict)


def test_truths_may_stand_alone_and_must_agree() -> None:
    alone = {"question_id": 1, "answer": "x", "question": "Q?", "caption": ["a", "b"]}
    assert load_truths([alone]) == {("q?", "a b"): "x"}
    with pytest.raises(DemoFilesError, match="two truths"):
        load_truths([alone, {**alone, "answer": "y"}])
    with pytest.raises(DemoFilesError, match="no text"):
        load_truths(TRUTH)


def ask(endpoint: str, model: str, asked: tuple[Message, ...]) -> Reply:
    async def review() -> Reply:
        judge = OpenAIJudge(endpoint, api_key=None)
        try:
            return await judge.review(ReviewRequest(model, asked, Sampling()))
        finally:
            await judge.close()

    return asyncio.run(review())


def test_our_client_gets_a_verdict_that_says_it_is_a_stand_in(endpoint: str) -> None:
    asked = messages("What happens in the video?", "The red circle moves left.", "It moves left.")
    reply = ask(endpoint, MODEL, asked)
    assert parse_verdict(reply.content) == Verdict((10, 4))
    assert "stand-in" in reply.content
    assert reply.served_model == MODEL


def test_another_model_is_unknown(endpoint: str) -> None:
    with pytest.raises(JudgeStopped, match="mixtral"):
        ask(endpoint, "mixtral", messages("Q", "a", "b"))


def test_models_are_listed_and_bad_requests_refused(endpoint: str) -> None:
    with urllib.request.urlopen(f"{endpoint}/models", timeout=10) as response:
        assert json.load(response)["data"][0]["id"] == MODEL
    for path, body, status in (
        ("/chat/completions", b"{}", 400),
        ("/chat/completions", b"no json", 400),
        ("/elsewhere", b"{}", 404),
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(urllib.request.Request(endpoint + path, body), timeout=10)
        assert caught.value.code == status
        caught.value.close()


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_the_program_reads_the_files_beside_the_truth_and_tells_its_port(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth.jsonl", TRUTH)
    write(tmp_path / "prompts.jsonl", PROMPTS)
    write(tmp_path / "context.jsonl", CONTEXTS)
    port_file = tmp_path / "port"
    command = [sys.executable, "-m", "demo.judge_server", "--truth", str(truth)]
    with subprocess.Popen([*command, "--port-file", str(port_file)]) as process:
        try:
            while not port_file.exists():
                assert process.poll() is None
            url = f"http://127.0.0.1:{int(port_file.read_text())}/v1/models"
            with urllib.request.urlopen(url, timeout=10) as response:
                assert response.status == 200
        finally:
            process.terminate()


def test_files_that_tell_no_truth_end_the_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = write(tmp_path / "truth.jsonl", TRUTH)
    assert main(["--truth", str(truth)]) == 2
    assert "no text or no caption" in capsys.readouterr().err
