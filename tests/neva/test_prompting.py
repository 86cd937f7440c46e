from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from neva.errors import ConfigError, RowError
from neva.model_profile import ModelProfile, read_model_profile
from neva.prompting import build_prompt, require_context
from neva.reasons import Reason
from neva.tokens import Tokenizer
from tests.neva.tiny_llava import write_model_dir


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return Tokenizer.from_directory(write_model_dir(tmp_path))


@pytest.fixture
def profile(tokenizer: Tokenizer, tmp_path: Path) -> ModelProfile:
    return read_model_profile(tmp_path)


def test_the_ids_around_the_media_spell_the_prompt(
    profile: ModelProfile, tokenizer: Tokenizer
) -> None:
    prompt = build_prompt("Who?", "video", "left", profile, tokenizer, num_frames=8)
    assert tokenizer.decode(prompt.before_ids).endswith("questions. USER: ")
    assert tokenizer.decode(prompt.after_ids) == "Who? ASSISTANT:"
    assert prompt.num_media_tokens == 8 * 16
    assert prompt.num_tokens == len(prompt.before_ids) + 128 + len(prompt.after_ids)
    assert prompt.text_with_tag.endswith(" USER: <video>Who? ASSISTANT:")


def test_an_image_is_one_frame_and_gets_its_newline(
    profile: ModelProfile, tokenizer: Tokenizer
) -> None:
    prompt = build_prompt("Who?", "image", "right", profile, tokenizer, num_frames=1)
    assert tokenizer.decode(prompt.before_ids).endswith(" USER: Who?")
    assert tokenizer.decode(prompt.after_ids) == "\n ASSISTANT:"
    assert prompt.num_media_tokens == 16


def test_no_bos_unless_the_job_or_the_tokenizer_asks(
    profile: ModelProfile, tokenizer: Tokenizer
) -> None:
    plain = build_prompt("Who?", "video", "left", profile, tokenizer, 8)
    asked = build_prompt("Who?", "video", "left", profile, tokenizer, 8, add_bos=True)
    native = build_prompt("Who?", "video", "left", replace(profile, add_bos=True), tokenizer, 8)
    assert plain.before_ids[0] != profile.bos_token_id
    assert asked.before_ids == native.before_ids == (profile.bos_token_id, *plain.before_ids)


def test_asking_for_a_bos_that_does_not_exist_is_a_configuration_error(
    profile: ModelProfile, tokenizer: Tokenizer
) -> None:
    with pytest.raises(ConfigError, match="add_BOS"):
        build_prompt(
            "Who?", "video", "left", replace(profile, bos_token_id=None), tokenizer, 8, add_bos=True
        )


def test_the_models_own_placeholder_in_a_question_is_refused(
    profile: ModelProfile, tokenizer: Tokenizer
) -> None:
    pad = tokenizer.token_id("<pad>")
    assert pad is not None
    with pytest.raises(RowError, match="<pad>") as caught:
        build_prompt(
            "a <pad> b", "video", "left", replace(profile, image_token_id=pad), tokenizer, 8
        )
    assert caught.value.reason is Reason.MEDIA_TOKEN_CONFLICT


def test_a_prompt_must_leave_room_for_its_answer(
    profile: ModelProfile, tokenizer: Tokenizer
) -> None:
    prompt = build_prompt("Who?", "video", "left", profile, tokenizer, 8)
    room_tokens = profile.context_tokens - prompt.num_tokens
    require_context(prompt, room_tokens, profile)
    with pytest.raises(RowError, match="1025 do not fit the model's 1024") as caught:
        require_context(prompt, room_tokens + 1, profile)
    assert caught.value.reason is Reason.CONTEXT_OVERFLOW


def test_eight_large_frames_do_not_fit_a_small_context(
    profile: ModelProfile, tokenizer: Tokenizer
) -> None:
    large = replace(profile, tokens_per_frame=576, context_tokens=4096)
    prompt = build_prompt("Who?", "video", "left", large, tokenizer, 8)
    with pytest.raises(RowError, match="4608 of them visual"):
        require_context(prompt, 256, large)
