"""The client against a socket that the test answers by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from neva.reasons import Reason
from tests.worker.engine.request_examples import text_request
from worker.engine.client import EngineClient, EngineLost
from worker.engine.protocol import (
    ClientMessage,
    EngineReply,
    EngineStatus,
    FailedReply,
    GenerateMessage,
    GenerateResult,
    GoodbyeMessage,
    Outcome,
    RequestFailed,
    ResultReply,
    StatusMessage,
    StatusReply,
    decode_client_message,
    encode,
)

PATIENCE_S = 10


class HandMadeEngine:
    """Binds the socket; the test says what is answered, and when."""

    def __init__(self, socket_path: Path, generation: str) -> None:
        self.generation = generation
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(f"ipc://{socket_path}")

    def next_message(self, client: EngineClient | None = None) -> tuple[bytes, ClientMessage]:
        """The next message; lets `client` do its work meanwhile."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not self._socket.poll(20):
            assert time.monotonic() < deadline_s, "the client said nothing"
            if client is not None:
                assert client.poll(0) == []
        identity, data = self._socket.recv_multipart()
        return identity, decode_client_message(data)

    def next_request(self) -> tuple[bytes, str]:
        while True:
            identity, message = self.next_message()
            if isinstance(message, GenerateMessage):
                return identity, message.request.request_id

    def send(self, identity: bytes, reply: EngineReply) -> None:
        self._socket.send_multipart([identity, encode(reply)])

    def answer(self, identity: bytes, request_id: str) -> GenerateResult:
        result = GenerateResult(request_id, (1, 2, 3), "stop")
        self.send(identity, ResultReply(self.generation, result))
        return result

    def status(self, nonce: int, in_flight: tuple[str, ...] = ()) -> StatusReply:
        status = EngineStatus(self.generation, 0, 0, 8, 64, 1, 1, "fp32", "cpu", 0, 0, 0, 0)
        return StatusReply(self.generation, nonce, status, in_flight)

    def close(self) -> None:
        self._socket.close()
        self._context.term()


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "engine.sock"


@pytest.fixture
def client(socket_path: Path) -> Iterator[EngineClient]:
    client = EngineClient(socket_path, silence_limit_s=0.8)
    yield client
    client.close()


@pytest.fixture
def engine(socket_path: Path) -> Iterator[HandMadeEngine]:
    engine = HandMadeEngine(socket_path, "first")
    yield engine
    engine.close()


def poll_some(client: EngineClient) -> list[Outcome]:
    outcomes = client.poll(PATIENCE_S)
    assert outcomes, "nothing came"
    return outcomes


def test_outcomes_come_in_the_order_they_were_finished(
    client: EngineClient, engine: HandMadeEngine
) -> None:
    for name in ("a", "b", "c"):
        client.submit(text_request(name))
    assert client.num_pending == 3
    identity = b""
    for name in ("a", "b", "c"):
        identity, received = engine.next_request()
        assert received == name
    failure = RequestFailed("b", Reason.CONTEXT_OVERFLOW, "too long", False)
    engine.send(identity, FailedReply("first", failure))
    result = engine.answer(identity, "a")
    outcomes = poll_some(client)
    while len(outcomes) < 2:
        outcomes += poll_some(client)
    assert outcomes == [failure, result]
    assert client.num_pending == 1


def test_polling_without_anything_pending_returns_nothing_and_loses_nothing(
    client: EngineClient,
) -> None:
    assert client.poll(0.01) == []


def test_an_engine_that_says_nothing_is_lost(client: EngineClient, engine: HandMadeEngine) -> None:
    client.submit(text_request())
    with pytest.raises(EngineLost, match="silent") as raised:
        client.poll(PATIENCE_S)
    assert raised.value.reason == Reason.ENGINE_CRASHED
    assert raised.value.retryable


