"""Output records: ours, and those with the original's keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from neva.ledger import ShardRow
from neva.model_profile import ModelProfile
from neva.row_prompt import RowPrompts
from tests.neva.jobs import job_spec
from tests.neva.test_row_prompt import LLAMA, NEMO
from worker.engine.protocol import GenerateResult, MediaRef
from worker.media.shared import PreparedMedia
from worker.outputs import OutputWriter

RECORD = {"question_id": 7, "video": "a.mp4", "text": "Who?", "metadata": {"mine": 1}}
MEDIA = PreparedMedia(MediaRef("key", "/pixels", (2, 3, 8, 8)), (0, 1), "pyav")
V1 = replace(NEMO, template="v1")


def answered(
    answer: str,
    *,
    profile: ModelProfile = V1,
    stop: str = "",
    record: dict[str, Any] | None = None,
    result: dict[str, Any] | None = None,
    quantized: dict[str, Any] | None = None,
    **job: Any,
) -> dict[str, Any]:
    """The record of a row that the model answered with the tokens of `answer`, then `stop`."""
    spec = job_spec(**{"insert_media_token": "left", **job})
    prompts = RowPrompts(spec, profile, LLAMA)
    writer = OutputWriter(spec, profile, LLAMA, prompts, "digest", quantized or {})
    row = ShardRow(0, 1, "7", "Who?", "a.mp4", RECORD if record is None else record)
    # The tokens that continue the prompt: without a space in front, none is begun.
    mark = LLAMA.encode("<extra_id_1>")
    ids = LLAMA.encode(f"<extra_id_1>{answer}")[len(mark) :]
    stop_ids = LLAMA.encode(f"<extra_id_1>{stop}")[len(mark) :]
    generated = GenerateResult("7", tuple(ids), "stop", stop_ids=tuple(stop_ids), **(result or {}))
    finished = writer.answered(row, prompts.build("Who?"), generated, MEDIA, 1)
    assert finished.output is not None
    return finished.output


def test_a_record_keeps_its_keys_and_gets_ours() -> None:
    output = answered(" A hand.")
    assert list(output) == [
        *RECORD,
        *("response", "full_text", "model_id", "answer_id", "finish_reason"),
        *("num_prompt_tokens", "num_generated_tokens", "frames", "decoder", "attempt"),
    ]
    assert output["response"] == "A hand."
    assert output["full_text"].endswith(" USER: <video>Who? ASSISTANT: A hand.")
    assert output["text"] == "Who?"
    assert (output["frames"], output["decoder"]) == ([0, 1], "pyav")


def test_a_quirk_in_effect_is_named_in_every_record() -> None:
    compat = {"colorOrder": "bgr", "repetitionPenalty": "nemo-rc0"}
    assert answered(" A hand.", compat=compat)["compat"] == compat


AWQ = {"algorithm": "awq", "groupSize": 64, "calibration": "ab12"}


def test_a_quantization_is_named_in_every_record_and_makes_another_model() -> None:
    plain, output = answered(" A hand."), answered(" A hand.", quantized=AWQ)
    assert output["quantization"] == AWQ
    assert output["model_id"] == "/model#awq-64-ab12"
    assert output["answer_id"] != plain["answer_id"]
    other = answered(" A hand.", quantized={**AWQ, "calibration": "cd34"})
    assert other["answer_id"] != output["answer_id"]
    nemo = answered(" A hand.", quantized=AWQ, compat={"outputFormat": "nemo-rc1"})
    assert nemo["metadata"]["quantization"] == AWQ
    assert nemo["model_id"] == "/model", "the original's key is a path"


@pytest.mark.parametrize(("answer_key", "release"), [("text", "rc0"), ("pred_answer", "rc1")])
def test_the_originals_keys(answer_key: str, release: str) -> None:
    compat = {"outputFormat": f"nemo-{release}"}
    output = answered(" A hand.", compat=compat)
    expected = {
        **RECORD,
        "prompt": "<video>Who?",
        "full_text": output["full_text"],
        answer_key: "A hand.",
        "model_id": "/model",
        "answer_id": 0,
        "metadata": {"mine": 1, "compat": compat, "decoder": "pyav"},
    }
    assert output == expected
    assert output["full_text"].endswith("USER: <video>Who? ASSISTANT: A hand.")
    numbered = answered(" A hand.", compat=compat, record={**RECORD, "answer_id": "x1"})
    assert numbered["answer_id"] == "x1"


def test_an_images_tag_gets_no_newline_in_the_originals_prompt_key() -> None:
    output = answered(" A hand.", compat={"outputFormat": "nemo-rc0"}, media_type="image")
    assert output["prompt"] == "<image>Who?"
    assert "<image>\nWho?" in output["full_text"]


@pytest.mark.parametrize(
    ("cleaning", "answer", "expected"),
    [
        ("exact", "a red car\n", "a red car"),
        ("nemo-rc0", "a red car\n", "red car"),
        ("nemo-rc1", "data\n", ""),
    ],
)
def test_the_originals_cleaning_sees_the_stop_token(
    cleaning: str, answer: str, expected: str
) -> None:
    output = answered(answer, profile=NEMO, stop="<extra_id_1>", compat={"cleanResponse": cleaning})
    assert output["response"] == expected
    assert ("compat" in output) == (cleaning != "exact")


@pytest.mark.parametrize("use_im_start_end", [False, True])
@pytest.mark.parametrize("template", ["v1", "nvgpt"])
def test_the_media_are_one_tag_in_the_originals_full_text(
    template: str, use_im_start_end: bool
) -> None:
    profile = replace(NEMO, template=template, use_im_start_end=use_im_start_end)
    output = answered(" A hand.", profile=profile, compat={"outputFormat": "nemo-rc1"})
    assert "<video>Who?" in output["full_text"]
    assert "\u2047" not in output["full_text"]
    assert "<extra_id_3>" not in output["full_text"]
    assert output["pred_answer"] == "A hand."


def test_an_answer_without_its_space_makes_the_original_answer_with_the_prompt() -> None:
    theirs = answered("Hand", compat={"cleanResponse": "nemo-rc0"})["response"]
    assert theirs.startswith("A chat between")
    assert theirs.endswith("ASSISTANT:Hand")
    assert answered("Hand")["response"] == "Hand"


def test_log_probabilities_stand_beside_the_answer_when_asked_for() -> None:
    num_tokens = answered(" A hand.")["num_generated_tokens"]
    asked = {
        "logprobs": (-0.123456,) * num_tokens,
        "all_logprobs": ((-0.123456, -2.0),) * num_tokens,
    }
    logprobs = answered(" A hand.", result=asked)["logprobs"]
    assert logprobs["chosen"] == [-0.1235] * num_tokens
    assert logprobs["all"] == [[-0.1235, -2.0]] * num_tokens
    assert len(logprobs["token_ids"]) == num_tokens
    assert "all" not in answered(" A hand.", result={"logprobs": asked["logprobs"]})["logprobs"]
