"""The weights in the repository: small, in one piece, and able to see."""

from __future__ import annotations

import json

import pytest
import torch

from demo.accuracy import MODEL_DIR, measure
from demo.answerers import TransformersAnswerer
from demo.engine_answerer import running_engine
from demo.tiny_model import build_config, build_tokenizer
from neva.model_profile import read_model_profile
from neva.templates import InsertMedia
from neva.tokens import Tokenizer

MAX_WEIGHTS_BYTES = 3_000_000


def test_the_weights_are_small_enough_for_a_repository() -> None:
    assert (MODEL_DIR / "model.safetensors").stat().st_size <= MAX_WEIGHTS_BYTES


def test_the_profile_is_a_video_model_without_bos_that_four_ranks_can_share() -> None:
    profile = read_model_profile(MODEL_DIR)
    assert (profile.num_frames, profile.tokens_per_frame) == (8, 16)
    assert not profile.add_bos
    text = json.loads((MODEL_DIR / "config.json").read_text())["text_config"]
    assert text["num_attention_heads"] % 4 == text["intermediate_size"] % 4 == 0


def test_the_training_script_still_makes_this_vocabulary_and_architecture() -> None:
    tokenizer, saved = build_tokenizer(), Tokenizer.from_directory(MODEL_DIR)
    assert tokenizer.get_vocab_size() == saved.vocab_size
    text = "USER: Where does the shape move? ASSISTANT: It moves down.</s>"
    assert tokenizer.encode(text).ids == saved.encode(text)
    written = json.loads((MODEL_DIR / "config.json").read_text())
    built = json.loads(build_config(saved.vocab_size).to_json_string())
    for section in ("text_config", "vision_config"):
        for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
            assert written[section][key] == built[section][key]


@pytest.mark.parametrize("insert", ["left", "right"])
def test_it_answers_fresh_clips_right(insert: InsertMedia) -> None:
    torch.set_num_threads(1)
    score = measure(TransformersAnswerer(MODEL_DIR), MODEL_DIR, 12, seed=4321, insert=insert)
    assert score.num_questions_right >= 0.95 * score.num_questions, score.mistakes


@pytest.mark.e2e
def test_the_projects_engine_answers_them_right_too() -> None:
    with running_engine(MODEL_DIR, tensor_parallel_size=2) as answerer:
        score = measure(answerer, MODEL_DIR, 6, seed=4321, insert="left")
    assert score.num_questions_right >= 0.95 * score.num_questions, score.mistakes