def test_no_engine_at_all_is_lost_too_and_the_next_one_is_found(
    client: EngineClient, socket_path: Path
) -> None:
    client.submit(text_request("early"))
    with pytest.raises(EngineLost, match="silent"):
        client.poll(PATIENCE_S)
    assert client.num_pending == 0
    engine = HandMadeEngine(socket_path, "late")
    try:
        client.submit(text_request("again"))
        identity, name = engine.next_request()
        assert name == "again"  # what was given up is not sent after all
        assert poll_some_after(client, engine, identity, name)
    finally:
        engine.close()


def poll_some_after(
    client: EngineClient, engine: HandMadeEngine, identity: bytes, name: str
) -> bool:
    result = engine.answer(identity, name)
    return poll_some(client) == [result]


def test_time_spent_away_from_poll_is_not_silence(
    client: EngineClient, engine: HandMadeEngine
) -> None:
    client.submit(text_request())
    identity, name = engine.next_request()
    time.sleep(1.0)  # longer than the silence limit: decoding a video, say
    assert client.poll(0) == []
    _, question = engine.next_message(client)
    assert isinstance(question, StatusMessage)
    engine.send(identity, engine.status(question.nonce, (name,)))
    assert poll_some_after(client, engine, identity, name)


def test_an_engine_that_was_replaced_lost_its_requests(
    client: EngineClient, socket_path: Path
) -> None:
    engine = HandMadeEngine(socket_path, "first")
    client.submit(text_request("a"))
    client.submit(text_request("b"))
    identity, name = engine.next_request()
    assert poll_some_after(client, engine, identity, name)
    engine.close()
    engine = HandMadeEngine(socket_path, "second")
    try:
        # The new engine even claims to hold the request; its generation tells.
        with pytest.raises(EngineLost, match="restarted"):
            while True:
                identity, question = engine.next_message(client)
                assert isinstance(question, StatusMessage)
                engine.send(identity, engine.status(question.nonce, ("b",)))
                client.poll(0.2)
        client.submit(text_request("b"))
        identity, name = engine.next_request()
        assert poll_some_after(client, engine, identity, name)
    finally:
        engine.close()


def test_a_request_that_the_engine_does_not_know_is_lost(
    client: EngineClient, engine: HandMadeEngine
) -> None:
    client.submit(text_request("held"))
    client.submit(text_request("never arrived"))
    identity, _ = engine.next_request()
    engine.next_request()
    _, question = engine.next_message(client)
    assert isinstance(question, StatusMessage)
    engine.send(identity, engine.status(question.nonce, ("held",)))
    with pytest.raises(EngineLost, match="never received 1"):
        client.poll(PATIENCE_S)


def test_a_status_asked_before_a_request_was_sent_says_nothing_about_it(
    client: EngineClient, engine: HandMadeEngine
) -> None:
    client.submit(text_request("first"))
    identity, _ = engine.next_request()
    _, question = engine.next_message(client)
    assert isinstance(question, StatusMessage)
    client.submit(text_request("second"))
    engine.send(identity, engine.status(question.nonce, ("first",)))
    assert client.poll(0.1) == []
    assert client.num_pending == 2


def test_status_waits_for_its_own_answer_and_keeps_outcomes_for_poll(
    client: EngineClient, engine: HandMadeEngine
) -> None:
    client.submit(text_request("a"))
    identity, name = engine.next_request()
    result = engine.answer(identity, name)
    with pytest.raises(EngineLost, match="no status"):
        client.status(0.1)
    client.submit(text_request("b"))
    identity, name = engine.next_request()
    result = engine.answer(identity, name)
    # Answered from another thread's point of view: the reply is there before it is asked for.
    engine.send(identity, engine.status(nonce=10**6))
    assert client.status(PATIENCE_S).generation == "first"
    assert client.poll(0) == [result]


def test_a_client_that_leaves_says_goodbye_for_what_is_pending(
    engine: HandMadeEngine, socket_path: Path
) -> None:
    client = EngineClient(socket_path)
    client.submit(text_request("a"))
    client.submit(text_request("b"))
    identity, name = engine.next_request()
    assert poll_some_after(client, engine, identity, name)
    engine.next_request()
    client.close()
    _, message = engine.next_message()
    while isinstance(message, StatusMessage):
        _, message = engine.next_message()
    assert message == GoodbyeMessage()
