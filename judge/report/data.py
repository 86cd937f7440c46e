"""What a report shows, read from a run's files into plain views. No HTML here.

Every number is taken from summary.json and scores.json as it stands there; where the lines of a
file don't add up to it, the report says so (`Report.warnings`) and corrects nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from judge.answers import answer_text
from judge.jsonl import id_key, media_key
from judge.report.views import (
    AnswerView,
    ClipView,
    ErrorView,
    Record,
    Report,
    RowView,
    VerdictView,
    visible,
)
from judge.run import REVIEWS
from judge.scores import preference
from neva.errors import ConfigError
from neva.ledger import layout
from neva.store.base import Store

_JPEG = b"\xff\xd8\xff"
_ORDERS = {
    "as_given": "as given",
    "swapped": "swapped",
    "first_alone": "alone",
    "second_alone": "alone",
}
_OUTCOMES = {1: "better", 0: "equal", -1: "worse"}


def load_report(store: Store, name: str | None = None) -> Report:
    """Read the run under `store`.

    Args:
        name: the title; by default the job's name, else the last part of the output's URI.

    Raises:
        ConfigError: there is neither a finished run nor a review here, or a file is damaged.
    """
    summary = _json(store, layout.SUMMARY)
    scores = _json(store, layout.SCORES)
    outputs, errors = _lines(store, layout.OUTPUTS), _lines(store, layout.ERRORS)
    # Reviews without scores are the remains of a run that is being judged again.
    reviews = _lines(store, REVIEWS) if scores is not None else None
    if scores is not None and reviews is not None:
        reviews = [r for r in reviews if set(r["answers"]) == set(scores["answers"])]
    if summary is None and outputs is None and reviews is None:
        raise ConfigError(f"{store.base_uri}: no finished run and no reviews here")
    warnings = _disagreements(summary, outputs, errors)
    return Report(
        name=visible(name or _name(store, summary or {})),
        state=str(
            (summary or {}).get("state", "Judged only" if outputs is None else "Not finished")
        ),
        model_id=_known(summary, "model_id"),
        model_digest=_known(summary, "model_digest"),
        stages_s=(summary or {}).get("stages_s") or {},
        counts=tuple(_counts(summary, scores, outputs, errors)),
        scores=scores,
        errors=_grouped(errors or ()),
        judge_errors=_grouped_reviews(reviews or ()),
        clips=_clips(store, outputs or (), reviews or (), scores),
        warnings=tuple(warnings),
    )


def _json(store: Store, key: str) -> dict[str, Any] | None:
    data = store.get_or_none(key)
    if data is None:
        return None
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{store.uri_of(key)} is damaged: {error}") from error
    if not isinstance(record, dict):
        raise ConfigError(f"{store.uri_of(key)} is damaged: no object")
    return record


def _lines(store: Store, key: str) -> list[dict[str, Any]] | None:
    data = store.get_or_none(key)
    if data is None:
        return None
    try:
        return [orjson.loads(line) for line in data.splitlines() if line]
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{store.uri_of(key)} is damaged: {error}") from error


def _name(store: Store, summary: Record) -> str:
    return str(summary.get("job") or store.base_uri.rstrip("/").rpartition("/")[2])


def _known(summary: Record | None, key: str) -> str | None:
    value = (summary or {}).get(key)
    return None if value is None else visible(value)


def _counts(
    summary: Record | None,
    scores: Record | None,
    outputs: list[Any] | None,
    errors: list[Any] | None,
) -> Iterable[tuple[str, int]]:
    if summary is not None:
        yield "prompts", summary["rows"]
        yield "answered", summary["answered"]
        yield "failed", summary["failed"]
    elif outputs is not None:
        yield "answered", len(outputs)
        yield "failed", len(errors or ())
    if scores is not None:
        yield "judged", scores["num_judged"]
        yield "without a verdict", scores["num_failed"]


def _disagreements(
    summary: Record | None, outputs: list[Any] | None, errors: list[Any] | None
) -> list[str]:
    if summary is None:
        return []
    files = ((layout.OUTPUTS, "answered", outputs), (layout.ERRORS, "failed", errors))
    return [
        f"summary.json says {summary[key]} {key}, {name} holds {len(lines or ())}"
        for name, key, lines in files
        if len(lines or ()) != summary[key]
    ]


def _grouped(errors: Iterable[Record]) -> dict[str, list[ErrorView]]:
    groups: dict[str, list[ErrorView]] = {}
    for error in errors:
        record = error.get("record") or {}
        where = f"line {error.get('line')}"
        if error.get("question_id") is not None:
            where += f", question {error['question_id']}"
        view = ErrorView(visible(where), visible(error.get("message")), _question_text(record))
        groups.setdefault(str(error.get("reason")), []).append(view)
    return dict(sorted(groups.items()))


def _grouped_reviews(reviews: Iterable[Record]) -> dict[str, list[ErrorView]]:
    """Questions without any verdict, by the reason of their first failed review, as in scores."""
    first_failures: dict[str, Record] = {}
    judged: set[str] = set()
    for review in reviews:
        key = id_key(review["question_id"]) or ""
        if review["scores"] is not None:
            judged.add(key)
        else:
            first_failures.setdefault(key, review)
    groups: dict[str, list[ErrorView]] = {}
    for key, review in first_failures.items():
        if key not in judged:
            where = visible(f"question {review['question_id']}")
            view = ErrorView(where, visible(review["message"]), visible(review["question"]))
            groups.setdefault(str(review["reason"]), []).append(view)
    return dict(sorted(groups.items()))


def _clips(
    store: Store, outputs: Iterable[Record], reviews: Iterable[Record], scores: Record | None
) -> tuple[ClipView, ...]:
    """One clip per media name, in the order in which the outputs name them."""
    names = [str(name) for name in scores["answers"]] if scores else []
    reviews_of: dict[str, list[Record]] = {}
    for review in reviews:
        reviews_of.setdefault(id_key(review["question_id"]) or "", []).append(review)
    clips: dict[str | None, ClipView] = {}

    def add(media: str | None, row: RowView) -> None:
        if media not in clips:
            clips[media] = ClipView(visible(media) if media else None, _frames(store, media))
        clips[media].rows.append(row)

    for output in outputs:
        key = id_key(output.get("question_id")) or ""
        add(_media(output), _row(output, reviews_of.pop(key, []), names))
    for left in reviews_of.values():
        add(left[0]["media"], _row(left[0], left, names))
    return tuple(clips.values())


def _row(record: Record, reviews: list[Record], names: list[str]) -> RowView:
    given = [review["scores"] for review in reviews if review["scores"] is not None]
    texts: Mapping[str, Any] = reviews[0]["answers"] if reviews else {}
    if not texts:
        names, texts = ["answer"], {"answer": answer_text(record)}
    means = [_mean([scores[name] for scores in given if name in scores]) for name in names]
    answers = tuple(
        AnswerView(visible(name), side, None if texts[name] is None else visible(texts[name]), mean)
        for side, (name, mean) in enumerate(zip(names, means, strict=True), start=3 - len(names))
    )
    outcome = None
    if given and means[0] is not None and means[1] is not None:
        outcome = _OUTCOMES[preference((means[0], means[1]))]
    pairs = [scores for scores in given if len(scores) == 2]
    preferred = {preference((scores[names[0]], scores[names[1]])) for scores in pairs}
    question = _question_text(record) or visible(reviews[0]["question"] if reviews else "")
    category = record.get("category")
    return RowView(
        question_id=visible(record.get("question_id")),
        category=visible(category) if category is not None else None,
        question=question,
        answers=answers,
        verdicts=tuple(_verdict(review, names) for review in reviews),
        outcome=outcome,
        orders_disagree=len(preferred) > 1,
    )


def _mean(scores: list[float]) -> float | None:
    return sum(scores) / len(scores) if scores else None


def _verdict(review: Record, names: list[str]) -> VerdictView:
    scores, words = review["scores"], (review.get("content") or "").strip()
    if scores is not None:
        words = words.partition("\n")[2].strip()  # the first line is the scores
    failure = None if scores is not None else f"{review['message']} ({review['reason']})"
    return VerdictView(
        order=_ORDERS.get(str(review["order"]), "not asked"),
        shown_first=visible((review.get("shown") or [""])[0]),
        scores=None if scores is None else (scores.get(names[0]), scores.get(names[1])),
        words=visible(words),
        failure=None if failure is None else visible(failure),
    )


def _frames(store: Store, media: str | None) -> str | None:
    data = store.get_or_none(layout.frames(media_key(media))) if media else None
    if data is None or not data.startswith(_JPEG):
        return None
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def _media(record: Record) -> str | None:
    return next((record[k] for k in ("video", "image") if isinstance(record.get(k), str)), None)


def _question_text(record: Record) -> str | None:
    text = next((record[k] for k in ("question", "prompt", "text") if record.get(k)), None)
    return None if text is None else visible(text)
