"""A job of still images on a model of videos, with the original's quirks and log probabilities."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.support.jobs import DEMO_MODEL, JobFolder

pytestmark = pytest.mark.e2e

COMPAT = {
    "colorOrder": "bgr",
    "cleanResponse": "nemo-rc0",
    "repetitionPenalty": "nemo-rc0",
    "outputFormat": "nemo-rc0",
}


def test_images_are_answered_by_a_video_model_in_the_originals_format(tmp_path: Path) -> None:
    folder = JobFolder(
        tmp_path,
        inference={"media_type": "image", "compute_logprob": True, "insert_media_token": "right"},
        spec={
            "model": {"uri": str(DEMO_MODEL), "precision": "fp32", "compat": COMPAT},
            "failure": {"failOnError": False},
        },
    )
    folder.videos.mkdir()
    Image.new("RGB", (80, 60), (250, 10, 10)).save(folder.videos / "a.png")
    folder.write_prompts(
        [
            {"question_id": 1, "image": "a.png", "text": "Which colour is the shape?"},
            {"question_id": 2, "image": "a.png", "text": "What does <video> show?"},
            {"question_id": 3, "video": "a.png", "text": "Which colour?"},
        ]
    )
    folder.write_job()
    code, printed = folder.run()
    assert code == 0, printed
    (answer,) = folder.lines("outputs.jsonl")
    assert answer.keys() == {
        *("question_id", "image", "text", "prompt", "full_text", "model_id"),
        *("answer_id", "metadata", "logprobs"),
    }
    assert answer["prompt"] == "Which colour is the shape?<image>"
    assert answer["metadata"] == {"compat": COMPAT, "decoder": "pillow"}
    assert answer["full_text"].count("<image>") == 1
    assert len(answer["logprobs"]["chosen"]) == len(answer["logprobs"]["token_ids"]) > 0
    assert all(value <= 0 for value in answer["logprobs"]["chosen"])
    reasons = {error["question_id"]: error["reason"] for error in folder.lines("errors.jsonl")}
    assert reasons == {2: "MediaTokenConflict", 3: "WrongMediaKey"}
