"""Jobs unlike the demo's: images, tags in the text, a failing judge, a changed ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from pytest_httpserver import HTTPServer

from neva.reasons import Reason
from tests.support.jobs import JobFolder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_images_with_their_tag_in_the_text(tmp_path: Path) -> None:
    job = JobFolder(tmp_path, inference={"insert_media_token": None, "media_type": "image"})
    job.videos.mkdir()
    for name, colour in (("red one.png", (220, 40, 40)), ("ü.jpg", (40, 190, 60))):
        Image.new("RGB", (100, 80), colour).save(job.videos / name)
    job.write_prompts(
        [
            {"image": "red one.png", "text": "<image>What is it?", "question_id": "a/1"},
            {"image": "ü.jpg", "text": "What is it? <image>", "question_id": "ß"},
            {"image": "ü.jpg", "text": "What is it?", "question_id": "blind"},
        ]
    )
    job.spec["failure"] = {"failOnError": 1}
    job.write_job()
    code, printed = job.run()
    assert code == 0, printed
    rows = job.lines("outputs.jsonl")
    assert [row["question_id"] for row in rows] == ["a/1", "ß"]
    assert [row["frames"] for row in rows] == [[0], [0]]
    assert "USER: <image>\nWhat is it? ASSISTANT:" in rows[0]["full_text"]
    (error,) = job.lines("errors.jsonl")
    assert (error["question_id"], error["reason"]) == ("blind", "MediaTokenConflict")


def test_a_judge_that_can_not_be_had_leaves_answers_and_report(
    make_job: Callable[..., JobFolder], httpserver: HTTPServer, clips: Path
) -> None:
    httpserver.expect_request("/v1/chat/completions").respond_with_data("no", status=401)
    judge = {
        "endpoint": httpserver.url_for("/v1"),
        "model": "judge",
        "against": [str(clips / "reference.jsonl")],
    }
    job = make_job(num_clips=1, spec={"judge": judge}, environment={"API_TOKEN": "wrong"})
    code, printed = job.run()
    assert code == 2, printed
    assert "JudgeUnavailable" in printed
    assert len(job.lines("outputs.jsonl")) == 3
    assert json.loads(job.output.get("summary.json"))["answered"] == 3
    assert b"It " in job.output.get("report.html")
    assert job.output.head("_SUCCESS") is None
    # Once the judge answers, the same command goes on with the judge alone.
    httpserver.clear()
    reply = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "judge",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "8 7\nwell"},
            }
        ],
    }
    httpserver.expect_request("/v1/chat/completions").respond_with_json(reply)
    code, printed = job.run()
    assert code == 0, printed
    assert "answering" not in printed
    assert json.loads(job.output.get("summary.json"))["judge"]["num_judged"] == 3
    assert job.output.head("_SUCCESS") is not None


def test_a_broker_that_is_not_there_is_named(make_job: Callable[..., JobFolder]) -> None:
    url = "redis://me:secret@127.0.0.1:1/0"
    job = make_job(num_clips=1, environment={"NEVA_REDIS_URL": url})
    code, printed = job.run()
    assert code == 1, printed
    assert f"error ({Reason.BROKER_UNAVAILABLE}): the broker (NEVA_REDIS_URL) can't" in printed
    assert "secret" not in printed


def test_a_ledger_that_was_tampered_with_stops_the_run_with_its_reason(
    make_job: Callable[..., JobFolder],
) -> None:
    job = make_job(num_clips=2, max_rows=3)
    process = job.start()
    while job.output.head("manifest.json") is None:
        assert process.poll() is None
    (pack,) = (item.key for item in job.output.list("inputs/00000-"))
    job.output.put(pack, b"junk\n")
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 1, printed
    assert "LedgerCorrupt" in printed
    assert f"{pack} was overwritten" in printed
