"""Specs for tests of what a job asks of its prompts."""

from __future__ import annotations

from typing import Any

from neva.spec import JobSpec


def job_spec(
    media_type: str = "video",
    compat: dict[str, Any] | None = None,
    quantization: dict[str, Any] | None = None,
    **inference: Any,
) -> JobSpec:
    return JobSpec.model_validate(
        {
            "model": {
                "uri": "/model",
                "compat": compat or {},
                "quantization": quantization or {},
            },
            "input": {"prompts": "p.jsonl", "mediaBasePath": "/media", "mediaType": media_type},
            "inference": {"tokens_to_generate": 16, **inference},
            "output": {"uri": "/out"},
        }
    )
