"""Judges comparisons: plan, ask, score, write. The library behind every command.

Writes under the output store:
    judge/parts/NNNN.jsonl   replies as they come (`judge.replies`)
    judge/reviews.jsonl      every review, in question order
    judge/scores.json        the figures
A run that is killed is run again and goes on. The last two files are functions of the inputs and
the judge's words alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import orjson

from judge.answers import AnswerSet
from judge.asking import Limits, Progress, ask_all
from judge.client import Connection, JudgeClient
from judge.completion import Reply
from judge.jsonl import Problem
from judge.parse import Verdict, parse_verdict
from judge.plan import Comparison, Plan, PlannedReview, plan_reviews
from judge.replies import ReplyLog
from judge.request import Sampling
from judge.reviews import REVIEWS, QuestionResult, collect, review_records
from judge.scores import Scores, summarize
from neva.ledger import layout
from neva.metrics import of_pods
from neva.metrics.counting import count
from neva.store.base import Store


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """Who judges, and how.

    Attributes:
        endpoint: recorded with the scores, without user names or query.
        connection: how the endpoint is spoken to.
        limits: how hard and how long the endpoint may be asked.
        retry_failed: ask again where the judge's reply held no verdict. What never got a reply is
            asked again in any case.
    """

    model: str
    endpoint: str
    sampling: Sampling = field(default_factory=Sampling)
    both_orders: bool = True
    connection: Connection = field(default_factory=Connection)
    limits: Limits = field(default_factory=Limits)
    retry_failed: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """Finished comparisons.

    Attributes:
        scores: of the first comparison.
        record: what judge/scores.json holds.
    """

    scores: Scores
    record: dict[str, Any]


def run_judge(
    comparisons: Sequence[Comparison],
    settings: JudgeSettings,
    *,
    client: JudgeClient,
    store: Store,
    problems: Sequence[Problem] = (),
    progress: Progress | None = None,
) -> Judged:
    """Have `comparisons` judged and write their reviews and scores under `store`.

    scores.json is the first one's, and has the others under `others`.

    Args:
        problems: unusable lines of the question and context files, to be reported with the scores.

    Raises:
        ConfigError: a category without a rule, or two answer sets of one name.
        JudgeStopped: wrong key, model or endpoint; replies had until then are kept.
        StoreError: the output can't be written.
    """
    plans = [
        plan_reviews(
            comparison,
            model=settings.model,
            sampling=settings.sampling,
            both_orders=settings.both_orders,
        )
        for comparison in comparisons
    ]
    log = ReplyLog(store)
    held = _Held(log.load(), comparisons, plans, retry_failed=settings.retry_failed)
    replies = ask_all(
        held.to_ask,
        known=held.known,
        client=client,
        log=log,
        limits=settings.limits,
        progress=progress,
    )
    records: list[dict[str, Any]] = []
    lines: list[bytes] = []
    scores: list[Scores] = []
    for comparison, plan in zip(comparisons, plans, strict=True):
        results = collect(comparison, plan, replies)
        _count_failures(results)
        scores.append(summarize(results, comparison.mode))
        records.append(_record(comparison, settings, results, scores[-1], problems))
        lines.extend(orjson.dumps(line) + b"\n" for line in review_records(comparison, results))
    record = {**records[0], "others": records[1:]}
    store.put(REVIEWS, b"".join(lines))
    store.put(layout.SCORES, orjson.dumps(record, option=orjson.OPT_INDENT_2) + b"\n")
    return Judged(scores[0], record)


def _count_failures(results: Iterable[QuestionResult]) -> None:
    """Those that were no request's: nothing could be asked, or the reply held no verdict."""
    for result in results:
        if result.obstacle is not None:
            count(of_pods.JUDGE_FAILED, result.obstacle.reason)
        for review in result.reviews:
            if review.reply is not None and review.failure is not None:
                count(of_pods.JUDGE_FAILED, review.failure.reason)


