from __future__ import annotations

from dataclasses import replace

import pytest

from neva.reasons import Reason
from tests.worker.engine.request_examples import text_request
from worker.engine.admission import ModelLimits, refusal
from worker.engine.protocol import GenerateRequest, MediaRef, SamplingParams

LIMITS = ModelLimits(
    context_tokens=64,
    vocab_size=100,
    tokens_per_frame=4,
    num_channels=3,
    image_size=8,
    piece_tokens=512,
    cache_tokens=1000,
)
MEDIA = MediaRef("key", "/dev/shm/pixels", (3, 3, 8, 8))


def reason_and_message(request: GenerateRequest) -> tuple[Reason, str]:
    failure = refusal(request, LIMITS)
    assert failure is not None
    assert failure.request_id == request.request_id
    assert not failure.retryable
    return failure.reason, failure.message


def test_a_sound_request_is_accepted() -> None:
    assert refusal(text_request(), LIMITS) is None
    assert refusal(text_request(media=MEDIA, num_media_tokens=12), LIMITS) is None


def test_what_exceeds_the_context_by_one_token_is_refused_and_not_cut() -> None:
    sampling = SamplingParams(greedy=True, max_new_tokens=20)
    fits = text_request(num_prompt_tokens=32, sampling=sampling, media=MEDIA, num_media_tokens=12)
    assert refusal(fits, LIMITS) is None
    reason, message = reason_and_message(replace(fits, after_ids=(1,)))
    assert reason == Reason.CONTEXT_OVERFLOW
    assert "45 prompt tokens and 20 new ones" in message
    assert "64" in message


@pytest.mark.parametrize("num_media_tokens", [0, 11, 13])
def test_media_tokens_must_be_exactly_as_many_as_features(num_media_tokens: int) -> None:
    request = text_request(media=MEDIA, num_media_tokens=num_media_tokens)
    reason, message = reason_and_message(request)
    assert reason == Reason.MEDIA_TOKEN_CONFLICT
    assert f"{num_media_tokens} media tokens" in message
    assert "12 features" in message


def test_media_tokens_without_media_are_refused() -> None:
    reason, _ = reason_and_message(text_request(num_media_tokens=12))
    assert reason == Reason.MEDIA_TOKEN_CONFLICT


@pytest.mark.parametrize("shape", [(3, 3, 9, 8), (3, 1, 8, 8), (0, 3, 8, 8)])
def test_frames_that_do_not_fit_the_tower_are_refused(shape: tuple[int, int, int, int]) -> None:
    request = text_request(media=replace(MEDIA, shape=shape), num_media_tokens=12)
    assert reason_and_message(request)[0] == Reason.MEDIA_UNREADABLE


@pytest.mark.parametrize("token", [-1, 100])
def test_ids_outside_the_vocabulary_are_refused(token: int) -> None:
    reason, message = reason_and_message(replace(text_request(), after_ids=(token,)))
    assert reason == Reason.INVALID_CHECKPOINT
    assert str(token) in message


def test_an_empty_prompt_is_refused() -> None:
    assert reason_and_message(text_request(num_prompt_tokens=0))[0] == Reason.MISSING_TEXT


def test_every_impossible_sampling_parameter_is_named() -> None:
    sampling = SamplingParams(
        temperature=0.0,
        top_k=-1,
        top_p=1.5,
        repetition_penalty=0.0,
        max_new_tokens=0,
        stop_strings=("",),
    )
    reason, message = reason_and_message(text_request(sampling=sampling))
    assert reason == Reason.INVALID_CONFIG
    for name in ("temperature", "top_k", "top_p", "repetition", "max_new_tokens", "stop string"):
        assert name in message


def test_greedy_needs_no_temperature() -> None:
    sampling = SamplingParams(greedy=True, temperature=0.0, max_new_tokens=4)
    assert refusal(text_request(sampling=sampling), LIMITS) is None


def test_a_row_that_no_empty_cache_could_hold_is_refused() -> None:
    request = text_request(media=MEDIA, num_media_tokens=12, num_prompt_tokens=10)
    request = replace(request, after_ids=(1,))
    # One slot of 64 tokens for the video and what stands before it, one for the rest.
    assert refusal(request, replace(LIMITS, cache_tokens=128)) is None
    failure = refusal(request, replace(LIMITS, cache_tokens=127))
    assert failure is not None
    assert failure.reason == Reason.OUT_OF_MEMORY
    assert "128 tokens" in failure.message
    assert "127" in failure.message
    assert not failure.retryable


def test_a_prompt_of_nothing_but_media_is_refused() -> None:
    request = text_request(media=MEDIA, num_media_tokens=12, num_prompt_tokens=0)
    assert reason_and_message(request) == (
        Reason.MISSING_TEXT,
        "the prompt is nothing but media",
    )
