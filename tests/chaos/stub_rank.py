"""An engine that computes nothing: a rank's program that answers by hashing.

Speaks the engine's protocol on its socket, takes NEVA_CHAOS_ROW_S seconds a row, and appends the id
of each row it answers to the file NEVA_CHAOS_COMPUTED. An answer depends on the row, the seed and
the pixels as they lie in the file when it is given: pixels that are gone or another video's make
another answer, which the comparison with the undisturbed run finds.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import os
import sys
import time
from pathlib import Path

import zmq

from neva.process import die_with_parent
from neva.reasons import Reason
from tests.chaos import variables
from worker.engine.launch import RankConfig, read_rank_config
from worker.engine.protocol import (
    EngineStatus,
    FailedReply,
    GenerateMessage,
    GenerateRequest,
    GenerateResult,
    GoodbyeMessage,
    RequestFailed,
    ResultReply,
    StatusMessage,
    StatusReply,
    decode_client_message,
    encode,
)

_POLL_MS = 10
_FIRST_WORD, _NUM_WORDS = 10, 400  # ids of the demo model's tokenizer that are words
_ONE_IN_FAILS = 23


def answer(request: GenerateRequest, pixels: bytes) -> GenerateResult | RequestFailed:
    """The answer of a row: a function of the row, its pixels and the seed."""
    said = f"{request.row_key}\0{request.sampling.seed}\0{request.after_ids}".encode()
    digest = hashlib.blake2b(said + hashlib.blake2b(pixels).digest(), digest_size=16).digest()
    if digest[0] % _ONE_IN_FAILS == 0:
        return RequestFailed(request.request_id, Reason.NUMERICAL_ERROR, "not finite", False)
    ids = tuple(_FIRST_WORD + (7 * byte) % _NUM_WORDS for byte in digest[1 : 4 + digest[0] % 8])
    return GenerateResult(request.request_id, ids, "stop")


class Stub:
    """The engine's state between two turns."""

    def __init__(self, config: RankConfig) -> None:
        self._config = config
        self._row_s = float(os.environ[variables.ROW_SECONDS])
        self._computed = os.open(
            os.environ[variables.COMPUTED], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600
        )
        self._held: dict[tuple[bytes, str], GenerateRequest] = {}  # by client and request id
        self._due: list[tuple[float, bytes, str]] = []
        self._progress = 0
        self._router = zmq.Context().socket(zmq.ROUTER)
        self._router.setsockopt(zmq.LINGER, 0)
        self._router.bind(f"ipc://{config.engine.socket_path}")

    def serve(self) -> None:
        while True:
            self._progress += 1
            if self._router.poll(_POLL_MS):
                client, *frames = self._router.recv_multipart()
                self._take(client, frames[-1])
            while self._due and self._due[0][0] <= time.monotonic():
                _, client, request_id = heapq.heappop(self._due)
                request = self._held.pop((client, request_id), None)
                if request is not None:
                    self._answer(client, request)

    def _take(self, client: bytes, data: bytes) -> None:
        match decode_client_message(data):
            case GenerateMessage(request=request):
                key = (client, request.request_id)
                if key not in self._held:
                    self._held[key] = request
                    heapq.heappush(self._due, (time.monotonic() + self._row_s, *key))
            case StatusMessage(nonce=nonce):
                mine = tuple(request_id for owner, request_id in self._held if owner == client)
                reply = StatusReply(self._config.generation, nonce, self._status(), mine)
                self._router.send_multipart([client, encode(reply)])
            case GoodbyeMessage():
                for key in [key for key in self._held if key[0] == client]:
                    del self._held[key]

    def _answer(self, client: bytes, request: GenerateRequest) -> None:
        assert request.media is not None, "every row of these jobs has a video"
        try:
            pixels = Path(request.media.path).read_bytes()
        except FileNotFoundError:
            return  # its client is gone, and with it whoever would want the answer
        outcome = answer(request, pixels)
        os.write(self._computed, request.row_key.encode() + b"\n")
        generation = self._config.generation
        if isinstance(outcome, RequestFailed):
            reply: FailedReply | ResultReply = FailedReply(generation, outcome)
        else:
            reply = ResultReply(generation, outcome)
        self._router.send_multipart([client, encode(reply)])

    def _status(self) -> EngineStatus:
        engine = self._config.engine
        return EngineStatus(
            generation=self._config.generation,
            num_active=len(self._held),
            num_waiting=0,
            max_batch_rows=engine.max_batch_rows,
            context_tokens=512,
            tensor_parallel_size=engine.tensor_parallel_size,
            pipeline_parallel_size=engine.pipeline_parallel_size,
            precision=engine.precision,
            device="cpu",
            num_steps=self._progress,
            num_vision_passes=0,
            num_prefilled_tokens=0,
            progress=self._progress,
        )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--rank", type=int, required=True)
    arguments = parser.parse_args()
    config = read_rank_config(arguments.config)
    die_with_parent(config.parent_pid)
    if arguments.rank == 0:
        Stub(config).serve()
    while True:  # the other ranks only have to die
        time.sleep(60)


if __name__ == "__main__":
    sys.exit(main())