class _Held:
    """The replies of earlier runs, and what they leave to ask.

    Attributes:
        known: reply by digest; of several the first with a verdict, else the last.
        to_ask: every planned review. One that is asked again gets another seed: the same one might
            well bring the same words.
    """

    def __init__(
        self,
        replies: Iterable[tuple[str, Reply]],
        comparisons: Sequence[Comparison],
        plans: Sequence[Plan],
        *,
        retry_failed: bool,
    ) -> None:
        modes = {
            review.digest: comparison.mode
            for comparison, plan in zip(comparisons, plans, strict=True)
            for review in plan.reviews
        }
        good: dict[str, Reply] = {}
        bad: dict[str, list[Reply]] = {}
        for digest, reply in replies:
            mode = modes.get(digest)
            if mode is None:
                continue
            if isinstance(parse_verdict(reply.content, mode), Verdict):
                good.setdefault(digest, reply)
            else:
                bad.setdefault(digest, []).append(reply)
        failed = {} if retry_failed else {digest: tries[-1] for digest, tries in bad.items()}
        self.known: dict[str, Reply] = {**failed, **good}
        self.to_ask = [
            _with_seed(review, len(bad.get(review.digest, ())))
            for plan in plans
            for review in plan.reviews
        ]


def _with_seed(review: PlannedReview, num_tries: int) -> PlannedReview:
    if not num_tries:
        return review
    sampling = review.request.sampling
    sampling = replace(sampling, seed=sampling.seed + num_tries)
    return replace(review, request=replace(review.request, sampling=sampling))


def is_stand_in(*models: str | None) -> bool:
    """Whether a judge says by its name that it is no real one."""
    return any("stand-in" in (model or "").casefold() for model in models)


def _record(
    comparison: Comparison,
    settings: JudgeSettings,
    results: Sequence[QuestionResult],
    scores: Scores,
    problems: Sequence[Problem],
) -> dict[str, Any]:
    reviews = [review for result in results for review in result.reviews]
    # By digest: questions that are the same in every respect share one reply.
    replies = {r.planned.digest: r.reply for r in reviews if r.reply is not None}.values()
    served = sorted({reply.served_model for reply in replies if reply.served_model})
    return {
        "judge": {
            "model": settings.model,
            "served_models": served,
            "endpoint": _public(settings.endpoint),
            "stand_in": is_stand_in(settings.model, *served),
            "sampling": asdict(settings.sampling),
            "both_orders": settings.both_orders,
            "rules_digest": comparison.rules.digest,
        },
        "mode": str(comparison.mode),
        "unit": comparison.traits.unit,
        "model": settings.model,
        "answers": list(comparison.names),
        **scores.to_json(),
        "num_reviews": len(reviews),
        "num_reviews_failed": sum(review.scores is None for review in reviews),
        "num_prompt_tokens": sum(reply.num_prompt_tokens or 0 for reply in replies),
        "num_completion_tokens": sum(reply.num_completion_tokens or 0 for reply in replies),
        "cost": _cost(settings, replies),
        "unmatched": _unmatched(comparison),
        "problems": [
            problem.to_json()
            for source in (problems, *(answers.problems for answers in comparison.answers))
            for problem in source
        ],
    }


def _cost(settings: JudgeSettings, replies: Collection[Reply]) -> float | None:
    """What the replies cost by the budget's prices; None without prices."""
    budget = settings.limits.budget
    if not budget.prompt_price and not budget.completion_price:
        return None
    return round(
        sum(
            budget.price(reply.num_prompt_tokens or 0, reply.num_completion_tokens or 0)
            for reply in replies
        ),
        6,
    )


def _unmatched(comparison: Comparison) -> dict[str, Any]:
    """Ids without a partner in the other files. Nothing is ever paired by position instead."""
    keys = [question.key for question in comparison.questions]
    contexts = comparison.contexts

    def of(answers: AnswerSet) -> dict[str, list[str]]:
        return {
            "questions_without_answer": [key for key in keys if key not in answers.texts],
            "answers_without_question": sorted(set(answers.texts) - set(keys)),
        }

    return {
        "answers": {answers.name: of(answers) for answers in comparison.answers},
        "questions_without_context": [
            question.key
            for question in comparison.questions
            if contexts is not None and contexts.find(question) is None
        ],
        "contexts_without_question": []
        if contexts is None
        else contexts.left_over(comparison.questions),
    }


def _public(endpoint: str) -> str:
    """An endpoint's URL without what may be secret in it: user, password, query."""
    parts = urlsplit(endpoint)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
