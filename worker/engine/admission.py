"""Whether a request can be computed at all, decided on rank 0 before any rank sees it. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from neva.reasons import Reason
from worker.engine.protocol import GenerateRequest, RequestFailed
from worker.engine.scheduler import tokens_needed


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """What a request is measured against."""

    context_tokens: int
    vocab_size: int
    tokens_per_frame: int
    num_channels: int
    image_size: int
    piece_tokens: int  # `scheduler.PrefillLimits`
    cache_tokens: int


def refusal(request: GenerateRequest, limits: ModelLimits) -> RequestFailed | None:
    """Why the request can't be answered as it is, or None. Nothing is ever shortened to fit."""
    problem = (
        _media_problem(request, limits)
        or _prompt_problem(request, limits)
        or _sampling_problem(request)
        or _memory_problem(request, limits)
    )
    if problem is None:
        return None
    reason, message = problem
    return RequestFailed(request.request_id, reason, message, retryable=False)


_Problem = tuple[Reason, str] | None


def _media_problem(request: GenerateRequest, limits: ModelLimits) -> _Problem:
    num_places = request.num_media_tokens
    if request.media is None:
        if num_places == 0:
            return None
        return (
            Reason.MEDIA_TOKEN_CONFLICT,
            f"the prompt has {num_places} media tokens but no media",
        )
    num_frames, *frame_shape = request.media.shape
    expected_shape = [limits.num_channels, limits.image_size, limits.image_size]
    if frame_shape != expected_shape or num_frames < 1:
        return (
            Reason.MEDIA_UNREADABLE,
            f"the media has shape {request.media.shape}; the model's tower needs one frame or more"
            f" of {tuple(expected_shape)}",
        )
    num_features = num_frames * limits.tokens_per_frame
    if num_places != num_features:
        return (
            Reason.MEDIA_TOKEN_CONFLICT,
            f"the prompt has {num_places} media tokens, but {num_frames} frames have"
            f" {num_features} features",
        )
    return None


def _prompt_problem(request: GenerateRequest, limits: ModelLimits) -> _Problem:
    if request.num_prompt_tokens < 1:
        return Reason.MISSING_TEXT, "the prompt is empty"
    if not request.before_ids and not request.after_ids:
        return Reason.MISSING_TEXT, "the prompt is nothing but media"
    for token in (*request.before_ids, *request.after_ids):
        if not 0 <= token < limits.vocab_size:
            return (
                Reason.INVALID_CHECKPOINT,
                f"token id {token} is outside the model's vocabulary of {limits.vocab_size}:"
                " tokenizer and model do not belong together",
            )
    wanted = request.num_prompt_tokens + request.sampling.max_new_tokens
    if wanted > limits.context_tokens:
        return (
            Reason.CONTEXT_OVERFLOW,
            f"{request.num_prompt_tokens} prompt tokens and {request.sampling.max_new_tokens} new"
            f" ones exceed the model's context of {limits.context_tokens}",
        )
    return None


def _sampling_problem(request: GenerateRequest) -> _Problem:
    sampling = request.sampling
    problems = []
    if sampling.max_new_tokens < 1:
        problems.append(f"max_new_tokens {sampling.max_new_tokens} is not positive")
    if not sampling.greedy and not (
        sampling.temperature > 0 and math.isfinite(sampling.temperature)
    ):
        problems.append(f"temperature {sampling.temperature} is not positive (greedy needs none)")
    if sampling.top_k < 0:
        problems.append(f"top_k {sampling.top_k} is negative")
    if not 0 <= sampling.top_p <= 1:
        problems.append(f"top_p {sampling.top_p} is not between 0 and 1")
    if not (sampling.repetition_penalty > 0 and math.isfinite(sampling.repetition_penalty)):
        problems.append(f"repetition_penalty {sampling.repetition_penalty} is not positive")
    if "" in sampling.stop_strings:
        problems.append("a stop string is empty")
    return (Reason.INVALID_CONFIG, "; ".join(problems)) if problems else None


def _memory_problem(request: GenerateRequest, limits: ModelLimits) -> _Problem:
    """A row waits until it fits beside the others; one too large for all memory never would."""
    wanted = sum(tokens_needed(request, limits.piece_tokens))
    if wanted <= limits.cache_tokens:
        return None
    return (
        Reason.OUT_OF_MEMORY,
        f"the row needs keys and values of {wanted} tokens; there is memory for"
        f" {limits.cache_tokens}",
    )
