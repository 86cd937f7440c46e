"""Requests for tests that need no model (and no torch)."""

from __future__ import annotations

from worker.engine.protocol import GenerateRequest, MediaRef, SamplingParams


def text_request(
    name: str = "row",
    num_prompt_tokens: int = 4,
    *,
    sampling: SamplingParams | None = None,
    media: MediaRef | None = None,
    num_media_tokens: int = 0,
) -> GenerateRequest:
    return GenerateRequest(
        request_id=name,
        row_key=name,
        before_ids=tuple(range(5, 5 + num_prompt_tokens)),
        num_media_tokens=num_media_tokens,
        after_ids=(),
        media=media,
        sampling=sampling or SamplingParams(greedy=True, max_new_tokens=8),
    )


def media_request(
    name: str, video: str, *, num_media_tokens: int = 20, num_after: int = 5
) -> GenerateRequest:
    """A question behind a video; the questions' ids differ by their length."""
    return GenerateRequest(
        request_id=name,
        row_key=name,
        before_ids=(5, 6),
        num_media_tokens=num_media_tokens,
        after_ids=tuple(range(7, 7 + num_after)),
        media=MediaRef(video, f"/nowhere/{video}", (1, 3, 8, 8)),
        sampling=SamplingParams(greedy=True, max_new_tokens=8),
    )
