"""SIGKILL in the middle of judging, and the same command again."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
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
    seen: list[str] = []
    stuck, go_on = threading.Event(), threading.Event()

    def handle(request: Request) -> Response:
        content = json.loads(request.data)["messages"][-1]["content"]
        seen.append(content)
        if len(seen) > NUM_ANSWERED_BEFORE_DEATH and not go_on.is_set():
            stuck.set()
            go_on.wait(60)
        message = {"role": "assistant", "content": "8 7\nwords"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        reply = {"id": "x", "object": "chat.completion", "created": 0, "model": "m"}
        return Response(json.dumps({**reply, "choices": [choice]}), content_type="application/json")

    httpserver.expect_request("/v1/chat/completions").respond_with_handler(handle)
    ids = range(NUM_QUESTIONS)
    command = [
        *(sys.executable, "-m", "judge", "judge", "--output", str(tmp_path / "out")),
        "--question-file",
        write(tmp_path / "q.jsonl", [{"question_id": n, "text": f"Q{n}?"} for n in ids]),
        *("--endpoint", httpserver.url_for("/v1"), "--model", "m", "--concurrency", "2"),
    ]
    for name in ("a", "b"):
        answers = [{"question_id": n, "text": f"{name}{n}"} for n in ids]
        command += ["--answers", f"{name}={write(tmp_path / f'{name}.jsonl', answers)}"]
    with subprocess.Popen(command) as process:
        try:
            assert stuck.wait(60)
        finally:
            process.kill()
            process.wait()
            go_on.set()
    parts = tmp_path / "out/judge/parts"
    written = sum(len(part.read_bytes().splitlines()) for part in parts.iterdir())
    assert written >= 16
    asked_before = list(seen)
    seen.clear()
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert f"judged={NUM_QUESTIONS} failed=0" in result.stdout
    assert len(seen) == 2 * NUM_QUESTIONS - written
    assert set(seen) | set(asked_before[:written]) == set(seen + asked_before)
