"""The block `judge` of a job: who scores the answers, and at what cost. Part of `neva.spec`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, StrictBool

from neva.spec_base import MAX_INT32, CamelModel, ObjectName, Uri


class JudgeBudget(CamelModel):
    """What a job's judge may cost, over all runs of the job; questions beyond are not judged."""

    requests: int | None = Field(None, ge=1, le=MAX_INT32, description="Most requests.")
    tokens: int | None = Field(None, ge=1, le=10**15, description="Most tokens, both ways.")
    cost: float | None = Field(None, gt=0, description="Most money, in the currency of the prices.")
    prompt_price: float | None = Field(None, ge=0, description="Of a million prompt tokens.")
    completion_price: float | None = Field(
        None, ge=0, description="Of a million tokens of the judge's replies."
    )


class Judge(CamelModel):
    """The model that scores the answers, behind an OpenAI-compatible API."""

    endpoint: str = Field(
        "https://integrate.api.nvidia.com/v1",
        max_length=2048,
        pattern=r"^https?://",
        description="Base URL of its API.",
    )
    model: str = Field(
        "mistralai/mixtral-8x7b-instruct-v0.1",
        min_length=1,
        max_length=256,
        description="The judge's name there.",
    )
    api_key_secret: ObjectName | None = Field(
        None, description="Secret with the key API_TOKEN; locally the variable API_TOKEN."
    )
    questions: Uri | None = Field(None, description="Question file; the job's prompts by default.")
    context: Uri | None = Field(None, description="Captions that stand in for the media.")
    rules: Uri | None = Field(None, description="Rule file; the project's own rubric by default.")
    against: tuple[Uri, ...] = Field(
        min_length=1, max_length=16, description="Answer files to compare the answers with."
    )
    mode: Literal["scores", "verdict", "single", "reference"] = Field(
        "scores",
        description="scores: both answers from 1 to 10. verdict: A, B or tie. single: each answer "
        "alone from 1 to 10. reference: correct or not by the answers in `against`.",
    )
    both_orders: StrictBool = Field(True, description="Ask twice, with the answers swapped.")
    concurrency: int = Field(
        32, ge=1, le=1024, description="Most requests at a time; fewer if the endpoint pushes back."
    )
    requests_per_minute: int | None = Field(
        None, ge=1, le=1_000_000, description="The endpoint's limit; requests are spaced by it."
    )
    tokens_per_minute: int | None = Field(
        None, ge=1, le=MAX_INT32, description="The endpoint's limit, prompts and replies together."
    )
    budget: JudgeBudget | None = Field(None, description="What the judge may cost.")
    max_tokens: int = Field(1024, ge=1, le=MAX_INT32, description="Most tokens of one review.")
    timeout_seconds: float = Field(
        120.0, gt=0, le=3600, description="For one review, however slowly it comes."
    )
    stream: StrictBool = Field(False, description="Have reviews sent in pieces.")
    structured_output: StrictBool = Field(
        True, description="Have reviews sent as JSON by a schema, where the endpoint can."
    )
