"""The demo's judge: a stand-in that compares answers with the known truth. No language model.

Speaks enough of the OpenAI API for any client (`POST /v1/chat/completions`, `GET /v1/models`) and
reads the same message a real judge would get. The question and the caption in it tell which truth
it is: the pair is looked up among the demo's own files, as the message holds no id.

    python -m demo.judge_server --truth truth.jsonl --port 0 --port-file judge.port
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MODEL = "truth-comparer-stand-in"
_MAX_BODY_BYTES = 1 << 20
_MESSAGE = re.compile(
    r"(?:\[Context\]\n(?P<context>.*?)\n\n)?\[Question\]\n(?P<question>.*?)\n\n"
    r"\[(?P<role>[^\]\n]+) 1\]\n(?P<first>.*?)\n\n\[End of (?P=role) 1\]\n\n"
    r"\[(?P=role) 2\]\n(?P<second>.*?)\n\n\[End of (?P=role) 2\]\n\n\[System\]\n.*",
    re.DOTALL,
)

Truths = Mapping[tuple[str, str], str]
"""The right answer by question and caption, both as `_plain` has them."""


class DemoFilesError(Exception):
    """The demo's files don't tell one truth for each question."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a judge's message asks."""

    question: str
    context: str
    first: str
    second: str


def read_message(content: str) -> Asked | None:
    """Take a judge's message apart; None if it is no such message."""
    match = _MESSAGE.fullmatch(content)
    if match is None:
        return None
    return Asked(match["question"], match["context"] or "", match["first"], match["second"])


def load_truths(
    truth: Iterable[dict[str, Any]],
    prompts: Iterable[dict[str, Any]] = (),
    contexts: Iterable[dict[str, Any]] = (),
) -> dict[tuple[str, str], str]:
    """Join the demo's files into a truth per (question, caption).

    A line of `truth` may hold `question`, `video` and `caption` itself; what it lacks is taken from
    `prompts` (by question_id) and `contexts` (by video).

    Raises:
        DemoFilesError: a question without text or caption, or one pair with two truths.
    """
    asked = {str(record["question_id"]): record for record in prompts}
    captions = {record.get("video"): record["caption"] for record in contexts}
    truths: dict[tuple[str, str], str] = {}
    for record in truth:
        prompt = asked.get(str(record["question_id"]), {})
        question = record.get("question") or prompt.get("prompt") or prompt.get("text")
        video = record.get("video") or prompt.get("video")
        caption = record.get("caption") or captions.get(video)
        if not question or not caption:
            raise DemoFilesError(f"question {record['question_id']}: no text or no caption")
        key = (_plain(question), _plain(_joined(caption)))
        if truths.setdefault(key, record["answer"]) != record["answer"]:
            raise DemoFilesError(f"question {record['question_id']}: two truths for {key}")
    return truths


def grade(answer: str, truth: str) -> int:
    """10 for the truth (but for case, spaces and a final full stop), else 1 to 9 by the share of
    words that are right, counted against the longer of both so that rambling doesn't pay."""
    if _plain(answer) == _plain(truth):
        return 10
    said, right = Counter(_plain(answer).split()), Counter(_plain(truth).split())
    longer = max(said.total(), right.total())
    share = (said & right).total() / longer if longer else 0.0
    return 1 + round(8 * share)


def review(content: str, truths: Truths) -> str:
    """The stand-in's reply to a judge's message."""
    asked = read_message(content)
    if asked is None:
        return "This stand-in can't read the message: it is not a comparison of two answers."
    truth = truths.get((_plain(asked.question), _plain(asked.context)))
    if truth is None:
        return "This stand-in does not know the truth about this question and context."
    first, second = grade(asked.first, truth), grade(asked.second, truth)
    return (
        f"{first} {second}\n"
        "I am a stand-in, not a language model: I compare each answer with the known truth, "
        f'"{truth}" {_sentence(1, first)} {_sentence(2, second)}'
    )


def _sentence(number: int, score: int) -> str:
    verdict = "agrees with it" if score == 10 else "differs from it"
    return f"Answer {number} {verdict}."


def _joined(caption: str | list[str]) -> str:
    return caption if isinstance(caption, str) else "\n".join(caption)


def _plain(text: str) -> str:
    """Lower case, single spaces, no media tag, no final full stop."""
    text = text.replace("<video>", " ").replace("<image>", " ")
    return " ".join(text.lower().split()).removesuffix(".").rstrip()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], truths: Truths) -> None:
        super().__init__(address, _Handler)
        self.truths = truths


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._send(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        else:
            self._fail(404, f"no such path: {self.path}")

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > _MAX_BODY_BYTES:
            self.close_connection = True
            self._fail(413, "the body is missing or too large")
            return
        body = self.rfile.read(int(length))
        if self.path != "/v1/chat/completions":
            self._fail(404, f"no such path: {self.path}")
            return
        try:
            request = json.loads(body)
            content = request["messages"][-1]["content"]
            model = request["model"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            self._fail(400, f"no chat completion request: {error!r}")
            return
        if model != MODEL:
            self._fail(404, f"the model {model!r} does not exist; there is only {MODEL}")
        elif request.get("stream"):
            self._fail(400, "this stand-in does not stream")
        else:
            self._send(200, _completion(str(content), review(str(content), self.server.truths)))

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a line for each request would bury what the demo prints."""

    def _fail(self, status: int, message: str) -> None:
        self._send(status, {"error": {"message": message, "type": "invalid_request_error"}})

    def _send(self, status: int, record: dict[str, Any]) -> None:
        body = json.dumps(record).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _completion(content: str, reply: str) -> dict[str, Any]:
    # Words stand in for tokens; time and id are fixed so that replies depend on the request alone.
    num_prompt, num_reply = len(content.split()), len(reply.split())
    return {
        "id": "chatcmpl-" + hashlib.sha256(content.encode()).hexdigest()[:24],
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": reply},
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": num_prompt,
            "completion_tokens": num_reply,
            "total_tokens": num_prompt + num_reply,
        },
    }


def make_server(truths: Truths, port: int = 0, host: str = "127.0.0.1") -> ThreadingHTTPServer:
    """A server, not yet serving; port 0 takes a free one."""
    return _Server((host, port), truths)


def read_truths(folder: Path) -> Truths:
    """The truths of the demo's input folder, as `demo.clips` wrote it."""
    names = ("truth", "prompts", "context")
    return load_truths(*(_read(folder / f"{name}.jsonl") for name in names))


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The demo's stand-in for a judge.")
    parser.add_argument("--truth", type=Path, required=True, help="truth.jsonl")
    parser.add_argument("--prompts", type=Path, help="default: prompts.jsonl beside the truth")
    parser.add_argument("--context", type=Path, help="default: context.jsonl beside the truth")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--port-file", type=Path, help="the port is written here when it listens")
    given = parser.parse_args(arguments)
    beside = {name: given.truth.with_name(f"{name}.jsonl") for name in ("prompts", "context")}
    prompts, context = (getattr(given, name) or beside[name] for name in beside)
    try:
        truths = load_truths(
            _read(given.truth),
            *(_read(path) if path.exists() else [] for path in (prompts, context)),
        )
    except (DemoFilesError, OSError, ValueError, KeyError) as error:
        print(f"judge_server: {error}", file=sys.stderr)
        return 2
    with make_server(truths, given.port) as server:
        if given.port_file is not None:
            half = given.port_file.with_name(given.port_file.name + ".tmp")
            half.write_text(f"{server.server_address[1]}\n", encoding="ascii")
            half.rename(given.port_file)  # readers see a whole number or no file
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
