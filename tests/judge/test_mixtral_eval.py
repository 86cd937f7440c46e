"""NeMo's script by its own flags, on files of llava-bench-in-the-wild's shape."""

from __future__ import annotations

import json
import re
import shlex
import threading
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from typer.testing import CliRunner
from werkzeug import Request, Response

from judge.mixtral_eval import app, repeated

CATEGORIES = ["complex"] * 28 + ["conv"] * 17 + ["detail"] * 15
SCORES = {"complex": (8, 7), "conv": (9.5, 7.5), "detail": (9, 7)}
TABLE = (
    "all 86.8 71.4\n"
    "llava_bench_complex 80.0 70.0\n"
    "llava_bench_conv 95.0 75.0\n"
    "llava_bench_detail 90.0 70.0\n"
    "=================================\n"
)
BENCH = Path("llava-bench-in-the-wild")


def write(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """60 questions about 24 images; bard's answers in the other shape, and in another order."""
    monkeypatch.chdir(tmp_path)
    BENCH.mkdir()
    images = [f"{n % 24 + 1:03}.jpg" for n in range(60)]
    questions = [
        {"question_id": n, "image": images[n], "text": f"What about {n}?", "category": category}
        for n, category in enumerate(CATEGORIES)
    ]
    write(BENCH / "questions.jsonl", questions)
    write(
        BENCH / "context.jsonl",
        [{"id": f"{n:03}", "image": f"{n:03}.jpg", "caption": f"Image {n}."} for n in range(1, 25)],
    )
    gpt = [
        {
            "question_id": n,
            "prompt": f"What about {n}?",
            "answer_id": f"id{n}",
            "model_id": "gpt-4-0314",
            "metadata": {},
            "text": f"gpt says {n}",
        }
        for n in range(60)
    ]
    write(BENCH / "answers_gpt4.jsonl", gpt)
    bard = [{"response_id": n, "response": f"bard says {n}"} for n in reversed(range(60))]
    write(BENCH / "bard_0718.jsonl", bard)
    rules = {
        f"llava_bench_{name}": {"role": "Assistant", "prompt": f"RULE llava_bench_{name}"}
        for name in SCORES
    }
    Path("rule.json").write_text(json.dumps(rules))
    return tmp_path


class Mixtral:
    """Gives each category's scores, whichever answer comes first; counts what it is asked."""

    def __init__(self, server: HTTPServer) -> None:
        self.asked: list[str] = []
        self.unreadable: set[int] = set()
        self._lock = threading.Lock()
        server.expect_request("/v1/chat/completions").respond_with_handler(self._answer)
        self.endpoint = server.url_for("/v1")

    def _answer(self, request: Request) -> Response:
        content = json.loads(request.data)["messages"][-1]["content"]
        with self._lock:
            self.asked.append(content)
        question = re.search(r"What about (\d+)\?", content)
        assert question is not None
        scores = SCORES[CATEGORIES[int(question[1])]]
        if content.index("gpt says") > content.index("bard says"):
            scores = scores[::-1]
        reply = f"{scores[0]} {scores[1]}\nwords"
        if int(question[1]) in self.unreadable:
            reply = "I can't say."
        message = {"role": "assistant", "content": reply}
        body = {"id": "x", "object": "chat.completion", "created": 0, "model": "mixtral"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return Response(json.dumps({**body, "choices": [choice]}), content_type="application/json")


@pytest.fixture
def mixtral(httpserver: HTTPServer) -> Mixtral:
    return Mixtral(httpserver)


def guide(mixtral: Mixtral, *more: str) -> Any:
    """The guide's example command; its endpoint alone is ours."""
    command = (
        "--model-name-list gpt bard --media-type image "
        "--question-file llava-bench-in-the-wild/questions.jsonl "
        "--responses-list llava-bench-in-the-wild/answers_gpt4.jsonl "
        "llava-bench-in-the-wild/bard_0718.jsonl --answers-dir ./ "
        "--context-file llava-bench-in-the-wild/context.jsonl --output ./output.json"
    )
    env = {"API_TOKEN": "nvapi-x"}
    return CliRunner().invoke(
        app, [*shlex.split(command), "--endpoint", mixtral.endpoint, *more], env=env
    )


def test_the_guides_command_prints_the_originals_table(bench: Path, mixtral: Mixtral) -> None:
    result = guide(mixtral)
    assert result.exit_code == 0, result.output
    assert result.stdout == TABLE
    assert len(mixtral.asked) == 120
    assert "60 questions about 24 videos or images can show differences above" in result.stderr
    assert "by our own rubric" not in result.stderr
    reviews = [json.loads(line) for line in Path("output.json").read_text().splitlines()]
    assert len(reviews) == 60
    assert reviews[30]["tuple"] == [9.5, 7.5]
    assert reviews[30]["category"] == "llava_bench_conv"
    answers = [json.loads(line) for line in Path("bard_answer.jsonl").read_text().splitlines()]
    assert (answers[5]["question_id"], answers[5]["text"]) == (5, "bard says 5")
    assert answers[5]["answer_id"] == reviews[5]["answer2_id"]


def test_run_again_it_asks_nothing_and_no_file_has_to_be_removed(
    bench: Path, mixtral: Mixtral
) -> None:
    guide(mixtral)
    written = Path("output.json").read_bytes()
    assert guide(mixtral).stdout == TABLE
    assert len(mixtral.asked) == 120
    assert Path("output.json").read_bytes() == written


def test_failures_are_counted_and_only_nemos_arithmetic_averages_them(
    bench: Path, mixtral: Mixtral
) -> None:
    mixtral.unreadable = {59}
    result = guide(mixtral, "--compat", "nemo", "--one-order")
    assert len(mixtral.asked) == 60
    ours, _, nemos = result.stdout.partition("as NeMo reckons: one order, failed reviews")
    assert "llava_bench_detail 90.0 70.0\n" in ours
    assert "llava_bench_detail 83.3 64.7\n" in nemos
    assert "without a verdict, in no mean: VerdictUnreadable 1" in result.stderr


def test_programs_get_one_document(bench: Path, mixtral: Mixtral) -> None:
    mixtral.unreadable = {59}
    told = json.loads(guide(mixtral, "--compat", "nemo", "--one-order", "-o", "json").stdout)
    assert told["categories"]["detail"]["scores"] == [90.0, 70.0]
    assert told["nemo"]["llava_bench_detail"] == [83.3, 64.7]
    assert told["failed_by_reason"] == {"VerdictUnreadable": 1}
    assert told["reviews"] == "output.json" and told["report"].endswith("/output.judge/report.html")


def test_one_missing_answer_shifts_nothing(bench: Path, mixtral: Mixtral) -> None:
    path = BENCH / "answers_gpt4.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    result = guide(mixtral)
    assert len(mixtral.asked) == 118
    assert "without a verdict, in no mean: AnswerMissing 1" in result.stderr
    assert "llava_bench_complex 80.0 70.0\n" in result.stdout


def test_videos_do_as_well_as_images(bench: Path, mixtral: Mixtral) -> None:
    for name in ("questions.jsonl", "context.jsonl"):
        path = BENCH / name
        path.write_text(path.read_text().replace('"image"', '"video"').replace(".jpg", ".mp4"))
    assert guide(mixtral, "--media-type", "video").stdout == TABLE


def test_a_chunk_alone(bench: Path, mixtral: Mixtral) -> None:
    result = guide(mixtral, "--num-chunks", "4", "--chunk-idx", "3")
    assert result.stdout.startswith("all 90.0 70.0\nllava_bench_detail 90.0 70.0\n===")
    assert len(mixtral.asked) == 30


def test_without_a_rule_file_our_rubric_is_taken_and_named(bench: Path, mixtral: Mixtral) -> None:
    Path("rule.json").unlink()
    result = guide(mixtral, "--num-chunks", "60")
    assert result.exit_code == 0, result.output
    assert "by our own rubric" in result.stderr
    assert not any("RULE llava_bench" in asked for asked in mixtral.asked)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--responses-list a.jsonl", "two files or more"),
        ("--responses-list a.jsonl b.jsonl --model-name-list one", "1 names for 2 files"),
        ("--responses-list a.jsonl b.jsonl --model-name-list x x", "a name of its own"),
        ("--responses-list a.jsonl b.jsonl --endpoint ftp://x", "must start with http"),
        ("--responses-list a.jsonl b.jsonl", "question.jsonl does not exist"),
    ],
)
def test_wrong_flags_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, arguments.split())
    assert result.exit_code == 2
    assert words in result.stderr


def test_lists_of_words_are_read_as_argparse_does() -> None:
    words = shlex.split("--a 1 --list x y z --b")
    assert repeated(words, ["--list"]) == shlex.split("--a 1 --list x --list y --list z --b")
