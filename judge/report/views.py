"""The plain values that the report shows. No IO, no HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]


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
        facts: what there is to know of the run, by name.
        job: the job's spec, as its file says it; None for answers that no job gave.
        scores: judge/scores.json and its `others`, empty without a judge.
        errors, judge_errors: failed rows and questions without a verdict, by reason.
        rows: one per question, as `judge.report.rows` has them, for the page's own program.
        frames: JPEG data URIs by media name.
        num_media: all that rows are about; those without frames in `frames` have none, or too many
            came before them.
    """

    name: str
    state: str
    model_id: str | None
    model_digest: str | None
    stages_s: Mapping[str, float]
    counts: tuple[tuple[str, int], ...]
    facts: tuple[tuple[str, str], ...]
    job: str | None
    scores: tuple[Record, ...]
    errors: Mapping[str, list[ErrorView]]
    judge_errors: Mapping[str, list[ErrorView]]
    rows: tuple[Record, ...]
    frames: Mapping[str, str]
    num_media: int
    warnings: tuple[str, ...]
