"""Rank 0's door: the zmq socket that clients talk to.

A thread owns the socket, so clients get answers to status questions while a long step runs. It
decodes and checks messages, gives each accepted request a ticket, remembers whose it is and hands
it to the step loop; outcomes come back by ticket. A client that vanished costs nothing but the
rest of its rows: what is sent to it is dropped by zmq.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import zmq

from neva.errors import ConfigError
from neva.reasons import Reason
from worker.engine.admission import ModelLimits, refusal
from worker.engine.commands import Commands, NewRow
from worker.engine.progress import Progress
from worker.engine.protocol import (
    EngineReply,
    EngineStatus,
    FailedReply,
    GenerateMessage,
    GenerateRequest,
    GoodbyeMessage,
    Outcome,
    ProtocolError,
    RequestFailed,
    ResultReply,
    StatusMessage,
    StatusReply,
    decode_client_message,
    encode,
)

_WAKE_ADDRESS = "inproc://outcomes"


@dataclass(frozen=True, slots=True)
class _Owner:
    """Whose a ticket is."""

    client: bytes  # zmq identity
    request_id: str


@dataclass(frozen=True, slots=True)
class _Dropped:
    tickets: tuple[int, ...]


class EngineServer:
    """Serves `socket_path` until the process ends; start it when the engine can compute."""

    def __init__(
        self, socket_path: Path, status: EngineStatus, limits: ModelLimits, progress: Progress
    ) -> None:
        """status: the first one; `publish` replaces it, but for `progress`, which is read live."""
        self._socket_path = socket_path
        self._status = status
        self._limits = limits
        self._progress = progress
        self._inbox: queue.SimpleQueue[NewRow | _Dropped | None] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[tuple[int, Outcome]] = queue.SimpleQueue()
        self._owners: dict[int, _Owner] = {}
        self._tickets: dict[bytes, dict[str, int]] = {}  # by client, by request id
        self._next_ticket = 0
        self._context = zmq.Context()
        self._wake = self._context.socket(zmq.PAIR)
        self._wake.bind(_WAKE_ADDRESS)
        self._router = self._context.socket(zmq.ROUTER)
        # A client's requests are bounded, so are the answers to it: none may be dropped for space.
        self._router.setsockopt(zmq.SNDHWM, 0)
        self._router.setsockopt(zmq.RCVHWM, 0)
        self._router.setsockopt(zmq.LINGER, 0)

    def start(self) -> None:
        """Bind and serve.

        Raises:
            ConfigError: no socket can be made there.
        """
        try:
            self._router.bind(f"ipc://{self._socket_path}")
        except zmq.ZMQError as error:
            words = f"the engine's socket {self._socket_path} can't be made: {error.strerror}"
            raise ConfigError(words) from error
        threading.Thread(target=self._run, name="engine-server", daemon=True).start()

    def take_commands(self, timeout_s: float) -> Commands:
        """What clients want since the last call; waits up to `timeout_s` for the first wish.

        Raises:
            RuntimeError: the server's thread has failed (it has said why on stderr).
        """
        drop: list[int] = []
        add: dict[int, NewRow] = {}
        try:
            wish = self._inbox.get(timeout=timeout_s) if timeout_s > 0 else self._inbox.get_nowait()
            while True:
                if wish is None:
                    raise RuntimeError("the engine's server thread failed")
                if isinstance(wish, NewRow):
                    add[wish.ticket] = wish
                else:
                    drop += [t for t in wish.tickets if add.pop(t, None) is None]
                wish = self._inbox.get_nowait()
        except queue.Empty:
            return Commands(drop=tuple(drop), add=tuple(add.values()))

    def publish(self, outcomes: Sequence[tuple[int, Outcome]], status: EngineStatus) -> None:
        """Send outcomes to whom they belong, and answer with this status from now on."""
        self._status = status
        for outcome in outcomes:
            self._outbox.put(outcome)
        if outcomes:
            self._wake.send(b"")

    # ---- the server's thread ----

    def _run(self) -> None:
        try:
            outcomes_ready = self._context.socket(zmq.PAIR)
            outcomes_ready.connect(_WAKE_ADDRESS)
            poller = zmq.Poller()
            poller.register(outcomes_ready, zmq.POLLIN)
            poller.register(self._router, zmq.POLLIN)
            while True:
                ready = dict(poller.poll())
                if outcomes_ready in ready:
                    outcomes_ready.recv()
                    self._send_outcomes()
                if self._router in ready:
                    client, *frames = self._router.recv_multipart()
                    self._handle(client, frames[-1] if frames else b"")
        finally:
            self._inbox.put(None)

    def _send_outcomes(self) -> None:
        while True:
            try:
                ticket, outcome = self._outbox.get_nowait()
            except queue.Empty:
                return
            owner = self._owners.pop(ticket, None)
            if owner is None:  # said goodbye meanwhile
                continue
            tickets = self._tickets[owner.client]
            del tickets[owner.request_id]
            if not tickets:
                del self._tickets[owner.client]
            generation = self._status.generation
            if isinstance(outcome, RequestFailed):
                self._send(owner.client, FailedReply(generation, outcome))
            else:
                self._send(owner.client, ResultReply(generation, outcome))

    def _handle(self, client: bytes, data: bytes) -> None:
        try:
            message = decode_client_message(data)
        except ProtocolError as error:
            failure = RequestFailed(error.request_id, Reason.INTERNAL_ERROR, error.message, False)
            self._send(client, FailedReply(self._status.generation, failure))
            return
        match message:
            case GenerateMessage(request=request):
                self._accept(client, request)
            case StatusMessage(nonce=nonce):
                in_flight = tuple(self._tickets.get(client, ()))
                status = replace(self._status, progress=self._progress.count)
                self._send(client, StatusReply(status.generation, nonce, status, in_flight))
            case GoodbyeMessage():
                tickets = tuple(self._tickets.pop(client, {}).values())
                for ticket in tickets:
                    del self._owners[ticket]
                self._inbox.put(_Dropped(tickets))

    def _accept(self, client: bytes, request: GenerateRequest) -> None:
        tickets = self._tickets.get(client, {})
        if request.request_id in tickets:
            return  # sent twice: the one answer is on its way
        failure = refusal(request, self._limits)
        if failure is not None:
            self._send(client, FailedReply(self._status.generation, failure))
            return
        ticket = self._next_ticket
        self._next_ticket += 1
        self._tickets.setdefault(client, tickets)[request.request_id] = ticket
        self._owners[ticket] = _Owner(client, request.request_id)
        self._inbox.put(NewRow(ticket, request))

    def _send(self, client: bytes, reply: EngineReply) -> None:
        self._router.send_multipart([client, encode(reply)])
