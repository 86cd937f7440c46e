"""A run's questions as the page's own program (templates/report.js) takes them. Pure.

One object per question, with short keys because there may be ten thousand:

    id, c (category), m (media), q (question)
    a   answers: [name, side, text or null, mean score or null], side 2 is the run's own
    v   verdicts: {o: order, f: shown first, s: [[side, score], …], w: words, x: failure}
    o   outcome of the run's own answer: "better", "equal", "worse" or null
    d   1 if the orders disagree
    g   own score less the reference's, null without both
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from judge.jsonl import id_key
from judge.report.views import Record
from judge.scores import preference
from neva.answer_record import answer_of, media_of, question_of
from neva.pages import visible

_ORDERS = {
    "as_given": "as given",
    "swapped": "swapped",
    "first_alone": "alone",
    "second_alone": "alone",
}
_OUTCOMES = {1: "better", 0: "equal", -1: "worse"}
_OWN, _OTHER = 2, 1


def build_rows(
    outputs: Iterable[Record], reviews: Iterable[Record], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows in the order of the outputs, then what was only reviewed.

    Args:
        names: of the answer sets that the run's headline compares; the second is its own.
    """
    reviews_of: dict[str, list[Record]] = {}
    for review in reviews:
        reviews_of.setdefault(id_key(review["question_id"]) or "", []).append(review)
    rows = [
        _row(output, reviews_of.pop(id_key(output.get("question_id")) or "", []), names)
        for output in outputs
    ]
    rows.extend(_row(left[0], left, names) for left in reviews_of.values())
    return rows


def question_text(record: Record) -> str | None:
    text = question_of(record)
    return None if text is None else visible(text)


def _row(record: Record, reviews: list[Record], names: Sequence[str]) -> dict[str, Any]:
    texts: dict[str, Any] = {}
    scores: dict[str, list[float]] = {}
    for review in reviews:
        texts.update(review["answers"])
        for name, score in (review["scores"] or {}).items():
            scores.setdefault(name, []).append(score)
    if not texts:
        texts = {"answer": answer_of(record)}
    own = names[1] if len(names) > 1 else "answer"
    means = {name: sum(given) / len(given) for name, given in scores.items()}
    compared = [means.get(name) for name in names]
    both = (compared[0], compared[1]) if len(compared) == 2 else (None, None)
    outcome = gap = None
    if both[0] is not None and both[1] is not None:
        outcome = _OUTCOMES[preference((both[0], both[1]))]
        gap = round(both[1] - both[0], 4)
    media = media_of(record)
    category = record.get("category")
    return {
        "id": visible(record.get("question_id")),
        "c": None if category is None else visible(category),
        "m": None if media is None else visible(media),
        "q": question_text(record) or "",
        "a": [
            [
                visible(name),
                _OWN if name == own else _OTHER,
                None if text is None else visible(text),
                means.get(name),
            ]
            for name, text in texts.items()
        ],
        "v": [_verdict(review, own) for review in reviews],
        "o": outcome,
        "d": int(_disagree(reviews, names)),
        "g": gap,
    }


def _disagree(reviews: Iterable[Record], names: Sequence[str]) -> bool:
    if len(names) < 2:
        return False
    pairs = [r["scores"] for r in reviews if r["scores"] and set(r["answers"]) == set(names)]
    first, second = names[0], names[1]
    found = {preference((s[first], s[second])) for s in pairs if first in s and second in s}
    return len(found) > 1


def _verdict(review: Record, own: str) -> dict[str, Any]:
    given: Mapping[str, float] | None = review["scores"]
    words = (review.get("content") or "").strip()
    if given is not None and not words.startswith("{"):
        words = words.partition("\n")[2].strip()  # the first line is the scores
    failure = None if given is not None else f"{review['message']} ({review['reason']})"
    return {
        "o": _ORDERS.get(str(review["order"]), "not asked"),
        "f": visible((review.get("shown") or [""])[0]),
        "s": [
            [_OWN if name == own else _OTHER, given[name]]
            for name in review["answers"]
            if given is not None and name in given
        ],
        "w": visible(words),
        "x": None if failure is None else visible(failure),
    }
