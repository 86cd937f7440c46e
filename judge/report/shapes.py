"""What the report relies on in a run's files. Anybody may have written them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, model_validator


class Shape(BaseModel):
    """Of JSON; keys that the report does not read are left."""

    model_config = ConfigDict(strict=True)


class SummaryShape(Shape):
    """summary.json."""

    rows: int
    answered: int
    failed: int
    stages_s: dict[str, float] | None = None
    workers_s: dict[str, float] | None = None


class _Model(Shape):
    tensor_parallel_size: int = Field(1, alias="tensorParallelSize")
    pipeline_parallel_size: int = Field(1, alias="pipelineParallelSize")


class _Spec(Shape):
    model: _Model = _Model()


class _Job(Shape):
    spec: _Spec = _Spec()


class ManifestShape(Shape):
    """manifest.json."""

    job: _Job


class _Estimate(Shape):
    value: float
    low: float | None
    high: float | None
    se: float | None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        ends = (self.low is None, self.high is None)
        if any(ends) and (not all(ends) or self.se):
            raise ValueError("an interval without an end")
        return self


class _Figures(Shape):
    means: Annotated[list[_Estimate], Field(min_length=2, max_length=2)] | None
    difference: _Estimate | None
    num_clusters: int
    p_value: float | None
    smallest_difference: float | None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.difference is not None and self.difference.se and self.smallest_difference is None:
            raise ValueError("a difference without the smallest that can be shown")
        return self


class _Category(Shape):
    scores: Annotated[list[float], Field(min_length=2, max_length=2)] | None
    relative: float | None
    num_judged: NonNegativeInt
    num_failed: NonNegativeInt
    num_wins: NonNegativeInt
    num_ties: NonNegativeInt
    num_losses: NonNegativeInt
    num_both_orders: NonNegativeInt
    num_agreeing: NonNegativeInt
    figures: _Figures


class _Share(Shape):
    num: int
    percent: float | None
    low: float | None
    high: float | None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.num and None in (self.percent, self.low, self.high):
            raise ValueError("a share without its interval")
        return self


class _Bias(Shape):
    first_wins: _Share
    longer_wins: _Share


class _Judge(Shape):
    model: str
    served_models: list[str]
    endpoint: Any
    stand_in: bool
    both_orders: bool
    sampling: dict[str, Any]
    rules_digest: Any


class ScoresShape(Shape):
    """judge/scores.json, and each of its `others`."""

    answers: Annotated[list[str], Field(min_length=2, max_length=2)]
    mode: Literal["scores", "verdict", "single", "reference"]
    judge: _Judge
    num_judged: int
    num_failed: int
    num_prompt_tokens: int
    num_completion_tokens: int
    cost: float | None = None
    all: _Category
    categories: dict[str, _Category]
    bias: _Bias
    others: list[ScoresShape] = []


class OutputShape(Shape):
    """A line of outputs.jsonl: an object."""


class ErrorShape(Shape):
    """A line of errors.jsonl."""

    record: dict[str, Any] | None = None


class ReviewShape(Shape):
    """A line of judge/reviews.jsonl."""

    question_id: Any
    question: Any
    answers: dict[str, Any]
    order: Any
    shown: list[Any] | None = None
    scores: dict[str, float] | None
    content: str | None = None
    reason: Any
    message: Any
