"""A client's end of the engine socket: submit rows, collect answers, notice a dead engine.

Used by Celery children and the supervisor; single-threaded, one client per thread, made after any
fork. While requests are pending, `poll` asks the engine for its status twice a second. The reply
says which of this client's requests the engine holds, so a request is known to be lost however it
got lost: the engine died, was replaced, or never received it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import zmq

from neva.errors import NevaError
from neva.reasons import Reason
from worker.engine.protocol import (
    EngineReply,
    EngineStatus,
    FailedReply,
    GenerateMessage,
    GenerateRequest,
    GoodbyeMessage,
    Outcome,
    ResultReply,
    StatusMessage,
    StatusReply,
    decode_engine_reply,
    encode,
)

_QUESTION_INTERVAL_S = 0.5


class EngineLost(NevaError):
    """The engine that held this client's requests is gone; submit them again."""

    reason = Reason.ENGINE_CRASHED
    retryable = True


@dataclass(frozen=True, slots=True)
class _Question:
    """A status question not answered yet."""

    nonce: int
    asked_at_s: float  # time.monotonic


class EngineClient:
    """Talks to the engine that is bound to `socket_path`, now or later.

    After `EngineLost` nothing is pending any more and the client is usable again: what is
    submitted then reaches the next engine as soon as it answers.
    """

    def __init__(self, socket_path: Path, *, silence_limit_s: float = 3.0) -> None:
        self._address = f"ipc://{socket_path}"
        self._silence_limit_s = silence_limit_s
        self._context = zmq.Context()
        self._next_nonce = 0
        self._connect()

    def _connect(self) -> None:
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.connect(self._address)
        self._generation: str | None = None
        self._pending: dict[str, int] = {}  # request id -> first nonce asked after its submission
        self._outcomes: list[Outcome] = []
        self._last_status: StatusReply | None = None
        self._question: _Question | None = None
        self._last_asked_at_s = float("-inf")

    @property
    def num_pending(self) -> int:
        """Requests submitted and not yet handed out by `poll`."""
        return len(self._pending) + len(self._outcomes)

    def submit(self, request: GenerateRequest) -> None:
        """Send a request; its outcome comes from `poll`.

        Raises:
            EngineLost: what this client had pending is lost; this request was not sent.
        """
        self._receive_all()
        self._pending.setdefault(request.request_id, self._next_nonce)
        self._socket.send(encode(GenerateMessage(request)))

    def poll(self, timeout_s: float) -> list[Outcome]:
        """Outcomes that have come, waiting at most `timeout_s` for the first one.

        Raises:
            EngineLost: the engine is silent, was replaced, or no longer knows a pending request.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._receive_all()
            if self._outcomes:
                outcomes, self._outcomes = self._outcomes, []
                return outcomes
            if self._pending:
                self._check_silence()
                self._ask_if_due()
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return []
            wait_s = min(left_s, _QUESTION_INTERVAL_S) if self._pending else left_s
            self._socket.poll(max(1, int(wait_s * 1000)))

    def status(self, timeout_s: float) -> EngineStatus:
        """The engine's present status.

        Raises:
            EngineLost: no answer within `timeout_s`, or pending requests are lost (see `poll`).
        """
        deadline_s = time.monotonic() + timeout_s
        self._receive_all()
        nonce = self._ask()
        while self._last_status is None or self._last_status.nonce < nonce:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                self._lose(f"the engine gave no status within {timeout_s:g} s")
            self._socket.poll(max(1, int(left_s * 1000)))
            self._receive_all()
        return self._last_status.status

    def close(self) -> None:
        """Tell the engine to drop what is pending, and leave."""
        if self._pending and self._generation is not None:
            self._socket.setsockopt(zmq.LINGER, 200)  # ms; the goodbye is a courtesy
            self._socket.send(encode(GoodbyeMessage()))
        self._socket.close()
        self._context.term()

    def _ask(self) -> int:
        nonce = self._next_nonce
        self._next_nonce += 1
        now_s = time.monotonic()
        self._last_asked_at_s = now_s
        if self._question is None:
            self._question = _Question(nonce, now_s)
        self._socket.send(encode(StatusMessage(nonce)))
        return nonce

    def _ask_if_due(self) -> None:
        if time.monotonic() - self._last_asked_at_s >= _QUESTION_INTERVAL_S:
            self._ask()

    def _check_silence(self) -> None:
        """Silence counts from an unanswered question, not from our last call of `poll`."""
        if self._question is None:
            return
        silence_s = time.monotonic() - self._question.asked_at_s
        if silence_s > self._silence_limit_s:
            self._lose(f"the engine has been silent for {silence_s:.1f} s")

    def _receive_all(self) -> None:
        while True:
            try:
                data = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._take(decode_engine_reply(data))

    def _take(self, reply: EngineReply) -> None:
        if self._generation is None:
            self._generation = reply.generation
        elif reply.generation != self._generation:
            if self._pending:
                self._lose("the engine was restarted")
            self._generation = reply.generation
        # Any sign of life restarts the silence; the next status question follows within 0.5 s.
        self._question = None
        match reply:
            case ResultReply(result=outcome) | FailedReply(failure=outcome):
                if self._pending.pop(outcome.request_id, None) is not None:
                    self._outcomes.append(outcome)
            case StatusReply():
                self._last_status = reply
                held = set(reply.in_flight)
                lost = [
                    request_id
                    for request_id, nonce in self._pending.items()
                    if nonce <= reply.nonce and request_id not in held
                ]
                if lost:
                    self._lose(f"the engine never received {len(lost)} requests")

    def _lose(self, message: str) -> None:
        """Forget everything pending; a new socket drops what is still under way in the old one."""
        self._socket.close()
        self._connect()
        raise EngineLost(message)
