from __future__ import annotations

import subprocess
import sys

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neva.reasons import Reason
from tests.worker.engine.request_examples import text_request
from worker.engine.protocol import (
    EngineStatus,
    FailedReply,
    GenerateMessage,
    GenerateRequest,
    GenerateResult,
    GoodbyeMessage,
    MediaRef,
    ProtocolError,
    RequestFailed,
    ResultReply,
    SamplingParams,
    StatusMessage,
    StatusReply,
    decode_client_message,
    decode_engine_reply,
    encode,
)

REQUESTS = st.builds(
    GenerateRequest,
    request_id=st.text(),
    row_key=st.text(),
    before_ids=st.lists(st.integers(0, 2**31)).map(tuple),
    num_media_tokens=st.integers(0, 5000),
    after_ids=st.lists(st.integers(0, 2**31)).map(tuple),
    media=st.none() | st.just(MediaRef("key", "/dev/shm/x", (8, 3, 224, 224))),
    sampling=st.builds(
        SamplingParams,
        greedy=st.booleans(),
        temperature=st.floats(0, 2),
        stop_strings=st.lists(st.text()).map(tuple),
        seed=st.integers(0, 2**63 - 1),
    ),
)


@given(REQUESTS)
def test_a_request_comes_back_as_it_was(request: GenerateRequest) -> None:
    message = GenerateMessage(request)
    assert decode_client_message(encode(message)) == message


def test_all_other_messages_come_back_as_they_were() -> None:
    status = EngineStatus("g", 1, 2, 32, 4096, 2, 1, "bf16", "cuda:0", 17, 3, 500, 91)
    for message in (StatusMessage(7), GoodbyeMessage()):
        assert decode_client_message(encode(message)) == message
    for reply in (
        ResultReply("g", GenerateResult("id", (1, 2), "stop", "#")),
        ResultReply(
            "g",
            GenerateResult(
                "id", (1,), "stop", "", (7,), logprobs=(-0.5,), all_logprobs=((-0.5, -1.0),)
            ),
        ),
        FailedReply("g", RequestFailed("id", Reason.MEDIA_UNREADABLE, "gone", True)),
        StatusReply("g", 7, status, ("id", "other")),
    ):
        assert decode_engine_reply(encode(reply)) == reply


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"type": "dance"}',
        b'{"type": "status"}',
        b'{"type": "status", "nonce": "7"}',
        b'{"type": "generate", "request": 3}',
        b'{"type": "generate", "request": null}',
    ],
)
def test_a_message_of_another_shape_is_an_error(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="malformed message") as raised:
        decode_client_message(data)
    assert raised.value.request_id == ""


@pytest.mark.parametrize(
    ("key", "value"), [("before_ids", ["7"]), ("before_ids", [1.5]), ("media", {}), ("row_key", 1)]
)
def test_an_error_inside_a_request_says_where_and_whose_it_is(key: str, value: object) -> None:
    message = orjson.loads(encode(GenerateMessage(text_request("mine"))))
    message["request"][key] = value
    with pytest.raises(ProtocolError, match=f"request.{key}") as raised:
        decode_client_message(orjson.dumps(message))
    assert raised.value.request_id == "mine"


def test_clients_and_supervisors_import_no_torch() -> None:
    heavy = ["torch", "megatron", "transformers", "numpy", "safetensors"]
    code = (
        "import sys, worker.engine.protocol, worker.engine.client, worker.engine.launch;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
