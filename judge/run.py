"""Judges one comparison: plan, ask, score, write. The library behind every command.

Writes under the output store:
    judge/parts/NNNN.jsonl   replies as they come (`judge.replies`)
    judge/reviews.jsonl      every review, in question order
    judge/scores.json        the figures
A run that is killed is run again and goes on. The last two files are functions of the inputs and
the judge's words alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import orjson

from judge.answers import AnswerSet
from judge.asking import Progress, ask_all
from judge.client import JudgeClient, Reply, Sampling
from judge.jsonl import Problem
from judge.parse import Verdict, parse_verdict
from judge.plan import Comparison, plan_reviews
from judge.replies import ReplyLog
from judge.reviews import QuestionResult, collect, review_records
from judge.scores import Scores, summarize
from neva.ledger import layout
from neva.store.base import Store

REVIEWS = "judge/reviews.jsonl"


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """Who judges, and how.

    Attributes:
        endpoint: recorded with the scores, without user names or query; the client has its own.
        concurrency: most requests at a time.
    """

    model: str
    endpoint: str
    sampling: Sampling = field(default_factory=Sampling)
    both_orders: bool = True
    concurrency: int = 8


@dataclass(frozen=True, slots=True)
class Judged:
    """A finished comparison.

    Attributes:
        record: what judge/scores.json holds.
    """

    scores: Scores
    results: tuple[QuestionResult, ...]
    record: dict[str, Any]


def run_judge(
    comparison: Comparison,
    settings: JudgeSettings,
    *,
    client: JudgeClient,
    store: Store,
    problems: Sequence[Problem] = (),
    progress: Progress | None = None,
) -> Judged:
    """Have `comparison` judged and write its reviews and scores under `store`.

    Args:
        problems: unusable lines of the question and context files, to be reported with the scores.

    Raises:
        ConfigError: a category without a rule, or two answer sets of one name.
        JudgeStopped: wrong key, model or endpoint; replies had until then are kept.
        StoreError: the output can't be written.
    """
    plan = plan_reviews(
        comparison,
        model=settings.model,
        sampling=settings.sampling,
        both_orders=settings.both_orders,
    )
    log = ReplyLog(store)
    replies = ask_all(
        plan.reviews,
        known=_with_verdict(log.load()),
        client=client,
        log=log,
        concurrency=settings.concurrency,
        progress=progress,
    )
    results = collect(comparison, plan, replies)
    scores = summarize(results)
    record = _record(comparison, settings, results, scores, problems)
    lines = (orjson.dumps(line) + b"\n" for line in review_records(comparison, results))
    store.put(REVIEWS, b"".join(lines))
    store.put(layout.SCORES, orjson.dumps(record, option=orjson.OPT_INDENT_2) + b"\n")
    return Judged(scores, results, record)


def is_stand_in(*models: str | None) -> bool:
    """Whether a judge says by its name that it is no real one."""
    return any("stand-in" in (model or "").casefold() for model in models)


def _with_verdict(replies: Iterable[tuple[str, Reply]]) -> dict[str, Reply]:
    """Replies worth keeping: one that holds no verdict is asked for again by the next run."""
    known: dict[str, Reply] = {}
    for digest, reply in replies:
        if isinstance(parse_verdict(reply.content), Verdict):
            known.setdefault(digest, reply)
    return known


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
        "model": settings.model,
        "answers": list(comparison.names),
        **scores.to_json(),
        "num_reviews": len(reviews),
        "num_reviews_failed": sum(review.scores is None for review in reviews),
        "num_prompt_tokens": sum(reply.num_prompt_tokens or 0 for reply in replies),
        "num_completion_tokens": sum(reply.num_completion_tokens or 0 for reply in replies),
        "unmatched": _unmatched(comparison),
        "problems": [
            problem.to_json()
            for source in (problems, *(answers.problems for answers in comparison.answers))
            for problem in source
        ],
    }


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
    }


def _public(endpoint: str) -> str:
    """An endpoint's URL without what may be secret in it: user, password, query."""
    parts = urlsplit(endpoint)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
