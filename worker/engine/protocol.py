"""What clients and the engine say to each other: JSON objects over zmq DEALER and ROUTER sockets.

A client sends `generate`, `status` and `goodbye`; the engine sends `result`, `failed` and `status`.
Every message of the engine carries its generation, the id of one engine start, so that a client
never mistakes a restarted engine for the one that took its requests.

A request is answered with exactly one `result` or `failed`. Requests of one client are told apart
by `request_id`; submitting one again while it is in flight changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import orjson
from pydantic import Discriminator, TypeAdapter, ValidationError

from neva.errors import NevaError
from neva.reasons import Reason

FinishReason = Literal["stop", "length"]
RepetitionRule = Literal["applied", "nemo-rc0"]
LogProbs = Literal["none", "chosen", "all"]


class ProtocolError(NevaError):
    """A message that is no message of this protocol; carries the request's id where it has one."""

    reason = Reason.INTERNAL_ERROR

    def __init__(self, message: str, request_id: str = "") -> None:
        super().__init__(message)
        self.request_id = request_id


@dataclass(frozen=True, slots=True)
class MediaRef:
    """Preprocessed frames that the engine's ranks read themselves.

    Attributes:
        key: the same for the same video and frames, and for nothing else (the cache key).
        path: file of raw float32 pixels in C order, usually in /dev/shm.
        shape: (frames, 3, height, width).
    """

    key: str
    path: str
    shape: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen; the meaning of each key is the `inference` block's.

    `greedy` skips temperature, top_k, top_p and repetition_penalty, as NeMo does.

    Attributes:
        repetition_rule: "nemo-rc0" takes the original's errors over, see `sampling`.
        logprobs: "chosen" asks for the generated tokens' log probabilities, "all" also for those
            of the whole vocabulary at each step.
    """

    greedy: bool = False
    temperature: float = 1.0
    top_k: int = 0  # 0 = off
    top_p: float = 0.0  # active only for 0 < top_p < 1
    repetition_penalty: float = 1.0
    max_new_tokens: int = 256
    min_new_tokens: int = 0  # until then no end-of-sequence id
    stop_strings: tuple[str, ...] = ()
    seed: int = 0
    repetition_rule: RepetitionRule = "applied"
    logprobs: LogProbs = "none"


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One row: prompt ids around `num_media_tokens` places that the media's features fill.

    Attributes:
        row_key: what, with the seed, the row's random numbers derive from; independent of the
            attempt, the shard and the neighbours.
    """

    request_id: str
    row_key: str
    before_ids: tuple[int, ...]
    num_media_tokens: int
    after_ids: tuple[int, ...]
    media: MediaRef | None
    sampling: SamplingParams

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.before_ids) + self.num_media_tokens + len(self.after_ids)


@dataclass(frozen=True, slots=True)
class GenerateResult:
    """The answer of one request.

    Attributes:
        token_ids: generated ids without the stop token or the tokens inside a stop string.
        stop_text_tail: normally empty. When a stop string began in the middle of a token, that
            token stays in `token_ids` and this is what the decoded text must lose at its end.
        stop_ids: the generated ids behind `token_ids`: the stop token, or a stop string's.
        logprobs: natural logarithm of each token's probability, in the model's own distribution:
            no temperature, no penalty, nothing cut off. None unless asked for.
        all_logprobs: the same of the whole vocabulary, a list by id for each token.
    """

    request_id: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    stop_text_tail: str = ""
    stop_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] | None = None
    all_logprobs: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """Why one request has no answer; its neighbours are not affected."""

    request_id: str
    reason: Reason
    message: str
    retryable: bool


Outcome = GenerateResult | RequestFailed


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """For the metrics: what rank 0 has done since the engine's start, and its cache now.

    Attributes:
        num_tokens: chosen, one a row and step.
        cache_bytes: held for keys and values; cache_used_ratio: share of the tokens that may be
            cached which the admitted rows need.
        busy_s, idle_s: of the step loop, computing and without a row.
    """

    num_tokens: int = 0
    num_feature_hits: int = 0
    num_feature_misses: int = 0
    num_prefix_hits: int = 0
    num_prefix_misses: int = 0
    cache_bytes: int = 0
    cache_used_ratio: float = 0.0
    busy_s: float = 0.0
    idle_s: float = 0.0


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What the engine is and how busy it is.

    Attributes:
        progress: grows while the engine computes and, once a second, while it waits for work.
    """

    generation: str
    num_active: int
    num_waiting: int
    max_batch_rows: int
    context_tokens: int
    tensor_parallel_size: int
    pipeline_parallel_size: int
    precision: str
    device: str
    num_steps: int
    num_vision_passes: int
    num_prefilled_tokens: int
    progress: int
    figures: EngineFigures = EngineFigures()


@dataclass(frozen=True, slots=True)
class GenerateMessage:
    request: GenerateRequest
    type: Literal["generate"] = "generate"


@dataclass(frozen=True, slots=True)
class StatusMessage:
    """Asks for the status; the nonce comes back in the reply."""

    nonce: int
    type: Literal["status"] = "status"


@dataclass(frozen=True, slots=True)
class GoodbyeMessage:
    """The client wants none of its answers any more."""

    type: Literal["goodbye"] = "goodbye"


@dataclass(frozen=True, slots=True)
class ResultReply:
    generation: str
    result: GenerateResult
    type: Literal["result"] = "result"


@dataclass(frozen=True, slots=True)
class FailedReply:
    generation: str
    failure: RequestFailed
    type: Literal["failed"] = "failed"


@dataclass(frozen=True, slots=True)
class StatusReply:
    """The engine's state and the ids of this client's requests that it holds.

    A request sent before the question and neither answered nor listed here is lost.
    """

    generation: str
    nonce: int
    status: EngineStatus
    in_flight: tuple[str, ...]
    type: Literal["status"] = "status"


ClientMessage = GenerateMessage | StatusMessage | GoodbyeMessage
EngineReply = ResultReply | FailedReply | StatusReply

_client_message: TypeAdapter[ClientMessage] = TypeAdapter(
    Annotated[ClientMessage, Discriminator("type")]
)
_engine_reply: TypeAdapter[EngineReply] = TypeAdapter(Annotated[EngineReply, Discriminator("type")])


def encode(message: ClientMessage | EngineReply) -> bytes:
    """The JSON bytes of a message."""
    return orjson.dumps(message)


def decode_client_message(data: bytes) -> ClientMessage:
    """A client's message.

    Raises:
        ProtocolError: not JSON, or not of this shape; says where.
    """
    try:
        return _client_message.validate_json(data, strict=True)
    except ValidationError as error:
        raise ProtocolError(_first_problem(error), request_id=_request_id_in(data)) from error


def decode_engine_reply(data: bytes) -> EngineReply:
    """An engine's message; raises ProtocolError like `decode_client_message`."""
    try:
        return _engine_reply.validate_json(data, strict=True)
    except ValidationError as error:
        raise ProtocolError(_first_problem(error)) from error


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"malformed message: {place + ': ' if place else ''}{problem['msg']}"


def _request_id_in(data: bytes) -> str:
    """The request's id in a message that is malformed elsewhere, so its sender can be told."""
    try:
        request_id = orjson.loads(data)["request"]["request_id"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""
    return request_id if isinstance(request_id, str) else ""
