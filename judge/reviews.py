"""What came of each planned review: `judge/reviews.jsonl`, one a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from judge.completion import Reply
from judge.errors import ReviewFailed
from judge.modes import Mode, Order
from judge.parse import NoVerdict, Verdict, parse_verdict
from judge.plan import Comparison, NotReviewable, Plan, PlannedReview
from judge.questions import Question
from neva.reasons import Reason

REVIEWS = "judge/reviews.jsonl"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no verdict."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Review:
    """One review after the fact.

    Attributes:
        scores: of answer 1 and of answer 2, in whichever order they were shown, None for one that
            was not; None as a whole if there is no verdict, and then `failure` says why.
        reply: the judge's words, None if it never answered.
    """

    planned: PlannedReview
    scores: tuple[float | None, float | None] | None
    reply: Reply | None
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class QuestionResult:
    """All that is known about one question: its reviews, or why it has none."""

    question: Question
    reviews: tuple[Review, ...]
    obstacle: Failure | None = None


def read_review(planned: PlannedReview, reply: Reply | ReviewFailed, mode: Mode) -> Review:
    """Read the verdict out of what the judge said, or failed to say."""
    if isinstance(reply, ReviewFailed):
        return Review(planned, None, None, Failure(reply.reason, reply.message))
    verdict = parse_verdict(reply.content, mode)
    if isinstance(verdict, NoVerdict):
        failure = Failure(Reason.VERDICT_UNREADABLE, verdict.why)
        return Review(planned, None, reply, failure)
    return Review(planned, _by_side(verdict, planned.order, mode), reply, None)


def collect(
    comparison: Comparison, plan: Plan, replies: Mapping[str, Reply | ReviewFailed]
) -> tuple[QuestionResult, ...]:
    """Results in question order. `replies` has one entry for each digest of the plan."""
    reviews: dict[str, list[Review]] = {}
    for planned in plan.reviews:
        review = read_review(planned, replies[planned.digest], comparison.mode)
        reviews.setdefault(planned.question.key, []).append(review)
    obstacles: dict[str, NotReviewable] = {item.question.key: item for item in plan.not_reviewable}
    return tuple(
        QuestionResult(question, (), Failure(found.reason, found.message))
        if (found := obstacles.get(question.key)) is not None
        else QuestionResult(question, tuple(reviews[question.key]))
        for question in comparison.questions
    )


def review_records(
    comparison: Comparison, results: Sequence[QuestionResult]
) -> list[dict[str, Any]]:
    """The lines of reviews.jsonl: question order, then order shown. No clock, nothing random.

    A question that was never reviewed has one line, with its reason.
    """
    records: list[dict[str, Any]] = []
    for result in results:
        question = result.question
        head: dict[str, Any] = {
            "question_id": question.question_id,
            "category": question.category,
            "question": question.text,
            "media": question.media,
            "answers": {a.name: a.texts.get(question.key) for a in comparison.answers},
        }
        if result.obstacle is not None:
            records.append({**head, "order": None, "scores": None, **_failure(result.obstacle)})
        records.extend({**head, **_review(review, comparison)} for review in result.reviews)
    return records


def _review(review: Review, comparison: Comparison) -> dict[str, Any]:
    planned, reply = review.planned, review.reply
    names = comparison.names
    return {
        "order": str(planned.order),
        "shown": [names[side] for side in planned.order.sides],
        "scores": None
        if review.scores is None
        else {n: s for n, s in zip(names, review.scores, strict=True) if s is not None},
        **_failure(review.failure),
        "content": reply.content if reply else None,
        "rule": planned.rule,
        "model": planned.request.model,
        "served_model": reply.served_model if reply else None,
        "finish_reason": reply.finish_reason if reply else None,
        "num_prompt_tokens": reply.num_prompt_tokens if reply else None,
        "num_completion_tokens": reply.num_completion_tokens if reply else None,
        "digest": planned.digest,
    }


def _failure(failure: Failure | None) -> dict[str, str | None]:
    if failure is None:
        return {"reason": None, "message": None}
    return {"reason": str(failure.reason), "message": failure.message}


def _by_side(verdict: Verdict, order: Order, mode: Mode) -> tuple[float | None, float | None]:
    """Scores of answer 1 and answer 2. The reference is right by definition."""
    given = dict(zip(order.sides, verdict.scores, strict=True))
    return given.get(0, 1.0 if mode is Mode.REFERENCE else None), given.get(1)
