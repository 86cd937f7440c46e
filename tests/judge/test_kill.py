"""SIGKILL in the middle of judging, and the same command again."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

NUM_QUESTIONS = 30
NUM_ANSWERED_BEFORE_DEATH = 20


def write(path: Path, records: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def test_a_killed_judge_goes_on_and_pays_for_no_written_review_again(
    tmp_path: Path, httpserver: HTTPServer
) -> None:
    # The endpoint is no part of a review's identity, so each run may have a path of its own: what
    # the killed run had still under way can't be taken for a request of the second.
    seen: dict[str, list[str]] = {"/first": [], "/second": []}
    stuck, go_on = threading.Event(), threading.Event()

    def handle(request: Request) -> Response:
        run = seen[request.path.removesuffix("/chat/completions")]
        run.append(json.loads(request.data)["messages"][-1]["content"])
        if len(run) > NUM_ANSWERED_BEFORE_DEATH and run is seen["/first"]:
            stuck.set()
            go_on.wait(60)
        message = {"role": "assistant", "content": "8 7\nwords"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        reply = {"id": "x", "object": "chat.completion", "created": 0, "model": "m"}
        return Response(json.dumps({**reply, "choices": [choice]}), content_type="application/json")

    for path in seen:
        httpserver.expect_request(f"{path}/chat/completions").respond_with_handler(handle)
    ids = range(NUM_QUESTIONS)
    command = [
        *(sys.executable, "-m", "judge", "judge", "--output", str(tmp_path / "out")),
        "--question-file",
        write(tmp_path / "q.jsonl", [{"question_id": n, "text": f"Q{n}?"} for n in ids]),
        *("--model", "m", "--concurrency", "2"),
    ]
    for name in ("a", "b"):
        answers = [{"question_id": n, "text": f"{name}{n}"} for n in ids]
        command += ["--answers", f"{name}={write(tmp_path / f'{name}.jsonl', answers)}"]
    with subprocess.Popen([*command, "--endpoint", httpserver.url_for("/first")]) as process:
        try:
            assert stuck.wait(60)
            time.sleep(0.5)  # what was answered is being written
        finally:
            process.kill()
            process.wait()
            go_on.set()
    parts = tmp_path / "out/judge/parts"
    written = sum(len(part.read_bytes().splitlines()) for part in parts.iterdir())
    assert written == NUM_ANSWERED_BEFORE_DEATH
    command += ["--endpoint", httpserver.url_for("/second")]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert f"judged={NUM_QUESTIONS} failed=0" in result.stdout
    assert len(seen["/second"]) == 2 * NUM_QUESTIONS - written
    assert len({*seen["/first"], *seen["/second"]}) == 2 * NUM_QUESTIONS
