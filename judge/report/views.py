"""The plain values that the report's template shows. No IO, no HTML."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AnswerView:
    """One model's answer: `score` is the mean over the orders with a verdict, `side` 1 or 2."""

    name: str
    side: int
    text: str | None
    score: float | None


@dataclass(frozen=True, slots=True)
class VerdictView:
    """One review: `scores` in the order of the answers, not in that shown."""

    order: str
    shown_first: str
    scores: tuple[float | None, float | None] | None
    words: str
    failure: str | None


@dataclass(frozen=True, slots=True)
class RowView:
    """One question with its answers and verdicts; `outcome` is answer 2's.

    `orders_disagree`: each order prefers another answer (or only one of them prefers one).
    """

    question_id: str
    category: str | None
    question: str
    answers: tuple[AnswerView, ...]
    verdicts: tuple[VerdictView, ...]
    outcome: str | None
    orders_disagree: bool


@dataclass(slots=True)
class ClipView:
    """The questions about one video or image, under the frames that the model saw."""

    media: str | None
    frames_uri: str | None
    rows: list[RowView] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ErrorView:
    """One row or question that failed."""

    where: str
    message: str
    question: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything on the page.

    Attributes:
        scores: judge/scores.json, None without a judge.
        errors, judge_errors: failed rows and questions without a verdict, by reason.
    """

    name: str
    state: str
    model_id: str | None
    model_digest: str | None
    stages_s: Mapping[str, float]
    counts: tuple[tuple[str, int], ...]
    scores: Record | None
    errors: Mapping[str, list[ErrorView]]
    judge_errors: Mapping[str, list[ErrorView]]
    clips: tuple[ClipView, ...]
    warnings: tuple[str, ...]


def visible(value: object) -> str:
    """`value` as text without characters that HTML forbids or that only steer a terminal."""
    return "".join(
        "\ufffd" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c
        for c in str(value).replace("\r\n", "\n")
    )
