"""Decides which reviews a comparison needs. Pure: no store, no network.

Every question becomes reviews to ask for, or one reason why it can't be judged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import orjson

from judge.answers import AnswerSet
from judge.contexts import Contexts
from judge.modes import TRAITS, Mode, ModeTraits, Order
from judge.prompt import build_messages
from judge.questions import Question
from judge.request import ReviewRequest, Sampling
from judge.rules import Rules
from neva.errors import ConfigError
from neva.reasons import Reason


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is judged: answer 1 (the reference, in LLaVA's recipe) against answer 2.

    Attributes:
        contexts: None when there is no context file; then the message has no context section.
        mode: how it is judged. In reference mode answer 1 is the reference.
    """

    questions: Sequence[Question]
    answers: tuple[AnswerSet, AnswerSet]
    rules: Rules
    contexts: Contexts | None = None
    mode: Mode = Mode.SCORES

    @property
    def traits(self) -> ModeTraits:
        return TRAITS[self.mode]

    @property
    def names(self) -> tuple[str, str]:
        return (self.answers[0].name, self.answers[1].name)


@dataclass(frozen=True, slots=True)
class PlannedReview:
    """One request to the judge.

    Attributes:
        rule: name of the rule it is judged by.
        digest: content address; equal digests are the same review and are paid for once.
        lengths: of the answers shown, in that order, in characters.
    """

    question: Question
    order: Order
    rule: str
    request: ReviewRequest
    digest: str
    lengths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NotReviewable:
    """A question that can't be judged, found without asking."""

    question: Question
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The reviews, in question order then order, and the questions that get none."""

    reviews: tuple[PlannedReview, ...]
    not_reviewable: tuple[NotReviewable, ...] = field(default=())


def plan_reviews(
    comparison: Comparison, *, model: str, sampling: Sampling, both_orders: bool
) -> Plan:
    """Plan a comparison.

    Raises:
        ConfigError: a category has no rule, or both answer sets have one name.
    """
    _check(comparison)
    orders = comparison.traits.orders(both_orders)
    reviews: list[PlannedReview] = []
    not_reviewable: list[NotReviewable] = []
    for question in comparison.questions:
        obstacle = next(_obstacles(question, comparison), None)
        if obstacle is not None:
            not_reviewable.append(obstacle)
            continue
        for order in orders:
            reviews.append(_planned(question, order, comparison, model, sampling))
    return Plan(tuple(reviews), tuple(not_reviewable))


def review_digest(request: ReviewRequest) -> str:
    """Content address of a review: model, sampling, and the messages, which hold the rules, the
    question, the context and the answers."""
    content = orjson.dumps(request.to_json(), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(content).hexdigest()


def _check(comparison: Comparison) -> None:
    first, second = comparison.names
    if first == second:
        raise ConfigError(f"both answer sets are called {first!r}: give them different names")
    categories = {question.category for question in comparison.questions}
    without = sorted(c for c in categories if comparison.rules.find(c) is None)
    if without:
        raise ConfigError(f"the rule file has no rule for: {', '.join(without)} (and no default)")


def _obstacles(question: Question, comparison: Comparison) -> Iterator[NotReviewable]:
    for answers in comparison.answers:
        if question.key in answers.ambiguous:
            message = f"{answers.name} holds different answers to this question"
            yield NotReviewable(question, Reason.ANSWER_MISSING, message)
        elif question.key not in answers.texts:
            message = f"{answers.name} has no answer to this question"
            yield NotReviewable(question, Reason.ANSWER_MISSING, message)
    if comparison.contexts is not None and comparison.contexts.find(question) is None:
        message = f"the context file has no caption for {question.media or 'this question'}"
        yield NotReviewable(question, Reason.CONTEXT_MISSING, message)


def _planned(
    question: Question, order: Order, comparison: Comparison, model: str, sampling: Sampling
) -> PlannedReview:
    rule = comparison.rules.find(question.category)
    if rule is None:  # _check has seen to it
        raise ConfigError(f"the rule file has no rule for {question.category}")
    texts = [answers.texts[question.key] for answers in comparison.answers]
    shown = [texts[side] for side in order.sides]
    messages = build_messages(
        rule=rule,
        question=question.text,
        answers=shown,
        labels=comparison.traits.labels,
        context=None if comparison.contexts is None else comparison.contexts.find(question),
        reference=texts[0] if comparison.mode is Mode.REFERENCE else None,
    )
    request = ReviewRequest(model, messages, sampling, comparison.mode)
    lengths = tuple(map(len, shown))
    return PlannedReview(question, order, rule.name, request, review_digest(request), lengths)
